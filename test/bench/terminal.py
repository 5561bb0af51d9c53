# SPDX-License-Identifier: MIT
"""Terminals: what `davit terminal` carries, beside a bare loop around a pseudoterminal. A terminal of
ours stands in for the user's in both, and is read in the same way."""
import os
import pty
import select
import time
import tty

from measure import Failed

LINE = "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz"


def prints(megabytes):
    """A command that prints so many millions of bytes, and two words around them."""
    return ["/bin/sh", "-c", f"stty raw; echo BEGIN; yes {LINE} | head -c {megabytes}000000; echo END; read x"]


class Screen:
    """A program on a pseudoterminal, of which we are the other side."""

    def __init__(self, argv, env):
        self.pid, self.fd = pty.fork()
        if not self.pid:
            os.execvpe(argv[0], argv, env)
        tty.setraw(self.fd)

    def read_until(self, word, seconds=120):
        """Bytes up to and with the word, of which only the end is looked at."""
        total, last, end = 0, b"", time.monotonic() + seconds
        while word not in last:
            if not select.select([self.fd], [], [], max(0, end - time.monotonic()))[0]:
                raise Failed(f"no {word!r} within {seconds} s, after {total} bytes")
            data = os.read(self.fd, 1 << 16)
            total += len(data)
            last = (last + data)[-len(data) - 16:]
        return total

    def type(self, data):
        os.write(self.fd, data)

    def close(self):
        os.close(self.fd)  # hangs up
        os.waitpid(self.pid, 0)


def throughput(argv, env, megabytes):
    """Millions of bytes a second, between the two words."""
    s = Screen(argv + prints(megabytes), env)
    try:
        s.read_until(b"BEGIN")
        began = time.monotonic()
        total = s.read_until(b"END")
        took = time.monotonic() - began
        s.type(b"\n")
    finally:
        s.close()
    if total < megabytes * 1000000 - (1 << 16):  # what came in one piece with the first word
        raise Failed(f"{total} bytes came of {megabytes} million")
    return megabytes / took


def echoes(argv, env, keys=300):
    """Seconds from a key to its echo, each."""
    s = Screen(argv + ["/bin/sh", "-c", "stty raw -echo; echo READY; exec cat"], env)
    took = []
    try:
        s.read_until(b"READY")
        time.sleep(0.2)
        while select.select([s.fd], [], [], 0.1)[0]:
            os.read(s.fd, 4096)
        for _ in range(keys):
            began = time.monotonic()
            s.type(b"x")
            s.read_until(b"x", 10)
            took.append(time.monotonic() - began)
            time.sleep(0.002)
    finally:
        s.close()
    return sorted(took)
