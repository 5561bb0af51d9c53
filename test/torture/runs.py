#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Runs of plans, whose host and daemon are killed: at each crash point of the host in turn, and at random.

What a run does outside is counted: the programs of its resource type write each call into a book. Whoever dies, the
book and the log must be what they are when nobody does.
"""
import json
import os
import random
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from rig import BUILD, PATIENCE, check, equal, log, main, read, wait_until  # noqa: E402

PASSES = int(os.environ.get("TORTURE_PASSES", "2"))

PIPELINE = """
resource_types: [{{name: book, type: directory, source: {{path: type}}}}]
resources: [{{name: thing, type: book, source: {{of: SCENARIO}}}}]
jobs:
- name: build
  plan:
  - get: thing
  - in_parallel:
    - {{task: a, config: {{inputs: [{{name: thing}}], outputs: [{{name: made}}], run: {{path: sh, args: [-c, "cat thing/n; for i in 1 2 3; do echo a $i; sleep 0.03; done; echo x >made/x"]}}}}}}
    - {{task: b, config: {{run: {{path: sh, args: [-c, "echo b; exit 3"]}}}}, attempts: 2, on_failure: {{put: sorry, resource: thing, params: {{n: sorry}}, no_get: true}}}}
  on_failure: {{task: d, config: {{inputs: [{{name: made}}], run: {{path: cat, args: [made/x]}}}}}}
  ensure: {{put: last, resource: thing, params: {{n: last}}}}
"""
PROGRAM = """#!/bin/sh
request=$(cat)
echo "{what} $request" >>{book}
sleep 0.02
[ {what} != in ] || echo 1 >"$1/n"
echo '{answer}'
"""


def make_type(home):
    os.makedirs(home.work + "/type")
    for what, answer in (("check", '[{"n": "1"}]'), ("in", '{"version": {"n": "1"}}'), ("out", '{"version": {"n": "2"}}')):
        with open(home.work + "/type/" + what, "w") as f:
            f.write(PROGRAM.format(what=what, book=home.work + "/book", answer=answer))
        os.chmod(home.work + "/type/" + what, 0o755)


def book(home, scenario):
    """What was called for a scenario, sorted."""
    lines = read(home.work + "/book").decode().splitlines()
    return sorted(line.replace(scenario, "") for line in lines if scenario in line)


def events(home, run):
    text = read("%s/state/runs/%s/events" % (home.dir, run)).decode()
    check(not text or text.endswith("\n"), "a line of the events is torn")
    all_ = [json.loads(line) for line in text.splitlines()]
    equal([e["id"] for e in all_], list(range(1, len(all_) + 1)), "ids of the events of run " + run)
    return all_


def logs(all_):
    """What each step has printed, by its key; offsets without a gap."""
    out = {}
    for e in all_:
        if e["event"] == "log":
            key = (e["step"], e.get("part", ""), e["stream"])
            equal(e["offset"], len(out.get(key, "")), "the offset of a log")
            out[key] = out.get(key, "") + e["text"]
    return out


def outcomes(all_):
    return {e["step"]: e["outcome"] for e in all_ if e["event"] == "finish"}


def begin(home):
    """A run that has ended, to be compared with, and what it passed."""
    make_type(home)
    with open(home.work + "/p.yml", "w") as f:
        f.write(PIPELINE.format())
    points = home.dir + "/points"
    p = home.cli("job", "p.yml", "build", check=False, env={"DAVIT_FAULT_LIST": points})
    equal(p.returncode, 1, "the job's exit status: " + p.stderr)
    run = home.json("runs")[0]["id"]
    home.cli("daemon", "stop")
    passed = [line for line in read(points).decode().split() if line.startswith(("run-", "step-output"))]
    return run, {point: passed.count(point) for point in passed}


def again(home, model, scenario):
    """A new run of the same plan, which nobody has begun."""
    new = "z" + scenario.lower().rjust(5, "z")
    source, to = "%s/state/runs/%s" % (home.dir, model), "%s/state/runs/%s" % (home.dir, new)
    os.makedirs(to)
    about = json.loads(read(source + "/about.json"))
    about["id"] = new
    with open(to + "/about.json", "w") as f:
        json.dump(about, f)
    with open(to + "/plan.json", "w") as f:
        f.write(read(source + "/plan.json").decode().replace("SCENARIO", scenario))
    with open(to + "/holds", "w") as f:
        f.writelines(h + "\n" for h in about["holds"])
    return new


def host(home, run, fault=None, **more):
    env = dict(home.env, **({"DAVIT_FAULT": fault} if fault else {}))
    with open(home.dir + "/hosts.err", "ab") as f:
        return subprocess.Popen([BUILD + "/davit-run", run], env=env, stdin=subprocess.DEVNULL, stdout=f, stderr=f,
                                start_new_session=True, **more)


def test_crash_points(home):
    """a host that is killed at any crash point is followed by one that goes on: nothing twice, nothing lost"""
    model, points = begin(home)
    want = events(home, model)
    wanted_book = book(home, "SCENARIO")
    equal(len(wanted_book), 5, "calls of the model")  # check, in; out of both puts, and in of what the last one made
    check(len(points) >= 7, "crash points", points)
    n = 0
    for point, passes in points.items():
        # The first ones, and one in the middle.
        for nth in sorted({1, passes // 2 + 1, *range(1, min(passes, PASSES) + 1)}):
            n += 1
            scenario = "N%d" % n
            run = again(home, model, scenario)
            h = host(home, run, "%s:%d" % (point, nth))
            h.wait(PATIENCE)
            # The order of what happens at once is another each time: it may not come to the last passes.
            if h.returncode != 0:
                equal(h.returncode, -signal.SIGKILL, "the end at %s:%d" % (point, nth))
            last = host(home, run)
            equal(last.wait(PATIENCE), 0, "the host after one that died at %s:%d" % (point, nth))
            what = "after a death at %s:%d: " % (point, nth)
            got = events(home, run)
            equal(book(home, scenario), [line.replace("SCENARIO", "") for line in wanted_book], what + "the book")
            equal(outcomes(got), outcomes(want), what + "outcomes")
            equal(logs(got), logs(want), what + "logs")
            equal(got[-1]["event"], "end", what + "the last event")
            equal(os.listdir(home.dir + "/cache/steps/runs"), [], what + "steps that are left")
    log("%d deaths at %d points" % (n, len(points)))


def test_random_deaths(home):
    """daemon and hosts killed again and again: the same"""
    model, _ = begin(home)
    wanted_book, want = book(home, "SCENARIO"), events(home, model)
    seed = int(os.environ.get("RIG_SEED", random.randrange(1 << 30)))
    log("RIG_SEED=%d" % seed)
    r = random.Random(seed)
    run = again(home, model, "R1")
    home.start_daemon()
    kills = 0
    end = time.monotonic() + 2 * PATIENCE
    while home.json("runs", run)["state"] != "ended" and time.monotonic() < end:
        time.sleep(r.uniform(0.01, 0.08))
        pid = home.json("runs", run).get("host")
        try:
            # One that ends by itself meanwhile is told by its lock, which is free then.
            if pid and r.random() < 0.8 and kills < 12:
                os.kill(pid, signal.SIGKILL)
                kills += 1
            if r.random() < 0.3:
                home.kill_daemon()
                home.start_daemon()
        except ProcessLookupError:
            pass
    log("%d hosts were killed" % kills)
    equal(home.json("runs", run)["state"], "ended", "the run's state")
    got = events(home, run)
    equal(book(home, "R1"), wanted_book, "the book")
    equal(outcomes(got), outcomes(want), "outcomes")
    equal(logs(got), logs(want), "logs")


def test_deadlines(home):
    """a timeout goes on while nobody is there: 3 s, with the host away from 1 s to 2 s, are about 3 s"""
    with open(home.work + "/t.yml", "w") as f:
        f.write("jobs:\n- name: slow\n  plan:\n  - {task: t, timeout: 3s, config: {run: {path: sleep, args: ['60']}}}\n")
    run = home.cli("job", "t.yml", "slow", "--background").stdout.strip()
    begun = time.monotonic()
    wait_until(lambda: any(e["event"] == "running" for e in events(home, run)), "the step runs")
    daemon = home.daemon_pid()
    time.sleep(1)
    os.kill(daemon, signal.SIGKILL)
    os.kill(int(read("%s/state/runs/%s/lock" % (home.dir, run))), signal.SIGKILL)
    time.sleep(1)
    p = home.cli("run-log", "-f", "--status", run, check=False)
    took = time.monotonic() - begun
    equal(p.returncode, 1, "the job's outcome")
    end = json.loads(read("%s/state/runs/%s/end.json" % (home.dir, run)))
    equal(end["outcome"], "failed")
    check(2.9 < took < 30, "it took", took)


def test_aborts(home):
    """an abort that was answered is obeyed, though the host dies before it hears of it"""
    with open(home.work + "/t.yml", "w") as f:
        f.write("jobs:\n- name: slow\n  plan:\n  - {task: t, config: {run: {path: sleep, args: ['60']}}}\n"
                "  ensure: {task: e, config: {run: {path: echo, args: [ensured]}}}\n")
    run = home.cli("job", "t.yml", "slow", "--background").stdout.strip()
    wait_until(lambda: any(e["event"] == "running" for e in events(home, run)), "the step runs")
    pid = int(read("%s/state/runs/%s/lock" % (home.dir, run)))
    os.kill(pid, signal.SIGSTOP)
    home.cli("abort", run)
    os.kill(home.daemon_pid(), signal.SIGKILL)
    os.kill(pid, signal.SIGKILL)
    p = home.cli("run-log", "-f", "--status", run, check=False)
    equal(p.returncode, 3, "the job's outcome")
    check("ensured" in p.stdout, "the hook has run", p.stdout)


def test_corrupt_journal(home):
    """a journal that cannot be understood ends the run with an error, and not its hosts one after another"""
    model, _ = begin(home)
    run = again(home, model, "C1")
    with open("%s/state/runs/%s/journal" % (home.dir, run), "w") as f:
        f.write('{"generation": 7, "event": "begin", "at": 1}\n')
    equal(host(home, run).wait(PATIENCE), 0, "the host")
    end = json.loads(read("%s/state/runs/%s/end.json" % (home.dir, run)))
    equal(end["outcome"], "errored")
    check("a record of the plan is missing" in end["message"], "the message", end)
    equal(book(home, "C1"), [], "nothing was begun")


if __name__ == "__main__":
    main(globals())
