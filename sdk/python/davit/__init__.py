# SPDX-License-Identifier: MIT
"""Containers of davit in Python: a process that is a member of the tree, supervised and messaged like the others.

    import davit

    class Hello(davit.Container):
        async def behave(self, message):
            return "%s greets %s" % (self.alias, message.text)

    davit.run(Hello)
"""
from .channel import run
from .container import Container, Message, Refusal, command
from .frames import Error

__all__ = ["Container", "Error", "Message", "Refusal", "command", "run"]
__version__ = "0.1.0"
