#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""on_terminal.py COMMAND...: runs it on a terminal of its own, copies what it prints, types nothing, and
exits with its status."""
import os
import sys

pid, master = os.forkpty()
if pid == 0:
    os.execvp(sys.argv[1], sys.argv[1:])
while True:
    try:
        data = os.read(master, 65536)
    except OSError:  # EIO: the last user of the terminal is gone
        break
    if not data:
        break
    os.write(1, data)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
