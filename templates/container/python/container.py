#!/usr/bin/env python3
"""@NAME@: a container for davit."""
import davit


class Container(davit.Container):
    options = {"restart": "always"}

    def construct(self):
        """Makes the state; a restart does it again."""
        self.requests = 0

    async def behave(self, message):
        """One message at a time; what is returned is the answer. An exception fails the container."""
        self.requests += 1
        return "%s: request %d was '%s'" % (self.alias, self.requests, message.text)

    @davit.command
    def add(self, message):
        """davit command a add '[1, 2]'"""
        return sum(message.parameters or [])


if __name__ == "__main__":
    davit.run(Container)
