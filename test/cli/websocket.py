#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""An independent WebSocket client: websocket.py SOCKET PATH [STEP...]
Steps: send:TEXT (bytes), text:JSON, wait:TEXT (until it has come), size:N (bytes to come),
end (until closed), sleep:SECONDS. Prints what came as text messages, then output and close code."""
import asyncio
import sys

import websockets


async def main(socket, path, steps):
    out, code = b"", None
    async with websockets.unix_connect(socket, "ws://davit" + path, max_size=None) as ws:
        async def more():
            nonlocal out
            m = await asyncio.wait_for(ws.recv(), 10)
            if isinstance(m, str):
                print(m, flush=True)
            else:
                out += m
        try:
            await more()
            for step in steps:
                what, _, value = step.partition(":")
                value = value.encode().decode("unicode_escape")
                if what == "send":
                    await ws.send(value.encode())
                elif what == "text":
                    await ws.send(value)
                elif what == "sleep":
                    await asyncio.sleep(float(value))
                else:
                    while not (what == "wait" and value.encode() in out) and not (
                            what == "size" and len(out) >= int(value)):
                        await more()
        except websockets.ConnectionClosed as e:
            code = e.code
    print("output %d %s" % (len(out), out[-300:].decode(errors="replace").replace("\r\n", "|")))
    print("code", code)


asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3:]))
