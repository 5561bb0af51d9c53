#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Knows what things cost."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../../sdk/python"))
import davit  # noqa: E402  (once it is installed, this line is enough)


class Prices(davit.Container):
    def boot(self):
        self.prices = {"apple": 30, "pear": 45, "melon": 290}

    async def behave(self, message):
        if message.text not in self.prices:
            raise davit.Refusal("not-found", "there are no %ss" % message.text)
        return {"item": message.text, "cents": self.prices[message.text]}

    @davit.command
    def pid(self, message):
        return os.getpid()


davit.run(Prices)
