# SPDX-License-Identifier: MIT
"""What the bench reads from /proc, and how it waits. Nothing here is about davit."""
import os
import statistics
import time

TICK = os.sysconf("SC_CLK_TCK")


class Failed(Exception):
    """A subject did not do what was to be measured."""


def boottime():
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def read(path):
    try:
        with open(path, "rb") as f:
            return f.read()
    except OSError:
        return b""


def stat_fields(pid):
    """The fields of /proc/PID/stat behind the name: [0] is the state."""
    text = read(f"/proc/{pid}/stat")
    return text[text.rfind(b")") + 2:].split() if text else []


def pids():
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def command(pid):
    return read(f"/proc/{pid}/cmdline").rstrip(b"\0").split(b"\0")


def started(pid):
    """When the process was made, in seconds of boottime, to a hundredth; 0 when it is gone."""
    fields = stat_fields(pid)
    return int(fields[19]) / TICK if fields else 0


def descendants(root):
    children = {}
    for pid in pids():
        fields = stat_fields(pid)
        if fields:
            children.setdefault(int(fields[1]), []).append(pid)
    found, queue = [], [root]
    while queue:
        more = children.get(queue.pop(), [])
        found += more
        queue += more
    return found


def wait_for_commands(argv, count, known, timeout=120):
    """Waits until `count` processes have exactly this command line; `known` holds those that were
    looked at and are not of them. Returns their pids. Looks rarely, so as not to be in the way."""
    want = [os.fsencode(a) for a in argv]
    found, deadline = set(), time.monotonic() + timeout
    while time.monotonic() < deadline:
        for pid in pids():
            if pid not in known and pid not in found and command(pid) == want:
                found.add(pid)
        if len(found) >= count:
            return sorted(found)
        time.sleep(0.1)
    raise Failed(f"{len(found)} of {count} run after {timeout} s")


def wait_until(what, check, timeout=60, pause=0.02):
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        value = check()
        if value:
            return value
        time.sleep(pause)
    raise Failed(f"{what}: not within {timeout} s")


def alive(pid):
    fields = stat_fields(pid)
    return bool(fields) and fields[0] not in (b"Z", b"X")


def pss(pid):
    """Proportional share of memory in bytes; 0 when it is gone."""
    for line in read(f"/proc/{pid}/smaps_rollup").splitlines():
        if line.startswith(b"Pss:"):
            return int(line.split()[1]) * 1024
    return 0


def cpu(pid):
    """Seconds of CPU that all threads of a process have used, by the scheduler's nanoseconds."""
    total = 0
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return 0.0
    for tid in threads:
        fields = read(f"/proc/{pid}/task/{tid}/schedstat").split()
        total += int(fields[0]) if fields else 0
    return total / 1e9


def median(values):
    return statistics.median(values)


def machine():
    """The machine in a sentence, without its name."""
    model = ""
    for line in read("/proc/cpuinfo").decode().splitlines():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
    memory = int(read("/proc/meminfo").split()[1]) / 1024 / 1024
    release = os.uname().release
    return f"{os.cpu_count()} cores ({model or os.uname().machine}), {memory:.0f} GiB, Linux {release}"
