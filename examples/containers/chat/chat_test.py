#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Talks to the chat server as browsers do: chat_test.py PROGRAM. Prints TAP."""
import asyncio
import subprocess
import sys
import urllib.request

import websockets

DEADLINE = 20


class Client:
    async def __aenter__(self):
        self.ws = await websockets.connect(self.url, max_queue=None)
        return self

    async def __aexit__(self, *_):
        await self.ws.close()

    def __init__(self, url):
        self.url = url

    async def say(self, *lines):
        for line in lines:
            await self.ws.send(line)

    async def hear_one(self):
        return await asyncio.wait_for(self.ws.recv(), DEADLINE)

    async def hear(self, line):
        """Waits for this line; returns those before it."""
        before = []
        while (got := await self.hear_one()) != line:
            before.append(got)
        return before

    async def named(self, name):
        await self.say("/name " + name)
        await self.hear("* %s is here" % name)
        return self


async def the_page_is_served(url):
    page = urllib.request.urlopen(url.replace("ws:", "http:"), timeout=DEADLINE).read()
    assert b"new WebSocket" in page


async def lines_arrive_in_the_order_in_which_they_were_said(url):
    async with Client(url) as ann, Client(url) as bob:
        await ann.named("ann")
        await bob.named("bob")
        await ann.hear("* bob is here")
        await ann.say(*("line %d" % i for i in range(200)))
        assert await bob.hear("ann: line 199") == ["ann: line %d" % i for i in range(199)]


async def a_room_hears_what_is_said_in_it_and_nothing_else(url):
    async with Client(url) as ann, Client(url) as bob:
        await ann.named("ann")
        await bob.named("bob")
        await bob.say("/room garden")
        await bob.hear("* bob is here")
        await ann.hear("* bob has gone")
        await ann.say("secret")
        await ann.hear("ann: secret")
        await bob.say("hello?")
        assert await bob.hear("bob: hello?") == []


async def who_comes_later_is_shown_what_was_said(url):
    async with Client(url) as ann:
        await ann.say("/room past")
        await ann.named("ann")
        await ann.say("first")
        await ann.hear("ann: first")
        async with Client(url) as bob:
            await bob.say("/room past")
            await bob.hear("ann: first")


async def a_name_is_taken_once(url):
    async with Client(url) as ann, Client(url) as bob:
        await ann.named("ann")
        await bob.say("/name ann")
        await bob.hear("! there is a ann in here")
        await bob.say("am I here?")
        await bob.hear("! you are in no room, or not yet")
        await bob.named("bob")


async def a_room_that_fails_comes_back_with_all_who_were_in_it(url):
    async with Client(url) as ann, Client(url) as bob, Client(url) as eve:
        await ann.named("ann")
        await bob.named("bob")
        await eve.named("eve")
        for client in (ann, bob):
            await client.hear("* eve is here")
        for i in range(20):
            await eve.say("/crash")
            await ann.say("once %d" % i)  # before it fails, or after
            for client in (ann, bob, eve):
                heard = {await client.hear_one() for _ in range(2)}
                assert heard == {"* the room is open", "ann: once %d" % i}, heard


async def who_goes_without_a_word_is_missed(url):
    async with Client(url) as ann:
        await ann.named("ann")
        bob = await Client(url).__aenter__()
        await bob.named("bob")
        await ann.hear("* bob is here")
        bob.ws.transport.abort()
        await ann.hear("* bob has gone")


async def what_is_no_line_closes_the_connection(url):
    for hostile, code in ((b"binary", 1003), ("x" * 5000, 1009)):
        async with Client(url) as mallory:
            await mallory.ws.send(hostile)
            try:
                while True:
                    await asyncio.wait_for(mallory.ws.recv(), DEADLINE)
            except websockets.ConnectionClosed as e:
                assert e.code == code, e.code


async def who_does_not_listen_is_let_go(url):
    async with Client(url) as ann:
        await ann.named("ann")
        deaf = await websockets.connect(url, max_queue=1)
        await deaf.send("/name deaf")
        await ann.hear("* deaf is here")
        for _ in range(100):  # till what the kernel keeps for it is full as well
            await ann.say(*("x" * 4000 for _ in range(100)), "/name ann")
            if "* deaf has gone" in await ann.hear("* ann is here"):
                break
        else:
            raise AssertionError("it is still here")
        deaf.transport.abort()


async def many_come_and_go(url):
    async def one(i):
        async with Client(url) as c:
            await c.say("/room crowd-%d" % (i % 3))
            await c.named("n%d" % i)
            await c.say("hi")
            await c.hear("n%d: hi" % i)
    for _ in range(3):
        await asyncio.gather(*(one(i) for i in range(30)))


TESTS = (the_page_is_served, lines_arrive_in_the_order_in_which_they_were_said,
         a_room_hears_what_is_said_in_it_and_nothing_else, who_comes_later_is_shown_what_was_said,
         a_name_is_taken_once, a_room_that_fails_comes_back_with_all_who_were_in_it,
         who_goes_without_a_word_is_missed, what_is_no_line_closes_the_connection, who_does_not_listen_is_let_go, many_come_and_go)


def run(test):
    """Each on a server of its own. None, or what is wrong."""
    server = subprocess.Popen([sys.argv[1], "0"], stdout=subprocess.PIPE, text=True)
    try:
        asyncio.run(test(server.stdout.readline().strip().replace("http:", "ws:")))
        wrong = None
    except Exception as e:  # whatever it is, the next test is run
        wrong = "%s: %s" % (type(e).__name__, e)
    server.terminate()
    status = server.wait(DEADLINE)
    return wrong or ("the server ended with %d" % status if status else None)


def main():
    failed = 0
    print("1..%d" % len(TESTS))
    for i, test in enumerate(TESTS, 1):
        if wrong := run(test):
            failed += 1
            print("#", wrong)
        print("%s %d %s" % ("not ok" if wrong else "ok", i, test.__name__.replace("_", " ")), flush=True)
    return 1 if failed else 0


sys.exit(main())
