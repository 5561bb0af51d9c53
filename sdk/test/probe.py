#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The container of the tests: does what it is told. probe.mjs is the same."""
import asyncio
import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../python"))
import davit  # noqa: E402
from davit.supervise import delay  # noqa: E402


class Probe(davit.Container):
    options = {"restart": "always", "limit": 100}
    boots = 0

    def trace(self, text):
        if self.args == "trace":
            self.log(text)

    def config(self):
        if self.args == "never":
            self.options["restart"] = "never"
        self.options["retries"] = 3
        if self.args.startswith("{"):
            self.options = json.loads(self.args)
        self.trace("config")
        if self.args == "bad config":
            raise davit.Error("no-space", "there is no room")

    async def boot(self):
        self.boots += 1
        self.trace("boot")

    def construct(self):
        self.counter = 0
        self.kept = None
        self.trace("construct")
        if self.args == "bad restart" and self.state == "failed":
            raise davit.Error("io", "still broken")

    def hook(self, operation, phase):
        self.trace("%s %s" % (phase, operation))
        if self.args == "bad hook" and operation == "stop":
            raise davit.Error("io", "hook")

    def gone(self, alias, error):
        self.log("gone %s %s" % (alias, error.code + " " + str(error) if error else "well"))

    @davit.command
    def add(self, message):
        return sum(message.parameters or [])

    async def other(self, message):
        if message.text == "unbecome":
            self.unbecome()
            return "as before"
        return "other " + message.text

    async def behave(self, message):
        word, _, rest = message.text.partition(" ")
        return await getattr(self, "do_" + word.replace("-", "_"))(message, rest)

    async def do_echo(self, message, rest):
        return rest

    async def do_who(self, message, rest):
        return {"alias": self.alias, "name": self.name, "path": self.path, "parent": self.parent, "args": self.args,
                "state": self.state, "sender": message.sender, "type": message.type}

    async def do_bytes(self, message, rest):
        return b"x" * int(rest)

    async def do_length(self, message, rest):
        return str(len(rest))

    async def do_nothing(self, message, rest):
        return None

    async def do_count(self, message, rest):
        self.counter += 1
        return "%d %d" % (self.boots, self.counter)

    async def do_log(self, message, rest):
        self.log(rest)

    async def do_fail(self, message, rest):
        raise davit.Error("io", rest)

    async def do_throw(self, message, rest):
        return {}["missing"]

    async def do_refuse(self, message, rest):
        raise davit.Refusal("quota", rest)

    async def do_later(self, message, rest):
        message.later()
        self.kept = message

    async def do_now(self, message, rest):
        self.kept.progress()
        self.kept.reply(rest)
        self.kept.reply("twice")

    async def do_become(self, message, rest):
        self.become(self.other)

    async def do_send(self, message, rest):
        to, _, text = rest.partition(" ")
        await self.send(to, text, type=7, keep=True)

    async def do_ask(self, message, rest):
        to, _, text = rest.partition(" ")
        try:
            return "got " + (await self.request(to, text, type=8, timeout=0.3)).text
        except davit.Error as e:
            return "%s: %s" % (e.code, e)

    async def do_order(self, message, rest):
        to, _, text = rest.partition(" ")
        return "got %s" % (await self.command(to, "add", [1, int(text)])).json()

    async def do_pid(self, message, rest):
        return os.getpid()

    async def do_pass(self, message, rest):
        await self.send("sink", rest, type=7)

    async def do_raise(self, message, rest):
        """A child, by all that can be done to it."""
        await self.create("child", name=rest)
        await self.watch("child")
        before = await self.get("child")
        answer = (await self.request("child", "hello")).text
        await self.broadcast("hello all", type=9)
        await self.fail("child", "io", "on purpose")
        while (await self.get("child"))["restarts"] == 0:
            await asyncio.sleep(0.01)
        await self.stop("child")
        stopped = await self.get("child")
        await self.destroy("child", force="both")
        return "%s in %s is %s, says %s, is %s, %s" % (
            before["alias"], before["parent"], before["state"], answer, stopped["state"],
            "is there" if await self.exists("child") else "is gone")

    async def do_delay(self, message, rest):
        return [round(delay(*case), 3) for case in json.loads(rest)]

    async def do_sleep(self, message, rest):
        await asyncio.sleep(3600)

    async def do_work(self, message, rest):
        async def work():
            await asyncio.sleep(0.01)
            raise davit.Error("io", rest)
        self.spawn(work())

    async def do_idle(self, message, rest):
        async def idle():
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                self.log("cut off")
                raise
        self.spawn(idle())
        await asyncio.sleep(0)

    async def do_inside(self, message, rest):
        alias, _, args = rest.partition(" ")
        await self.create(alias, type=type(self), args=args)

    async def do_inside_other(self, message, rest):
        try:
            await self.create(rest, type=Other)
        except davit.Error as e:
            return "%s: %s" % (e.code, e)

    async def do_child(self, message, rest):
        verb, alias = rest.split(" ")
        try:
            await getattr(self, verb)(alias, **({"force": "both"} if verb == "destroy" else {}))
        except davit.Error as e:
            return "%s: %s" % (e.code, e)

    async def do_await(self, message, rest):
        await message.until_canceled()
        message.reply("in vain")
        self.log("nobody waits")

    async def do_manage(self, message, rest):
        try:
            if rest == "create":
                await self.create("B", command=["prog", "x"], args="a")
            elif rest == "destroy":
                await self.destroy("B", force="soft")
            elif rest == "watch":
                await self.watch("B")
            elif rest == "exists":
                return await self.exists("B")
            elif rest == "broadcast":
                return await self.broadcast("all", type=9)
            else:
                return await self.get("B")
        except davit.Error as e:
            return "%s: %s" % (e.code, e)


class Other(davit.Container):
    """Of another class than the rest."""


davit.run(Probe)
