#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Dies at each crash point in turn (src/base/fault.h), in davitd and in the keeper.

One scenario is run once to learn which points it passes and how often, then once
for each point and several of its passes with the program set to die there. What
died is started again without the fault, the rest of the scenario follows, and the
same things must hold as without any fault.
"""
import collections
import http.client
import os
import re
import signal
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from rig import (BUILD, PATIENCE, ROOT, Home, alive, check, equal, log, main, processes, read, run_one,  # noqa: E402
                 wait_until)

# How many of the passes of a point are tried: the first ones, and some beyond.
PASSES = int(os.environ.get("TORTURE_PASSES", "3"))
BEGIN = 'echo "start $DAVIT_INSTANCE $$" >> %s/%s.book; '


class Scenario:
    def __init__(self, home, env):
        self.home, self.env, self.deaths = home, dict(env), 0
        self.acknowledged = []

    def start(self):
        self.home.start_daemon(self.env)
        self.keeper = None

    def mend(self):
        """Starts again what has died, without the fault."""
        fault = self.env.get("DAVIT_FAULT", "")
        if self.home.daemon.poll() is not None:
            check(self.home.daemon.returncode == -signal.SIGKILL, "the daemon ended with",
                  self.home.daemon.returncode)
        elif fault.startswith("keeper."):
            now = self.home.keepers()
            if self.keeper is None and now:
                self.keeper = now[0]
            # It may have died before anybody saw it.
            if (self.keeper is None or alive(self.keeper)) and "keeper of local processes ended" not in self.home.said():
                return False
            # davitd starts each new keeper with the fault: both begin anew.
            self.home.kill_daemon()
            for pid in self.home.keepers():
                os.kill(pid, signal.SIGKILL)
        else:
            return False
        self.deaths += 1
        self.env.pop("DAVIT_FAULT", None)
        self.home.start_daemon(self.env)
        check(self.home.daemon.poll() is None, "it does not start again")
        return True

    def ask(self, method, path, body=None):
        """A command, again until it is answered; what is answered was done for good."""
        end = time.monotonic() + PATIENCE
        again = False
        while True:
            self.mend()
            try:
                code, answer = self.home.api(method, path, body, timeout=8)
            except (OSError, http.client.HTTPException, ValueError):
                code, answer, again = 0, "no answer", True
            if 200 <= code < 300:
                self.acknowledged.append((method, path))
                return answer
            if method == "DELETE" and code == 404 and again:
                return None  # the answer was lost, not the command
            check(time.monotonic() < end, "%s %s: %s %s" % (method, path, code, answer))
            time.sleep(0.02)

    def until(self, fn, what):
        def tried():
            self.mend()
            try:
                return fn()
            except (OSError, http.client.HTTPException, ValueError):
                return False
        return wait_until(tried, what)

    def service(self, name):
        code, s = self.home.api("GET", "/v1/services/default/%s/latest" % name)
        return s if code == 200 else None

    def steady(self, name, instances):
        def ok():
            s = self.service(name)
            pids = [i["pid"] for i in s["instances"] if i["pid"]]
            return s["status"] == "running" and len(pids) == instances and not s.get("updating")
        self.until(ok, "%s runs with %d instances" % (name, instances))

    def run(self):
        h, w = self.home, self.home.work
        sh = lambda text: ["sh", "-c", text]  # noqa: E731
        web = {"name": "web", "instances": 2, "stop": {"grace": "1s"}, "env": {"TURN": "0"},
               "command": sh(BEGIN % (w, "web") + "echo up; exec sleep 1000")}
        job = {"name": "job", "command": sh(BEGIN % (w, "job") + "echo bye; sleep 0.05; exit 3"),
               "restart": {"policy": "on-failure", "retries": 2, "backoff": {"initial": "20ms", "max": "50ms"}}}
        once = {"name": "once", "command": sh(BEGIN % (w, "once") + "exit 0"), "restart": "never"}
        loud = {"name": "loud", "command": sh("seq 1 6000; exec sleep 1000"),
                "logs": {"maxSize": "16Ki", "maxFiles": 100}}
        self.start()
        self.ask("POST", "/v1/services?mode=apply", [web, job, once, loud])
        self.steady("web", 2)
        self.until(lambda: self.service("job")["status"] == "error", "job has failed for good")
        # With a keeper that died, nobody knows how it ended.
        over = ("stopped", "error") if self.env.get("DAVIT_FAULT", "").startswith("keeper.") or self.deaths else ("stopped",)
        self.until(lambda: self.service("once")["status"] in over, "once is done")
        self.ask("POST", "/v1/services/default/web/latest/restart")
        self.steady("web", 2)
        self.ask("POST", "/v1/services?mode=apply", [dict(web, env={"TURN": "1"})])
        self.steady("web", 2)
        for n in (3, 1):
            self.ask("POST", "/v1/services/default/web/latest/scale", {"instances": n})
            self.steady("web", n)
        self.ask("POST", "/v1/services/default/web/latest/stop")
        self.until(lambda: self.service("web")["status"] == "stopped", "web is stopped")
        self.until(lambda: not living(h, "web"), "no process of web is left")
        self.ask("POST", "/v1/services/default/web/latest/start")
        self.steady("web", 1)
        self.put_secret()
        if self.can_build():
            self.ask("POST", "/v1/services?mode=apply", [{"name": "built", "source": w + "/source"}])
            self.steady("built", 1)
        self.ask("DELETE", "/v1/services/default/once/latest?wait=true")
        self.mend()
        try:
            h.api("POST", "/v1/daemon/upgrade", {})
        except (OSError, http.client.HTTPException):
            pass
        self.until(lambda: h.api("GET", "/v1/version")[0] == 200, "it answers after the upgrade")
        self.steady("web", 1)

    def put_secret(self):
        import rig
        end = time.monotonic() + PATIENCE
        while True:
            self.mend()
            try:
                c = rig.UnixConnection(self.home.socket, 8)
                c.request("PUT", "/v1/secrets/default/key", b"a secret value")
                r = c.getresponse()
                r.read()
                c.close()
                if r.status < 300:
                    return
            except (OSError, http.client.HTTPException):
                pass
            check(time.monotonic() < end, "secret set is never answered")
            time.sleep(0.02)

    def can_build(self):
        d = self.home.work + "/source"
        if not os.path.exists(BUILD + "/davit-build") or not os.path.isdir(ROOT + "/cells"):
            return False
        if not os.path.isdir(d):
            os.mkdir(d)
            with open(d + "/run.sh", "w") as f:
                f.write("#!/bin/sh\n" + BEGIN % (self.home.work, "built") + "exec sleep 1000\n")
            os.chmod(d + "/run.sh", 0o755)
        return True

    def check(self):
        h = self.home
        wait_until(lambda: h.status("job")["status"] == "error", "job is in error")
        listed = {s["name"]: s for s in h.json("status")}
        equal(sorted(listed), sorted(["web", "job", "loud"] + (["built"] if self.can_build() else [])), "services")
        equal(h.json("inspect", "web")["spec"]["env"]["TURN"], "1", "the update that was acknowledged")
        for name in ["web"] + (["built"] if self.can_build() else []):
            pids = [i["pid"] for i in listed[name]["instances"] if i["pid"]]
            equal(sorted(living(h, name)), sorted(pids), name + ": processes")
        # Exactly so many runs, however the daemon fared: one and two restarts.
        for name, runs, how in (("job", 3, "exit code 3"), ("once", 1, "exit code 0")):
            starts = book(h, name)
            told = [e["cause"] for e in h.events("exited", service="default/%s:latest" % name)]
            lost = [t for t in told if t != how]
            if self.keeper_died():
                # Its exit statuses go with the keeper, but an end is an end.
                check(all("keeper" in t for t in lost), name + ": exits", told)
                check(len(told) == len(starts) and len(starts) <= runs + self.deaths, name, told, starts)
            else:
                equal((len(starts), told), (runs, [how] * runs), name + ": starts and exits")
        equal(listed["job"]["status"], "error", "job")
        numbers = [x["text"] for x in h.lines("logs", "loud")]
        if self.keeper_died():
            numbers = sorted(set(numbers), key=int)
        equal(numbers, [str(n) for n in range(1, 6001)], "lines of loud")
        events = h.events()
        equal([e["id"] for e in events], sorted({e["id"] for e in events}), "ids of events")
        kinds = collections.Counter((e["service"], e["type"]) for e in events)
        for name in ("web", "job", "once", "loud"):
            equal(kinds["default/%s:latest" % name, "created"], 1, name + ": created events")
        equal(kinds["default/job:latest", "failed"], 1, "job: failed events")
        equal([s["name"] for s in h.json("secret", "list")], ["key"], "secrets")
        status = h.json("daemon", "status")
        check(status["store"]["healthy"], "the store", status)

    def keeper_died(self):
        return self.fault.startswith("keeper.")

    fault = ""


def book(home, name):
    return [x.split() for x in read(os.path.join(home.work, name + ".book")).decode().splitlines()]


def living(home, name):
    return [int(x[2]) for x in book(home, name) if alive(int(x[2]))
            and b"DAVIT_INSTANCE=" + x[1].encode() in read("/proc/%s/environ" % x[2])]


def passes_of(points, name):
    n = points[name]
    return sorted({k for k in list(range(1, PASSES + 1)) + [n // 2, n] if 1 <= k <= n})


def test_crash_points(home):
    """davitd and the keeper die at each crash point: desired state is reached, nothing runs twice, exits
    are told once, acknowledged commands are kept"""
    seen = os.path.join(home.dir, "points")
    s = Scenario(home, {"DAVIT_FAULT_LIST": seen})
    s.run()
    s.check()
    points = collections.Counter(read(seen).decode().split())
    check(len(points) >= 10, "the scenario passes too few points", points)
    missed = named_in_source() - set(points)
    log("points: " + ", ".join("%s %d" % p for p in sorted(points.items())))
    log("not passed by the scenario: %s" % (", ".join(sorted(missed)) or "none"))
    failures, deaths, tries = [], 0, 0
    for name in sorted(points):
        for n in passes_of(points, name):
            one = {}

            def trial(h):
                one["s"] = s = Scenario(h, {"DAVIT_FAULT": "%s:%d" % (name, n)})
                s.fault = name
                s.run()
                s.check()
            other = Home()
            _, failure = run_one(trial, other)
            tries += 1
            deaths += one["s"].deaths
            if failure:
                failures.append("%s:%d" % (name, n))
                log("--- %s:%d (died %d times)\n%s" % (name, n, one["s"].deaths, failure))
    log("%d trials, %d deaths" % (tries, deaths))
    check(deaths >= tries * 0.7, "the faults did not come", deaths, tries)
    equal(failures, [], "points where something did not hold")


class Files(Scenario):
    """A service with a secret and a config is started, updated and removed."""

    def run(self):
        script = BEGIN % (self.home.work, "web") + "exec sleep 1000"
        web = {"name": "web", "stop": {"grace": "1s"}, "secrets": ["key"],
               "volumes": [{"type": "config", "target": "app", "content": "one"}], "command": ["sh", "-c", script]}
        self.start()
        self.put_secret()
        self.ask("POST", "/v1/services?mode=apply", [web])
        self.steady("web", 1)
        self.ask("POST", "/v1/services?mode=apply", [dict(web, volumes=[dict(web["volumes"][0], content="two")])])
        self.steady("web", 1)
        environment = read("/proc/%d/environ" % self.home.pid("web")).decode().split("\0")
        self.where = os.path.dirname(dict(v.split("=", 1) for v in environment if v)["CREDENTIALS_DIRECTORY"])
        alive_ids = [i["id"] for i in self.home.instances("web")]
        self.until(lambda: len(self.files()) == 2, "two directories for its instance")
        kept = self.files()
        check(all(d.split("-")[0] in alive_ids for d in kept), "directories of instances that are gone", kept, alive_ids)
        self.ask("DELETE", "/v1/services/default/web/latest?wait=true")
        self.mend()
        self.until(lambda: not self.files(), "nothing is left")

    def files(self):
        return os.listdir(self.where) if os.path.isdir(self.where) else []


def test_files_in_memory(home):
    """No file of a secret or a config stays in memory when the daemon dies while a service is
    started, updated or removed"""
    deaths = 0
    for fault in ("workload-files:1", "workload-files:2", "instance-start:2"):
        s = Files(home, {"DAVIT_FAULT": fault})
        s.run()
        deaths += s.deaths
        home.kill_daemon()
    equal(deaths, 3, "deaths by the faults")


def named_in_source():
    names = set()
    for d, _, files in os.walk(ROOT + "/src"):
        for f in files:
            if f.endswith(".c") and not f.endswith("_test.c"):
                names |= set(re.findall(r'DAVIT_FAULT\("([^"]+)"\)', read(os.path.join(d, f)).decode()))
    return names


if __name__ == "__main__":
    main(globals())
