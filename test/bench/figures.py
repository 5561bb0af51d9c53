# SPDX-License-Identifier: MIT
"""One function for each part of the bench. Each returns lines of Markdown."""
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from contextlib import ExitStack

import actor_peers
import peers
import terminal as terminals
from measure import (Failed, alive, boottime, cpu, descendants, median, pids, pss, read, started,
                     wait_for_commands, wait_until)

SLEEP = "/usr/bin/sleep"


def say(text):
    print("  " + text, file=sys.stderr, flush=True)


def table(head, rows):
    out = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return out + ["| " + " | ".join(str(c) for c in row) + " |" for row in rows]


def unlike_any(seconds=86400):
    """A command line that nothing else on the machine has."""
    return [SLEEP, str(seconds + random.randrange(1, 1 << 30))]


class Running:
    """A subject with n services, for the length of a with block."""

    def __init__(self, subject, n, argv, **more):
        self.s, self.argv, self.n = subject(), argv, n
        self.s.prepare(n, argv, **more)

    def __enter__(self):
        known = set(pids())
        self.t0 = boottime()
        try:
            self.s.start()
            self.services = wait_for_commands(self.argv, self.n, known)
        except BaseException:
            if self.s.begun():
                self.s.stop()
            self.s.clean()
            raise
        return self

    def __exit__(self, *_):
        try:
            self.s.stop()
        finally:
            for pid in [p for p in getattr(self, "services", []) if alive(p)]:
                os.kill(pid, signal.SIGKILL)
            self.s.clean()


# --------------------------------------------------------------------- start and memory

def start_once(subject, n):
    """Seconds from the call to the last one, and bytes of the managers per service a moment later."""
    with Running(subject, n, unlike_any()) as r:
        last = max(started(p) for p in r.services) - r.t0
        recorded = None
        if subject is peers.Davit:
            recorded = r.s.wait_recorded(n) - r.t0
        time.sleep(3)
        memory = sum(pss(p) for p in r.s.managers()) / n
    return last, memory, recorded


def start(o, subjects):
    times, memory, recorded = {s: [] for s in subjects}, {s: [] for s in subjects}, []
    for k in range(o.rounds):
        for s in subjects:
            n = min(o.services, s.most)
            t, m, r = start_once(s, n)
            say(f"round {k + 1}: {s.name}, {n} services: {t:.2f} s, {m / 1000:.1f} kB each"
                + (f", recorded after {r:.2f} s" if r else ""))
            times[s].append(t / n)
            memory[s].append(m)
            if r:
                recorded.append(r)
    rows = []
    per = {s: median(times[s]) for s in subjects}
    first = per.get(peers.Bare)
    own = memory.get(peers.Davit)
    for s in subjects:
        n = min(o.services, s.most)
        rows.append([s.name, n, f"{per[s] * n:.2f} s", f"{per[s] / first:.2f}" if first else "",
                     f"{median(memory[s]) / 1000:.1f} kB" if s is not peers.Bare else "",
                     f"{median(memory[s]) / median(own):.1f}" if own and s is not peers.Bare else ""])
    out = ["### From nothing to running, and memory", "",
           f"`{SLEEP}`, {o.rounds} rounds. Time from the call of the first program to the start of the last "
           "service; memory is the managers' PSS per service, three seconds later.", ""]
    out += table(["", "services", "time", "per service, against the bare loop", "PSS per service", "against davit"],
                 rows)
    if recorded:
        whole = f", {median(recorded) / o.services / first:.2f} times the bare loop" if first else ""
        out += ["", f"davit had all `started` events durably in its store after {median(recorded):.2f} s{whole}"
                    " (the last write to its log, and one fdatasync more)."]
    return out


# ----------------------------------------------------------------------- idle and exits

def most_services(wanted):
    room = int(read("/proc/sys/kernel/pid_max")) - len(pids()) - 2000
    return min(wanted, room)


def idle(o, _):
    n = most_services(o.idle)
    with Running(peers.Davit, n, [os.path.join(peers.BUILD, "bench-clock")]) as r:
        own = r.s.managers()
        time.sleep(5)
        before, t = sum(cpu(p) for p in own), time.monotonic()
        time.sleep(20)
        used = (sum(cpu(p) for p in own) - before) / (time.monotonic() - t)
        memory = sum(pss(p) for p in own) / n
    say(f"{n} services: {used * 100:.3f} % of one core")
    return ["### Idle", "", f"{n} idle services, one daemon and {len(own) - 1} keepers: {used * 100:.3f} % of one "
            f"core over 20 s, {memory / 1000:.1f} kB PSS per service."]


def cpu_of_exits(running, own, count):
    """CPU seconds per exit of each process in `own`, for `count` services that are killed."""
    victims = random.sample(running.services, count)
    before = {p: cpu(p) for p in own}
    for p in victims:
        os.kill(p, signal.SIGKILL)
        time.sleep(0.001)
    wait_until("ends", lambda: not any(alive(p) for p in victims), 60)
    time.sleep(2)
    return {p: (cpu(p) - before[p]) / count for p in own}


def exits(o, _):
    n = most_services(o.idle)
    rounds = max(o.rounds, 3)
    count = min(o.ends, n // 2 // (rounds + 1))
    argv = [os.path.join(peers.BUILD, "bench-clock")]
    used = {}
    with ExitStack() as stack:
        davit = stack.enter_context(Running(peers.Davit, n, argv, restart="never"))
        subjects = {"bare loop (epoll, waitid, close)": stack.enter_context(
            Running(peers.Bare, n // 2, argv + ["/dev/null"]))}
        if peers.Kept.groups():
            subjects["bare loop that keeps (two pipes, a group that is looked at, a message)"] = stack.enter_context(
                Running(peers.Kept, n // 2, argv + ["/dev/zero"]))
        own, main = davit.s.managers(), davit.s.daemon()
        time.sleep(3)
        for _round in range(rounds):
            for name, r in subjects.items():
                used.setdefault(name, []).append(sum(cpu_of_exits(r, r.s.managers(), count).values()))
                r.services = [p for p in r.services if alive(p)]
            each = cpu_of_exits(davit, own, count)
            davit.services = [p for p in davit.services if alive(p)]
            daemon = each.pop(main)
            used.setdefault("davit, keeper", []).append(sum(each.values()))
            used.setdefault("davit, daemon (event, record, decision, store)", []).append(daemon)
    low = median(used["bare loop (epoll, waitid, close)"])
    rows = [[name, f"{median(times) * 1e6:.0f} µs", f"{median(times) / low:.1f}"] for name, times in used.items()]
    for row in rows:
        say(": ".join(row))
    return ["### CPU per exit", "", f"{n} services of davit, {n // 2} children of each bare loop; "
            f"{count} of each killed in a round, one each millisecond.", ""] + table(
        ["", "CPU per exit", "against the bare loop"], rows)


# ------------------------------------------------------------------------ run and status

def run(o, _):
    """Pairs in turn: davit run, and the program alone by the same call."""
    times, alone = [], []
    d = peers.Davit()
    d.prepare(0, ["/bin/true"])
    clock = os.path.join(peers.BUILD, "bench-clock")

    def reading(path):
        return wait_until(path, lambda: int(read(path) or b"0") / 1e9, 10, 0.001)

    try:
        d.davit("daemon", "start", check=False)
        d.davit("status")
        for k in range(51):
            path = d.path(f"clock{k}")
            t = time.monotonic()
            d.davit("run", f"r{k}", "-d", "--command", clock, "--args", path)
            times.append(reading(path) - t)
            path = d.path(f"alone{k}")
            t = time.monotonic()
            p = subprocess.Popen([clock, path], stdin=subprocess.DEVNULL)
            alone.append(reading(path) - t)
            p.terminate()
            p.wait()
    finally:
        d.stop()
        d.clean()
    times, alone = times[1:], alone[1:]
    say(f"davit run, call to exec: {median(times) * 1e3:.2f} ms; the program alone {median(alone) * 1e3:.2f} ms")
    return ["### davit run", "", "A prebuilt binary on a warm daemon, 50 times: from the call to the program's own "
            "first reading of the clock.", ""] + table(
        ["", "median", "nine of ten below"],
        [["`davit run`", f"{median(times) * 1e3:.2f} ms", f"{sorted(times)[44] * 1e3:.2f} ms"],
         ["the program alone, by fork and exec", f"{median(alone) * 1e3:.2f} ms",
          f"{sorted(alone)[44] * 1e3:.2f} ms"]])


def status(o, _):
    times = []
    with Running(peers.Davit, 1000, unlike_any()) as r:
        r.s.wait_recorded(1000)
        time.sleep(1)
        for _k in range(21):
            t = time.monotonic()
            r.s.davit("status")
            times.append(time.monotonic() - t)
    say(f"davit status of 1000: {median(times) * 1e3:.1f} ms")
    return ["### davit status", "", f"1,000 services, 21 times: median {median(times) * 1e3:.1f} ms, call to end."]


# ----------------------------------------------------------------------------- store

def store(o, _):
    """100,000 records of services that are stopped: a daemon's start, and one change."""
    n = 100000
    d = peers.Davit()
    d.prepare(0, ["/bin/true"])
    starts, changes = [], []
    try:
        for part in range(0, n, 5000):
            with open(d.path("part.yaml"), "w") as f:
                for k in range(part, part + 5000):
                    f.write(f"---\nkind: Service\nname: s{k}\ncommand: [/bin/true]\nstopped: true\n")
            d.davit("apply", "-d", "-f", d.path("part.yaml"), timeout=300)
        say(f"{n} records written")
        for _k in range(o.rounds):
            pid = d.daemon()
            d.davit("daemon", "stop")
            wait_until("end of the daemon", lambda: not alive(pid))
            t = time.monotonic()
            d.davit("daemon", "start", check=False)
            d.davit("status", "s0")
            starts.append(time.monotonic() - t)
        for k in range(51):
            t = time.monotonic()
            d.davit("update", f"s{k}", "-d", "--env", f"A={k}")
            changes.append(time.monotonic() - t)
    finally:
        d.stop()
        d.clean()
    say(f"start {median(starts):.2f} s, one change {median(changes) * 1e3:.1f} ms")
    return ["### Records", "", f"{n:,} records in the store (services that are stopped):", ""] + table(
        ["", "median"], [["start of the daemon, all taken up, first answer", f"{median(starts):.2f} s"],
                         ["one change (`davit update`), call to durable", f"{median(changes) * 1e3:.1f} ms"]])


# ---------------------------------------------------------------------- containers

def with_engines(part, rounds, *engines):
    here = os.path.dirname(os.path.abspath(__file__))
    return subprocess.run([os.path.join(peers.ROOT, "test/engines/with-engines"), *engines, "--", sys.executable,
                           os.path.join(here, "containers.py"), part, str(rounds)], check=True,
                          stdout=subprocess.PIPE, text=True).stdout.splitlines()


def oci(o, _):
    return with_engines("oci", max(o.rounds, 11), "docker", "podman", "crun", "runc")


def engine(o, _):
    return with_engines("engine", max(o.rounds, 9), "docker", "podman")


# ----------------------------------------------------------------------- terminals

def terminal(o, _):
    """100 MB through `davit terminal`, through a bare loop in its place, and on one pseudoterminal; keys."""
    d = peers.Davit()
    d.prepare(0, ["/bin/true"])
    subjects = {"one pseudoterminal, nothing between": [],
                "a bare loop between two (`test/bench/pty.c`)": [os.path.join(peers.BUILD, "bench-pty")],
                "`davit terminal`: keeper, daemon, command": [os.path.join(peers.BUILD, "davit"), "terminal", "--new",
                                                              "t", "--"]}
    speed, keys = {s: [] for s in subjects}, {s: [] for s in subjects}
    try:
        d.davit("run", "t", "--", "sleep", "100000")
        for k in range(max(o.rounds, 3)):
            for s, argv in subjects.items():
                speed[s].append(terminals.throughput(argv, d.env, o.megabytes))
                keys[s] += terminals.echoes(argv, d.env, 100)
            say(f"round {k + 1}: " + ", ".join(f"{v[-1]:.0f} MB/s" for v in speed.values()))
        keeper = subprocess.run([os.path.join(peers.BUILD, "bench-terminal"), str(o.megabytes)], check=True,
                                stdout=subprocess.PIPE, text=True).stdout.splitlines()
    finally:
        d.stop()
        d.clean()
    one, loop = list(subjects)[:2]
    rows = [[s, f"{median(v):.0f} MB/s", f"{median([a / b for a, b in zip(v, speed[one])]):.2f}",
             f"{median([a / b for a, b in zip(v, speed[loop])]):.2f}", f"{median(keys[s]) * 1e3:.2f} ms",
             f"{sorted(keys[s])[len(keys[s]) * 9 // 10] * 1e3:.2f} ms"] for s, v in speed.items()]
    for row in rows:
        say(": ".join(row))
    return ["### Terminals", "", f"{o.megabytes} MB of short lines, and 100 keys in a row to `cat`, {max(o.rounds, 3)} "
            f"rounds (load {os.getloadavg()[0]:.0f}).", ""] + table(
        ["", "output", "against one", "against the loop", "a key's echo, median", "nine of ten below"], rows) + [
        "", "The keeper alone, read without a second pseudoterminal (`build/bench-terminal`):", "", "```", *keeper, "```"]


# ------------------------------------------------------------------------------- actors

ACTOR_LINE = re.compile(r"(\S+) +(\d+) workers +([\d.]+) +best +([\d.]+) (\S+(?: \S+)?)(?: +bare +([\d.]+))?")


def actors(o, _):
    """The Savina micro-benchmarks, at one and at two workers, beside other systems and the bare loop."""
    found, names, units, bare, columns = {}, [], {}, {}, []
    actor_peers.build()
    for workers in (1, 2):
        for peer, command in actor_peers.commands(workers, o.rounds).items():
            out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            columns.append((peer, workers))
            for name, _, median_, _, unit, limit in ACTOR_LINE.findall(out):
                names += [] if name in names else [name]
                units[name], found[peer, workers, name] = unit, float(median_)
                if limit:
                    bare[name] = float(limit)
            say(f"{peer}, {workers} worker{'s' * (workers > 1)}")
    columns.sort(key=lambda c: (list(actor_peers.ALL).index(c[0]), c[1]))
    rows = [[name, units[name], *(found.get((*c, name), "") for c in columns), bare.get(name, ""),
             against(found, name, columns)] for name in names]
    out = ["### Actors", "", f"Medians of {o.rounds} rounds (load {os.getloadavg()[0]:.0f}). The bare loop is the same "
           "work in C without actors. The last column is davit, at its better setting, against the best of the "
           "others: above 1 it is ahead.", ""]
    return out + table(["", "unit", *(f"{p}, {w}" for p, w in columns), "bare loop", "ahead"], rows)


def against(found, name, columns):
    ours = [found[c, w, name] for c, w in columns if c == "davit" and (c, w, name) in found]
    others = [found[c, w, name] for c, w in columns if c != "davit" and (c, w, name) in found]
    if not ours or not others:
        return ""
    if name in actor_peers.LESS:
        return f"{min(others) / max(min(ours), 1e-9):.1f}"
    return f"{max(ours) / max(others):.1f}"
