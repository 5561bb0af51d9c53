#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The parts of the bench that need containers, inside test/engines/with-engines:

    test/bench/containers.py oci|engine ROUNDS

Prints lines of Markdown. Subjects take turns within a round, one time each.
"""
import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.dont_write_bytecode = True

import peers  # noqa: E402
from figures import say, table  # noqa: E402
from measure import Failed, median, wait_until  # noqa: E402

IMAGE = os.environ.get("DAVIT_TEST_IMAGE")


def have(name):
    return os.environ.get("DAVIT_TEST_%s%s" % (name.upper(), "_SOCKET" if name in ("docker", "podman") else ""))


def davit():
    d = peers.Davit()
    d.prepare(0, ["/bin/true"])
    for name in ("docker", "podman"):
        if have(name):
            d.env["DAVIT_%s_SOCKET" % name.upper()] = have(name)
    d.davit("daemon", "start", check=False)
    d.davit("status")
    return d


def milliseconds(fn):
    began = time.monotonic()
    fn()
    return (time.monotonic() - began) * 1e3


def run(*argv):
    subprocess.run(argv, check=True, stdin=subprocess.DEVNULL, capture_output=True)


def load():
    return f"load {os.getloadavg()[0]:.0f}"


# --------------------------------------------------------------------------- oci

def bundle(d, program):
    """A directory as crun and runc like it, with the command `true` and no terminal."""
    where = d.path("bundle-" + program)
    os.makedirs(where)
    run(have(program), "spec", "-b", where) if program == "runc" else subprocess.run(
        [have(program), "spec"], cwd=where, check=True)
    path = os.path.join(where, "config.json")
    with open(path) as f:
        config = json.load(f)
    config["process"].update(terminal=False, args=["true"])
    config["root"] = {"path": os.environ["DAVIT_TEST_ROOTFS"], "readonly": False}
    with open(path, "w") as f:
        json.dump(config, f)
    return where


def oci(rounds):
    d, n = davit(), [0]

    def through_davit(runtime):
        n[0] += 1
        d.davit("run", f"r{n[0]}", "--runtime", runtime, "--image", IMAGE, "--network", "none", "--restart", "never",
                "--follow", "--", "true")

    def bare(program, where):
        n[0] += 1
        run(have(program), "--root", d.path("root-" + program), "run", "--bundle", where, f"b{n[0]}")

    subjects = {}
    for program in [p for p in ("crun", "runc") if have(p)]:
        where = bundle(d, program)
        d.davit("load", "--runtime", program, os.environ["DAVIT_TEST_IMAGE_TAR"])
        subjects[f"`{program} run`"] = lambda program=program, where=where: bare(program, where)
        subjects[f"`davit run --runtime {program}`"] = lambda program=program: through_davit(program)
    for engine in [e for e in ("docker", "podman") if have(e)]:
        argv = [engine, "run", "--rm", "--network", "none", IMAGE, "true"]
        subjects[f"`{engine} run`"] = lambda argv=argv: run(*argv)
    took = {name: [] for name in subjects}
    try:
        for k in range(rounds + 1):
            for name, fn in subjects.items():
                ms = milliseconds(fn)
                if k:  # the first warms up
                    took[name].append(ms)
    finally:
        d.stop()
        d.clean()
    m = {name: median(v) for name, v in took.items()}
    first, own = m.get("`crun run`"), m.get("`davit run --runtime crun`")
    rows = [[name, f"{m[name]:.0f} ms", f"{m[name] / first:.2f}" if first else "",
             f"{m[name] / own:.1f}" if own else ""] for name in m]
    for row in rows:
        say(": ".join(row))
    return ["### A container without an engine", "", f"`true` in a busybox image from the call to its exit, without "
            f"network, {rounds} rounds ({load()}). crun and runc alone get a directory that is there, davit unpacks "
            "nothing either, but mounts an overlay, logs, records, and removes what was.", ""] + table(
        ["", "median", "against bare crun", "against davit with crun"], rows)


# ------------------------------------------------------------------------- engine

class Api:
    """The engine itself, on a connection that stays."""

    def __init__(self, path):
        self.c = http.client.HTTPConnection("engine", timeout=60)
        self.c.sock = socket.socket(socket.AF_UNIX)
        self.c.sock.connect(path)

    def __call__(self, method, path, body=None):
        self.c.request(method, "/v1.41" + path, None if body is None else json.dumps(body),
                       {"Content-Type": "application/json"})
        r = self.c.getresponse()
        text = r.read()
        if r.status >= 300:
            raise Failed(f"{method} {path}: {r.status} {text[:200]!r}")
        return json.loads(text) if text.strip().startswith((b"{", b"[")) else None


# What davit asks for, for the same container.
BODY = {"Image": IMAGE, "Cmd": ["sleep", "1000"], "HostConfig": {
    "NetworkMode": "none", "Init": True, "LogConfig": {"Type": "json-file", "Config": {"max-size": "10m"}},
    "Ulimits": [{"Name": "nofile", "Soft": 1024, "Hard": 1024}, {"Name": "nproc", "Soft": 1024, "Hard": 1024}]}}


def overhead(d, engine, rounds):
    api, raw, own = Api(have(engine)), [], []
    body = dict(BODY)
    if engine == "podman":
        body["HostConfig"] = {k: v for k, v in BODY["HostConfig"].items() if k != "LogConfig"}
    for k in range(rounds + 1):
        ids, name = [], f"{engine}{k}"

        def alone():
            ids.append(api("POST", "/containers/create", body)["Id"])
            api("POST", f"/containers/{ids[0]}/start")

        def by_davit():
            d.davit("run", name, "--runtime", engine, "--image", IMAGE, "--network", "none", "--", "sleep", "1000")

        # What an engine still tidies up of the container before slows the next one: so each comes after the other.
        for fn in (alone, by_davit) if k % 2 else (by_davit, alone):
            (raw if fn == alone else own).append(milliseconds(fn))
            if fn == alone:
                api("DELETE", f"/containers/{ids[0]}?force=1")
            else:
                d.davit("kill", name)
                wait_until("end of " + name, lambda: not json.loads(d.davit("status", "-o", "json")), 60)
    raw, own = raw[1:], own[1:]  # the first warms up
    return median(raw), median(own), median([b - a for a, b in zip(raw, own)])


def hundred(d, engine, rounds):
    """Seconds of `davit ps` and `davit stats` of 100 containers."""
    d.davit("run", "many", "--runtime", engine, "--image", IMAGE, "--network", "none", "-i", "100", "--timeout", "0",
            "--stop-signal", "KILL", "--", "sleep", "100000", timeout=600)
    ps, stats = [], []
    for _ in range(rounds):
        ps.append(milliseconds(lambda: d.davit("ps")))
        stats.append(milliseconds(lambda: d.davit("stats")))
    if len(json.loads(d.davit("stats", "-o", "json"))) != 100:
        raise Failed("statistics of fewer than 100")
    d.davit("kill", "many")
    wait_until("end of 100", lambda: not json.loads(d.davit("status", "-o", "json")), 300, 0.2)
    return median(ps), median(stats)


def engine(rounds):
    rows, lists = [], []
    d = davit()
    try:
        for name in [e for e in ("docker", "podman") if have(e)]:
            raw, own, more = overhead(d, name, rounds)
            rows.append([name, f"{raw:.0f} ms", f"{own:.0f} ms", f"{more:.1f} ms"])
            say(": ".join(rows[-1]))
        for name in [e for e in ("docker", "podman") if have(e)]:
            ps, stats = hundred(d, name, max(3, rounds // 5))
            lists.append([name, f"{ps:.0f} ms", f"{stats:.0f} ms"])
            say(": ".join(lists[-1]))
    finally:
        d.stop()
        d.clean()
    return ["### Containers of engines", "", f"`davit run` from its call to its end, the container running, beside "
            f"create and start through the engine's API on an open connection; {rounds} rounds ({load()}).", ""] + table(
        ["", "API alone", "`davit run`", "median of the differences"], rows) + [
        "", "100 containers of one engine, listed:", ""] + table(["", "`davit ps`", "`davit stats`"], lists)


if __name__ == "__main__":
    print("\n".join({"oci": oci, "engine": engine}[sys.argv[1]](int(sys.argv[2]))))
