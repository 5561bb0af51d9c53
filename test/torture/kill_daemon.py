#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Nothing dies with the manager: davitd is killed at random moments, under load.

Each workload keeps a book of its own, a file to which it appends a line when it
starts and, where it ends by itself, one when it ends. What the daemon says
afterwards is compared with the books.
"""
import collections
import os
import signal
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from rig import alive, check, equal, log, main, read, rng, stat_of, wait_until, CommandError  # noqa: E402

KILLS = int(os.environ.get("TORTURE_KILLS", "200"))
TICKERS, CRASHERS, UPDATED, SCALED = 38, 6, 4, 2

# Ends by itself with a code that counts; the book has begin and end.
CRASH = ('n=$(($(grep -c start BOOK 2>/dev/null) + 1)); echo "start $DAVIT_INSTANCE $$" >> BOOK; '
         'echo "crash $n"; sleep 0.WAIT; echo "end $DAVIT_INSTANCE $$ $((n % 100 + 1))" >> BOOK; '
         'exit $((n % 100 + 1))')


def book(home, name):
    return [x.split() for x in read(os.path.join(home.work, name + ".book")).decode().splitlines()]


def spec(name, argv, instances=1, **more):
    return dict({"name": name, "command": argv, "instances": instances, "stop": {"grace": "2s"}}, **more)


def tick(home, name, instances=1, **more):
    # A small program: fifty of them at fifty lines a second are little load.
    return spec(name, [home.ticker, os.path.join(home.work, name + ".book")], instances, **more)


TICKER_C = r"""
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
int main(int argc, char **argv)
{
	int book = open(argv[argc - 1], O_WRONLY | O_APPEND | O_CREAT, 0600);
	struct timespec gap = {.tv_nsec = 20000000};

	dprintf(book, "start %s %d\n", getenv("DAVIT_INSTANCE"), (int)getpid());
	for (unsigned long i = 1;; i++) {
		dprintf(1, "line %d %lu\n", (int)getpid(), i);
		nanosleep(&gap, NULL);
	}
}
"""


def make_ticker(home):
    home.ticker = os.path.join(home.work, "ticker")
    with open(home.ticker + ".c", "w") as f:
        f.write(TICKER_C)
    check(os.system("cc -O1 -o %s %s.c" % (home.ticker, home.ticker)) == 0, "no C compiler")


def lines_of(home, name):
    """{pid: [numbers]} of all that it has logged, in the order of the log."""
    out = collections.defaultdict(list)
    for x in home.lines("logs", name):
        word, *rest = x["text"].split()
        if word == "line":
            check(len(rest) == 2, "a broken line", x)
            out[int(rest[0])].append(int(rest[1]))
    return out


def check_lines(home, name, doubled=None):
    """No line lost or doubled. `doubled`: what a killed keeper may have written twice."""
    for pid, got in lines_of(home, name).items():
        if got != list(range(1, len(got) + 1)):
            k = next(k for k, n in enumerate(got) if n != k + 1)
            if doubled is not None and sorted(set(got)) == list(range(1, max(got) + 1)):
                doubled.append((name, len(got) - max(got)))
                continue
            raise AssertionError("%s, pid %d: lines %s at %d of %d" % (name, pid, got[max(0, k - 3):k + 4], k,
                                                                        len(got)))


def start_all(home):
    make_ticker(home)
    home.start_daemon()
    specs = [tick(home, "tick%d" % k) for k in range(TICKERS)]
    specs += [tick(home, "upd%d" % k, env={"TURN": "0"}) for k in range(UPDATED)]
    specs += [tick(home, "scale%d" % k, 2) for k in range(SCALED)]
    for k in range(CRASHERS):
        script = CRASH.replace("BOOK", "%s/crash%d.book" % (home.work, k)).replace("WAIT", str(k + 1))
        specs.append(spec("crash%d" % k, ["sh", "-c", script], restart={
            "policy": "on-failure", "backoff": {"initial": "20ms", "max": "50ms"}}))
    code, answer = home.api("POST", "/v1/services?mode=create", specs)
    equal(code, 201 if code == 201 else 200, "creation: %r" % answer)
    wait_until(lambda: all(s["ready"] for s in home.json("status") if not s["name"].startswith("crash")),
               "all run")


class Meddler(threading.Thread):
    """Updates and scales while the daemon is being killed. A command that was answered is kept in
    `wanted`; one that was not may or may not have been done."""

    def __init__(self, home):
        super().__init__(daemon=True)
        self.home, self.end, self.turn, self.done, self.failed = home, threading.Event(), 0, 0, 0
        self.wanted, self.maybe = {}, collections.defaultdict(set)

    def run(self):
        while not self.end.wait(0.03):
            self.turn += 1
            k = self.turn // 2
            if self.turn % 2:
                name, what = "upd%d" % (k % UPDATED), str(self.turn)
                request = ("POST", "/v1/services?mode=update", [tick(self.home, name, env={"TURN": what})])
            else:
                name, what = "scale%d" % (k % SCALED), 1 + self.turn // 2 % 3
                request = ("POST", "/v1/services/default/%s/latest/scale" % name, {"instances": what})
            self.maybe[name].add(what)
            try:
                code, answer = self.home.api(*request)
            except (OSError, ValueError, Exception):
                self.failed += 1
                continue
            if code >= 300:
                raise AssertionError("%s %s: %s %s" % (request[0], request[1], code, answer))
            self.wanted[name] = what
            self.maybe[name] = {what}
            self.done += 1


def check_books(home):
    """Each run began once and its end was told once, as the books have it."""
    events = home.events()
    started = collections.Counter()
    exited = collections.defaultdict(list)
    ids = [e["id"] for e in events]
    equal(ids, sorted(set(ids)), "ids of events")
    for e in events:
        if e["type"] == "started":
            started[e["instance"]] += 1
        elif e["type"] == "exited":
            exited[e["instance"]].append(e["cause"])
    for k in range(CRASHERS):
        name = "crash%d" % k
        entries = book(home, name)
        ends = collections.defaultdict(list)
        for x in entries:
            if x[0] == "end":
                ends[x[1]].append("exit code " + x[3])
        begun = collections.Counter(x[1] for x in entries if x[0] == "start")
        pids = [x[2] for x in entries if x[0] == "start"]
        equal(len(pids), len(set(pids)), name + ": a pid twice in the book")
        for ident, told in ends.items():
            codes = [x.replace(", as asked", "") for x in exited[ident]
                     if x.startswith("exit code") or not x.endswith("as asked")]
            # The stop may come between the last line of the book and the exit.
            if codes == told[:-1] and exited[ident] and exited[ident][-1].endswith("as asked"):
                codes = told
            equal(codes, told, "%s: exits told, and as they were" % name)
        check(sum(map(len, ends.values())) > KILLS / 40, "%s has crashed too few times" % name, ends)
        s = home.status(name)
        # It may have been stopped between the decision and the start.
        check(s["restarts"] in (sum(begun.values()) - 1, sum(begun.values())),
              "%s: restarts in the status, starts in the book" % name, s["restarts"], begun)
    return len(events)


def running(home):
    return {(s["name"], i["index"]): (i["pid"], i["id"]) for s in home.json("status") for i in s["instances"]
            if i["pid"] and not s["name"].startswith("crash")}


def test_kill_daemon(home):
    """50 services run, log, crash, are updated and scaled while davitd is killed 200 times: same pids,
    no line lost or doubled, every exit told once, nothing started twice, no accepted command lost"""
    start_all(home)
    before = {k: v for k, v in running(home).items() if k[0].startswith("tick")}
    meddler = Meddler(home)
    meddler.start()
    t = time.monotonic()
    answered = 0
    for k in range(KILLS):
        time.sleep(rng.random() * 0.15)
        check(home.daemon.poll() is None, "the daemon ended by itself", home.daemon.returncode)
        home.kill_daemon()
        # Sometimes one is killed before it has come up.
        home.start_daemon(wait=rng.random() < 0.8)
        if k % 20 == 19:
            wait_until(home.answers)
            code, _ = home.api("GET", "/v1/services")
            equal(code, 200)
            answered += 1
        if time.monotonic() - t > 150:
            log("time is up after %d kills" % (k + 1))
            check(k + 1 >= min(KILLS, 100), "too few kills", k + 1)
            break
    log("%d kills in %.0f s; %d commands done, %d cut off" % (k + 1, time.monotonic() - t, meddler.done, meddler.failed))
    wait_until(home.answers)
    meddler.end.set()
    meddler.join(30)
    check(meddler.done > KILLS / 10, "too few commands came through", meddler.done)
    settle(home, meddler)
    now = running(home)
    for key, who in before.items():
        equal(now.get(key), who, "%s %s: pid and id" % key)
        equal(len(book(home, key[0])), 1, "%s was started once" % key[0])
    for k in range(CRASHERS):
        home.cli("stop", "crash%d" % k)
    for name in ["tick%d" % k for k in range(TICKERS)] + ["upd%d" % k for k in range(UPDATED)] + \
            ["scale%d" % k for k in range(SCALED)]:
        check_lines(home, name)
    log("%d events" % check_books(home))


def settle(home, meddler):
    """What was accepted last is what runs; of several cut-off commands, any."""
    def ok():
        for name in meddler.maybe:
            s = home.status(name)
            pids = [i["pid"] for i in s["instances"] if i["pid"]]
            spec = home.json("inspect", name)["spec"]
            got = spec["env"]["TURN"] if name.startswith("upd") else spec.get("instances", 1)
            check(got in meddler.maybe[name] | {meddler.wanted.get(name)}, "%s: spec" % name, got,
                  meddler.maybe[name], meddler.wanted.get(name))
            equal(s["status"], "running", name)
            equal(len(pids), 1 if name.startswith("upd") else got, name + ": instances")
            # Every process of it that ever began: those that live are those that are listed.
            living = [int(x[2]) for x in book(home, name) if alive(int(x[2])) and ours(x)]
            equal(sorted(living), sorted(pids), name + ": processes")
        return True

    def ours(x):
        return b"DAVIT_INSTANCE=" + x[1].encode() in read("/proc/%s/environ" % x[2])

    try:
        wait_until(ok, "everything as it was asked for", 0.2)
    except AssertionError:
        for name in meddler.maybe:
            log(home.json("status", name))
            log("\n".join(str((e["time"], e["type"], e["instance"], e["cause"]))
                          for e in home.events(service="default/%s:latest" % name))[-1500:])
            log("book: %s" % [(x[1], x[2], alive(int(x[2]))) for x in book(home, name)][-6:])
        raise


def test_kill_keeper(home):
    """The keeper is killed: a new one comes, same pids, no line lost, and what could not be
    recovered is said"""
    start_all(home)
    before = {k: v for k, v in running(home).items()}
    old = home.keepers()
    doubled = []
    for turn in range(3):
        time.sleep(0.3 + rng.random() * 0.3)
        for pid in home.keepers():
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: home.keepers() and set(home.keepers()) != set(old), "a new keeper")
        old = home.keepers()
        wait_until(lambda: all(s["status"] == "running" for s in home.json("status")
                               if not s["name"].startswith("crash")), "all run under the new keeper")
    equal(running(home), before, "pids")
    time.sleep(0.5)
    for (name, _), _ in before.items():
        check_lines(home, name, doubled)
    log("doubled at the moment of a kill (docs/keeper.md): %s" % doubled)
    check(len(doubled) <= 3, "more was doubled than one turn of the keeper's each time", doubled)
    # One that ends while no keeper runs: that it ended is told, and that its status is not known.
    home.sh("mortal", "exec sleep 1000", "--restart", "never")
    pid = home.pid("mortal")
    os.kill(home.keepers()[0], signal.SIGKILL)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: home.status("mortal")["status"] == "error", "its end")
    log("told of it: " + home.status("mortal")["error"])
    check("keeper" in home.status("mortal")["error"] or "signal 9" in home.status("mortal")["error"], "how it ended",
          home.status("mortal"))
    check("keeper" in home.said(), "the daemon's log says that the keeper was replaced", home.said()[-500:])
    # Both at once.
    home.kill_daemon()
    os.kill(home.keepers()[0], signal.SIGKILL)
    home.start_daemon()
    wait_until(lambda: {k: v for k, v in running(home).items() if k in before} == before, "pids after both died")
    for k in range(CRASHERS):
        name = "crash%d" % k
        pids = [x[2] for x in book(home, name) if x[0] == "start"]
        equal(len(pids), len(set(pids)), name)
        living = [p for p in pids if alive(int(p)) and b"crash" in read("/proc/%s/cmdline" % p)]
        check(len(living) <= 1, name + " runs twice", living)


def test_upgrade(home):
    """davit daemon upgrade under load: no connection refused, same pids, no line lost"""
    start_all(home)
    before = running(home)
    pid = home.daemon_pid()
    refused, answers, end = [], [0], threading.Event()

    def ask():
        while not end.is_set():
            try:
                code, _ = home.api("GET", "/v1/version")
                answers[0] += code == 200
            except Exception as e:  # a refusal, or an answer that was cut off
                refused.append(repr(e))

    askers = [threading.Thread(target=ask, daemon=True) for _ in range(2)]
    for a in askers:
        a.start()
    for _ in range(10):
        home.cli("daemon", "upgrade")
        time.sleep(0.05 + rng.random() * 0.1)
    end.set()
    for a in askers:
        a.join(20)
    log("%d answers during 10 upgrades" % answers[0])
    equal(refused, [], "refused")
    check(answers[0] > 50, "too few answers", answers[0])
    equal(home.daemon_pid(), pid, "the daemon's pid: it executes the program anew, in place")
    equal(running(home), before, "pids")
    for name, _ in before:
        check_lines(home, name)


TREE = """---
{kind: Supervisor, name: fails, intensity: {restarts: 2, period: 1h}}
---
{kind: Supervisor, name: group, strategy: one-for-all}
---
{name: broken, supervisor: fails, restart: {backoff: {initial: 50ms, max: 50ms}}, command: [sh, -c, "sleep 0.1; exit 3"]}
---
{name: fellow, supervisor: fails, command: [sleep, "1000"]}
---
{name: waits, supervisor: group, restart: {backoff: {initial: 1000s, max: 1h}}, command: [sh, -c, "sleep 0.1; exit 4"]}
---
{name: member, supervisor: group, command: [sleep, "1000"]}
---
{name: tired, restart: {retries: 1, backoff: {initial: 50ms, max: 50ms}}, command: [/nonexistent/program]}
---
{name: once, restart: {policy: never}, command: [sh, -c, "sleep 0.3; kill -9 $$"]}
---
{name: done, command: [sleep, "0.3"]}
---
{name: back, restart: {backoff: {initial: 50ms, max: 50ms}},
 command: [sh, -c, "[ -e mark ] && exec sleep 1000; touch mark; exit 5"]}
---
{name: runs, command: [sleep, "1000"]}
"""


def seen(home):
    """What people see of the tree. (That it is wanted is known since its start, to the next daemon.)"""
    found = {"tree": home.json("tree")}
    for s in home.json("status"):
        chain = home.json("why", s["name"])["chain"]
        for link in chain:
            if link["rule"] == "user":
                link["time"] = "begun"
        for i in s["instances"]:
            if not i["pid"]:
                del i["started"]  # by the clock of the daemon, where it ended before it was looked at
        found[s["name"]] = (s, chain)
    return found


def test_tree(home):
    """What has failed, waits, is down for the sake of another or was restarted is after kill -9 of the
    daemon what it was before: status, tree and why"""
    home.start_daemon()
    home.cli("apply", "--detach", "-f", "-", input=TREE.replace("mark", home.work + "/mark").encode())
    want = {"broken": "error", "fellow": "pending", "waits": "pending", "member": "pending", "tired": "error",
            "once": "error", "done": "stopped", "back": "running", "runs": "running"}
    wait_until(lambda: {s["name"]: s["status"] for s in home.json("status")} == want, "each as it is to be")
    time.sleep(0.5)  # what nobody waits for is committed late
    before = seen(home)
    for _ in range(2):
        home.kill_daemon()
        home.start_daemon()
        after = seen(home)
        for what in before:
            equal(after[what], before[what], what)


if __name__ == "__main__":
    main(globals())
