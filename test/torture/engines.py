#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Engines go away and come back, and containers are taken away behind our back.

    test/engines/with-engines docker podman crun runc -- test/torture/engines.py [WORD]...
    test/engines/with-engines --live-restore docker -- test/torture/engines.py --live-restore [WORD]...
"""
import os
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from containers import (LASTS, ContainersHome, agree, engine_ctl, for_each, no_doubles, only,  # noqa: E402
                        spec, ENGINES, IMAGE, RUNTIMES)
from rig import BUILD, PATIENCE, check, equal, log, main, rng, soon, wait_until  # noqa: E402

# Of each policy so many, with what they exit when they are told to end.
POLICIES = [("always", 0, 8), ("unless-stopped", 0, 2), ("on-failure", 1, 4), ("on-failure", 0, 3), ("never", 1, 3)]


def twenty(home, runtime):
    """Starts twenty services; {name: what its policy does when the engine ends it}."""
    specs, after = [], {}
    for policy, code, n in POLICIES:
        for k in range(n):
            name = "s%d-%s-%d" % (len(specs), policy, code)
            specs.append(spec(runtime, name, LASTS % code, policy))
            again = policy in ("always", "unless-stopped") or (policy == "on-failure" and code)
            after[name] = "running" if again else "stopped" if code == 0 else "error"
    home.create(specs)
    wait_until(lambda: all(s["status"] == "running" and s["ready"] for s in home.json("status")),
               "all run", 0.2)
    return after


def refused_and_answering(home, runtime):
    """A dead engine: told at once, and everything else goes on."""
    t = time.monotonic()
    p = home.cli("run", "late", "--runtime", runtime, "--image", IMAGE, "--timeout", "60s", "--", "true", check=False)
    took = time.monotonic() - t
    check(p.returncode == 1 and runtime in p.stderr, "a run without an engine is refused", p.stdout, p.stderr)
    check("cannot connect" in p.stderr or "refused" in p.stderr or "not answer" in p.stderr or
          "ended" in p.stderr or "No such file" in p.stderr, "and says why", p.stderr)
    check(took < 30, "and soon", took)
    log("refused after %.2f s: %s" % (took, p.stderr.strip()))
    soon(lambda: home.json("status"), 1, "davit status answers")
    equal([s["name"] for s in home.json("status") if s["name"] == "late"], [], "what was refused is not recorded")


def came_back(home, runtime, after):
    t = time.monotonic()
    wait_until(lambda: agree(home, runtime), "states are true", 0.05)
    log("states were true %.2f s after the engine answered" % (time.monotonic() - t))
    wait_until(lambda: {s["name"]: s["status"] for s in home.json("status")} == after, "policies are obeyed", 0.2)
    check(agree(home, runtime), "all is as it is told")
    no_doubles(home, runtime)


LIVE_RESTORE = "--live-restore" in sys.argv


def goes_on(runtime):
    return runtime == "podman" or LIVE_RESTORE


def turn(home, runtime, ways):
    after = twenty(home, runtime)
    if goes_on(runtime):
        after = {name: "running" for name in after}
    for way in ways:
        before = {i["service"]: (i["id"], i["restarts"]) for i in home.json("ps")}
        engine_ctl(runtime, way)
        refused_and_answering(home, runtime)
        engine_ctl(runtime, "start")
        came_back(home, runtime, after)
        now = {i["service"]: (i["id"], i["restarts"]) for i in home.json("ps")}
        if goes_on(runtime):
            equal(now, before, "those that went on: instances and restarts")
        else:
            for name, what in after.items():
                key = "default/%s:latest" % name
                if what == "running":
                    equal(now[key][1], before[key][1] + 1, name + ": restarts")


@only(*ENGINES)
def each_engine_is_stopped(home, runtime):
    """the engine is stopped and started under 20 services: states are true within 2 s, policies are obeyed,
    nothing is there twice"""
    turn(home, runtime, ["stop"])


@only(*ENGINES)
def each_engine_is_killed(home, runtime):
    """the engine is killed twice under 20 services: the same"""
    turn(home, runtime, ["kill", "kill"] if goes_on(runtime) else ["kill"])


@only(*ENGINES)
def each_engine_dies_with_the_daemon(home, runtime):
    """the daemon is killed with the engine and comes up first: it is retried, and all is found again"""
    home.create([spec(runtime, "s%d" % k, LASTS % 0) for k in range(5)])
    wait_until(lambda: all(s["ready"] for s in home.json("status")), "all run", 0.1)
    engine_ctl(runtime, "kill")
    home.kill_daemon()
    home.start_daemon()
    refused_and_answering(home, runtime)
    engine_ctl(runtime, "start")
    wait_until(lambda: all(s["ready"] for s in home.json("status")) and agree(home, runtime), "all run again", 0.1)
    no_doubles(home, runtime, ["s%d" % k for k in range(5)])


def each_container_is_deleted(home, runtime):
    """a container that is deleted behind our back is noticed at once, and replaced as its policy says"""
    # Time to finish for who deletes: crun and runc know a container by a name alone.
    slow = {"policy": "on-failure", "backoff": {"initial": "1s", "max": "1s"}}
    home.create([spec(runtime, "always", LASTS % 0, restart=dict(slow, policy="always")),
                 spec(runtime, "failing", LASTS % 0, restart=slow), spec(runtime, "never", LASTS % 0, "never")])
    wait_until(lambda: all(s["ready"] for s in home.json("status")), "all run", 0.1)
    before = {s["name"]: s["instances"][0]["id"] for s in home.json("status")}
    containers = {c["instance"]: c["id"] for c in home.containers(runtime)}
    for name, instance in before.items():
        home.delete_behind(runtime, containers[instance])
        t = time.monotonic()
        wait_until(lambda: [e for e in home.events(instance=instance) if e["type"] in ("vanished", "exited")],
                   "it is noticed", 0.01)
        log("%s: noticed after %.0f ms: %s" % (name, (time.monotonic() - t) * 1e3, [
            (e["type"], e["cause"]) for e in home.events(instance=instance)][-2:]))
        if name == "never":
            wait_until(lambda: home.status(name)["status"] == "error", "policy never: it stays failed")
        else:
            wait_until(lambda: home.status(name)["ready"] and agree(home, runtime), "it is replaced", 0.05)
            equal(home.instances(name)[0]["restarts"], 1, name + ": restarts")
    time.sleep(0.5)
    equal(home.status("never")["status"], "error", "policy never")
    no_doubles(home, runtime)


@only(*ENGINES)
def each_stop_during_a_start(home, runtime):
    """a service that is stopped, or forgotten, while its container is being started does not run after"""
    for k in range(6):
        name, verb = "s%d" % k, ("stop", "kill")[k % 2]
        home.create([spec(runtime, name, LASTS % 0)])
        time.sleep(rng.uniform(0, 0.4))
        home.cli(verb, name)
    wait_until(lambda: {s["name"]: s["status"] for s in home.json("status")} ==
               {"s%d" % k: "stopped" for k in (0, 2, 4)}, "they are stopped, and the others gone", 0.1)
    wait_until(lambda: not [c for c in home.containers(runtime) if c["state"] == "running"], "nothing runs", 0.1)
    no_doubles(home, runtime)
    home.cli("start", "s0")
    wait_until(lambda: home.status("s0")["ready"], "it can be started again", 0.1)


@only(*ENGINES)
def each_create_is_cut_off(home, runtime):
    """the daemon dies with a create on its way to an engine: what comes of it is found, or removed, never doubled"""
    home.create([spec(runtime, "before", LASTS % 0)])
    wait_until(lambda: home.status("before")["ready"], "it runs", 0.1)
    for k in range(3):
        client = subprocess.Popen([os.path.join(BUILD, "davit"), "run", "c%d" % k, "--runtime", runtime, "--image", IMAGE,
                                   "--detach", "--", "sleep", "1000"], env=home.env, stdout=subprocess.DEVNULL,
                                  stderr=subprocess.DEVNULL)
        wait_until(lambda: home.events("created", service="default/c%d:latest" % k), "it is accepted", 0.002)
        engine_ctl(runtime, "pause")  # create, or the look at the image before it, is read by nobody yet
        time.sleep(rng.uniform(0, 0.1))
        home.kill_daemon()
        client.wait(PATIENCE)
        engine_ctl(runtime, "resume")
        home.start_daemon()
    wait_until(lambda: len(home.json("status")) == 4 and all(s["ready"] for s in home.json("status")), "all run", 0.1)
    wait_until(lambda: len(home.containers(runtime)) == 4, "each has one container", 0.1)
    no_doubles(home, runtime, ["before", "c0", "c1", "c2"])


def each_container_in_use_is_deleted(home, runtime):
    """whatever is under way with a container that is deleted behind our back ends, and what comes after is refused"""
    home.create([spec(runtime, "web", "while :; do echo tick; sleep 0.1; done", "never")])
    wait_until(lambda: home.status("web")["ready"], "it runs", 0.1)
    under_way = {words: subprocess.Popen([os.path.join(BUILD, "davit"), *words.split()], env=home.env, cwd=home.work,
                                         stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
                 for words in ("exec web -- sleep 1000", "exec -i web -- cat", "wait web")}
    wait_until(lambda: home.cli("exec", "web", "--", "sh", "-c", "ps | grep -c '[s]leep 1000'", check=False
                                ).stdout.strip() not in ("", "0"), "a command runs", 0.1)
    home.delete_behind(runtime, home.containers(runtime)[0]["id"])
    begun = time.monotonic()
    for words, p in under_way.items():
        try:
            p.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            p.kill()
            raise AssertionError("davit %s goes on" % words)
        check(p.returncode != 0, "davit %s succeeded" % words)
    log("all had ended after %.0f ms" % ((time.monotonic() - begun) * 1e3))
    # crun and runc delete a container and not its files: these are the instance's, which has ended.
    gone = ["exec web -- true", "pause web", "terminal web"] + ["cp web:/etc out"] * (runtime in ENGINES)
    for words in gone:
        p = home.cli(*words.split(), check=False)
        check(p.returncode != 0 and p.stderr.startswith("davit: "), "davit " + words, p.returncode, p.stderr)
    equal(home.json("stats", "web"), [], "statistics of what is gone")
    equal(home.status("web")["status"], "error", "its policy is never")


for_each(globals(), RUNTIMES)
if __name__ == "__main__":
    if LIVE_RESTORE:
        sys.argv.remove("--live-restore")
    main(globals(), ContainersHome)
