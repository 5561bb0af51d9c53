# SPDX-License-Identifier: MIT
"""A parent as a script: starts a program on a channel, says what is scripted, checks every frame that comes.
It shares no code with the modules that it tests."""
import json
import os
import select
import signal
import socket
import struct
import subprocess
import threading
import time

DEADLINE = 20
KINDS = ("", "HELLO", "WELCOME", "OPERATE", "STATE", "PING", "PONG", "ACK", "MESSAGE", "REQUEST", "REPLY", "REFUSE",
         "PROGRESS", "CANCEL", "MANAGE", "RESULT", "GONE", "ANNOUNCE", "LOG", "BELL")
IN_JSON = ("WELCOME", "STATE", "MANAGE", "ANNOUNCE")


def pack(kind, payload=b"", id=0, type=0, time=0, sender=b"", to=b"", flags=0, size=None):
    body = sender + to + payload
    return struct.pack("<IBBBBQII", len(body) if size is None else size,
                       KINDS.index(kind) if isinstance(kind, str) else kind, flags, len(sender), len(to), id, type,
                       time) + body


class Peer:
    def __init__(self, program, args="", keepalive=0, limit=1 << 20, greet=True):
        self.sock, theirs = socket.socketpair()
        self.sock.settimeout(DEADLINE)
        self.process = subprocess.Popen(program, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL,
                                        stderr=subprocess.PIPE, text=True,
                                        env={**os.environ, "DAVIT_CHANNEL": str(theirs.fileno())})
        theirs.close()
        self.rest = b""
        if greet:
            self.put("HELLO", {"protocol": 1, "alias": "H1", "name": "Probe", "path": "Main/H1", "parent": "Main",
                               "args": args, "heartbeat": 250, "keepalive": keepalive, "window": 1024,
                               "limit": limit, "of a later version": [1]})
            self.expect("WELCOME", {"protocol": 1})

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()
        self.process.kill()
        self.process.wait()
        self.process.stderr.close()

    def raw(self, data):
        self.sock.sendall(data)

    def put(self, kind, payload=b"", **fields):
        if isinstance(payload, dict):
            payload = json.dumps(payload).encode()
        elif isinstance(payload, str):
            payload = payload.encode()
        self.raw(pack(kind, payload, **fields))

    def _bytes(self, n):
        while len(self.rest) < n:
            more = self.sock.recv(1 << 16)
            if not more:
                raise EOFError("the child has closed")
            self.rest += more
        data, self.rest = self.rest[:n], self.rest[n:]
        return data

    def get(self):
        """The next frame as (kind, payload, fields that are not 0)."""
        size, kind, flags, n_from, n_to, id_, type_, time_ = struct.unpack("<IBBBBQII", self._bytes(24))
        assert size <= 65536 and n_from + n_to <= size, (size, n_from, n_to)
        body = self._bytes(size)
        fields = {"id": id_, "type": type_, "time": time_, "sender": body[:n_from], "to": body[n_from:n_from + n_to],
                  "flags": flags}
        payload = body[n_from + n_to:]
        return (KINDS[kind], json.loads(payload) if KINDS[kind] in IN_JSON else payload,
                {k: v for k, v in fields.items() if v})

    def expect(self, kind, payload=b"", **fields):
        got = self.get()
        assert got == (kind, payload, fields), "%r came, not %r" % (got, (kind, payload, fields))

    def up_to(self, kind):
        """Reads to the next frame of this kind; returns the payloads of the LOGs before it, and it."""
        lines = []
        while (frame := self.get())[0] != kind:
            assert frame[0] in ("LOG", "ACK"), frame
            if frame[0] == "LOG":
                lines.append(frame[1].decode())
        return lines, frame

    def operate(self, id, do, state, error=0, **more):
        self.put("OPERATE", {"do": do, **more}, id=id)
        lines, (_, answer, fields) = self.up_to("STATE")
        assert answer["state"] == state and fields == ({"id": id, "type": error} if error else {"id": id}), \
            (answer, fields)
        return lines, answer

    def started(self):
        self.operate(1, "create", "created")
        self.operate(2, "start", "started", fresh=False)
        return self

    def ask(self, text, id, done, answer):
        """A request that is handled as the next message."""
        self.put("REQUEST", text, id=id)
        self.expect("ACK", id=done, type=1) if done else self.expect("ACK", type=1)
        self.expect("REPLY", answer, id=id)
        self.expect("ACK", id=done + 1)

    def silent(self, seconds=0.2):
        """Nothing comes."""
        assert not self.rest and not select.select([self.sock], [], [], seconds)[0], self.get()

    def ended(self):
        """What it ends with, and its last words."""
        status = self.process.wait(DEADLINE)
        return status, self.process.stderr.read()

    def stop(self):
        os.kill(self.process.pid, signal.SIGSTOP)

    def go_on(self):
        os.kill(self.process.pid, signal.SIGCONT)


def drain(stream):
    """Reads it to its end, whatever else is done; a function that waits for that and gives what it was."""
    lines = []
    thread = threading.Thread(target=lambda: lines.extend(stream), daemon=True)
    thread.start()

    def all_of_it():
        thread.join(DEADLINE)
        return "".join(lines)
    return all_of_it


def wait(seconds):
    time.sleep(seconds)


def run_tests(names, helpers):
    """All functions of a module but its helpers, as TAP. What the module exits with."""
    tests = [f for name, f in names.items() if getattr(f, "__module__", "") == "__main__" and name not in helpers]
    failed = 0
    print("1..%d" % len(tests))
    for i, test in enumerate(tests, 1):
        try:
            test()
            word = "ok"
        except Exception as e:  # whatever it is, the next test is run
            print("# %s: %s" % (type(e).__name__, str(e).replace("\n", "\n# ")))
            word, failed = "not ok", failed + 1
        print("%s %d %s" % (word, i, test.__name__.replace("_", " ")), flush=True)
    return 1 if failed else 0
