#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Many at once: no record of a workspace is lost, given twice, or comes back."""
import os
import subprocess
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../torture"))
from rig import BUILD, PATIENCE, check, equal, main, rng, wait_until  # noqa: E402

MANY = 50


def spawn(home, *args):
    return subprocess.Popen([os.path.join(BUILD, "davit")] + list(args), cwd=home.work, env=home.env,
                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def ends(processes):
    """[(status, standard error)], in order."""
    out = []
    for p in processes:
        _, err = p.communicate(timeout=2 * PATIENCE)
        out.append((p.returncode, err.decode()))
    return out


def listed(home):
    return {w["name"]: w for w in home.json("list")}


def at_once(fns):
    """Runs each in a thread of its own; the first failure is raised."""
    failed = []

    def run(fn):
        try:
            fn()
        except Exception as e:
            failed.append(e)
    threads = [threading.Thread(target=run, args=(fn,)) for fn in fns]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    if failed:
        raise failed[0]


def test_inits(home):
    """fifty inits of one name, with no daemon to begin with: each has a record and an id of its own"""
    for status, err in ends([spawn(home, "init", "--runtime", "process", "--name", "demo") for _ in range(MANY)]):
        equal(status, 0, err)
    found = listed(home)
    equal(set(found), {"demo"} | {"demo-%d" % n for n in range(2, MANY + 1)}, "names")
    equal(len({w["id"] for w in found.values()}), MANY, "ids")
    # And the records outlive the daemon.
    home.cli("daemon", "stop")
    equal({n: w["id"] for n, w in listed(home).items()}, {n: w["id"] for n, w in found.items()}, "after a restart")


def test_inits_and_removes(home):
    """inits beside removes: what was removed stays so, what was made is there"""
    for n in range(MANY // 2):
        home.cli("init", "--runtime", "process", "--name", "old")
    old = {w["id"] for w in home.json("list")}
    processes = [spawn(home, "remove", i) for i in old] + \
        [spawn(home, "init", "--runtime", "process", "--name", "old") for _ in range(MANY // 2)]
    rng.shuffle(processes)
    for status, err in ends(processes):
        equal(status, 0, err)
    found = home.json("list")
    equal(len(found), MANY // 2, "workspaces")
    check(not old & {w["id"] for w in found}, "a removed one is back")
    equal(len({w["name"] for w in found}), MANY // 2, "names")


def test_removes_of_one(home):
    """twenty removes of one workspace: one removes it, the others hear that it is not there"""
    home.cli("init", "--runtime", "process")
    results = ends([spawn(home, "remove", "work") for _ in range(20)])
    check(any(status == 0 for status, _ in results), "nobody has removed it", results)
    for status, err in results:
        check(status == 0 or "not found" in err or "removed meanwhile" in err or "being removed" in err, err)
    equal(home.json("list"), [], "list")


def test_start_and_remove(home):
    """start against remove: either it runs, or it is gone and nothing of it runs"""
    home.cli("daemon", "status", check=False)
    home.cli("list")
    for _ in range(15):
        w = home.json("init", "--runtime", "process", "--name", "raced")
        at = "/v1/workspaces/" + w["id"]
        answers = {}

        def ask(what, method, path):
            answers[what] = home.api(method, path)
        at_once([lambda: ask("start", "POST", at + "/start"), lambda: ask("remove", "DELETE", at)])
        there = [x for x in home.json("list") if x["id"] == w["id"]]
        if answers["remove"][0] == 200:
            equal(there, [], "removed, yet listed; %r" % answers)
        else:
            equal(answers["remove"][0], 409, answers)
            equal(answers["start"][0], 200, answers)
            equal([x["state"] for x in there], ["running"], "state")
            home.cli("remove", w["id"], "--force")
        wait_until(lambda: not home.json("status", "--namespace", "workspaces"), "no record is left")
    wait_until(lambda: not [c for c in home.ours().values() if "sleep infinity" in c], "nothing of them runs")


def test_starts_and_stops(home):
    """starts and stops of one at once end in one of the two, and every answer is true"""
    w = home.json("init", "--runtime", "process", "--name", "busy")
    at = "/v1/workspaces/" + w["id"]
    answers = []

    def ask(verb):
        answers.append((verb,) + home.api("POST", at + verb))
    at_once([lambda verb=verb: ask(verb) for verb in ["/start", "/stop"] * 10])
    for verb, status, body in answers:
        if status == 200:
            equal(body["state"], "running" if verb == "/start" else "stopped", verb)
        else:
            equal(status, 409, body)
    for verb, state in (("/stop", "stopped"), ("/start", "running"), ("/stop", "stopped")):
        equal(home.api("POST", at + verb)[1]["state"], state, verb)


def test_killed_daemon(home):
    """the daemon killed among inits: every init that was answered has its record, none is half made"""
    home.start_daemon()
    processes = [spawn(home, "init", "--runtime", "process", "--name", "k%d" % n, "-o", "json") for n in range(30)]
    wait_until(lambda: len(home.json("list")) > 3, "some are made")
    home.kill_daemon()
    answered = [n for n, (status, _) in enumerate(ends(processes)) if status == 0]
    found = listed(home)
    for n in answered:
        check("k%d" % n in found, "k%d was answered and is lost" % n)
    for w in found.values():
        equal((len(w["id"]), w["state"], w["runtime"]), (64, "stopped", "process"), w["name"])
        home.cli("remove", w["id"])
    equal(home.json("list"), [], "list")


if __name__ == "__main__":
    main(globals())
