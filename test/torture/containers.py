# SPDX-License-Identifier: MIT
"""What the tortures of docker, podman, crun and runc share: which of them are here, services of them,
and what an engine itself says of containers. Beneath test/engines/with-engines."""
import json
import os
import subprocess
import time

from rig import Home, Skip, check, equal, wait_until

ENGINES, RUNTIMES = ("docker", "podman"), ("docker", "podman", "crun", "runc")
IMAGE = os.environ.get("DAVIT_TEST_IMAGE", "")


def need(runtime):
    """Skips, with the reason that was probed, where it is not to be had."""
    name = "DAVIT_TEST_" + runtime.upper() + ("_SOCKET" if runtime in ENGINES else "")
    if not os.environ.get(name):
        raise Skip(os.environ.get("DAVIT_TEST_NO_" + runtime.upper(), "not run by test/engines/with-engines"))


def for_each(names, runtimes):
    """For each function `each_WHAT(home, runtime)` in names a test of each runtime, `test_WHAT_RUNTIME(home)`."""
    def one(fn, runtime):
        def test(home):
            need(runtime)
            home.prepare(runtime)
            fn(home, runtime)
        test.__doc__ = "%s: %s" % (runtime, " ".join(fn.__doc__.split()))
        test.__name__ = "test_%s_%s" % (fn.__name__[5:], runtime)
        return test
    for fn in [f for n, f in list(names.items()) if n.startswith("each_")]:
        for runtime in getattr(fn, "runtimes", runtimes):
            test = one(fn, runtime)
            names[test.__name__] = test


def only(*runtimes):
    def mark(fn):
        fn.runtimes = runtimes
        return fn
    return mark


def output(*argv, check=True):
    return subprocess.run(argv, capture_output=True, text=True, check=check, timeout=120).stdout


def engine_ctl(runtime, verb):
    subprocess.run(["engine-ctl", runtime, verb], check=True, timeout=120)


class ContainersHome(Home):
    """One in which daemon and command line find the engines."""

    def __init__(self):
        super().__init__()
        for name in ENGINES:
            if os.environ.get("DAVIT_TEST_%s_SOCKET" % name.upper()):
                self.env["DAVIT_%s_SOCKET" % name.upper()] = os.environ["DAVIT_TEST_%s_SOCKET" % name.upper()]

    def opened(self, runtime):
        """Waits until the runtime is there: a daemon goes on without one that is slow to answer."""
        wait_until(lambda: self.cli("images", "--runtime", runtime), runtime + " is open")

    def prepare(self, runtime):
        self.start_daemon()
        self.opened(runtime)
        if runtime not in ENGINES:
            self.cli("load", "--runtime", runtime, os.environ["DAVIT_TEST_IMAGE_TAR"])

    def create(self, specs):
        code, answer = self.api("POST", "/v1/services?mode=create", specs)
        check(code in (200, 201), "creation", code, answer)

    def word(self, runtime):
        """The label that tells this home's containers from others'."""
        with open(os.path.join(self.dir, "state/runtime", runtime, "home")) as f:
            return f.read()

    def containers(self, runtime):
        """What the engine has of ours: [{"id", "instance", "service", "state"}]."""
        if runtime in ENGINES:
            found = output(runtime, "ps", "-a", "--no-trunc", "--filter", "label=davit.home=" + self.word(runtime),
                           "--format", '{{.ID}} {{.Label "davit.id"}} {{.Label "davit.service"}} {{.State}}'
                           if runtime == "docker" else
                           '{{.ID}} {{index .Labels "davit.id"}} {{index .Labels "davit.service"}} {{.State}}')
            found = [dict(zip(("id", "instance", "service", "state"), line.split())) for line in found.splitlines()]
            return [dict(c, state="running" if c["state"] == "Up" else c["state"]) for c in found]  # podman: Up 3 s
        def listed():
            try:
                return output(runtime, "--root", self.root_of(runtime), "list", "-f", "json").strip() or "null"
            except subprocess.CalledProcessError:
                return None  # runc's list fails when a container goes while it looks
        found = json.loads(wait_until(listed, "%s list" % runtime, 0.05)) or []
        # Each start has a container of its own: the instance's id, and a number.
        return [{"id": c["id"], "instance": c["id"].split("-")[0], "service": "", "state": c["status"]} for c in found]

    def root_of(self, runtime):
        return os.path.join(self.dir, "run", runtime, "engine")

    def delete_behind(self, runtime, container):
        if runtime in ENGINES:
            output(runtime, "rm", "-f", container)
        else:
            # It kills, then deletes: davit may have noticed the end by then and deleted it first.
            output(runtime, "--root", self.root_of(runtime), "delete", "-f", container, check=False)
            wait_until(lambda: container not in [c["id"] for c in self.containers(runtime)], "it is deleted", 0.05)


def spec(runtime, name, script, restart="always", **more):
    """A shell that runs a script; its failures are followed by a restart at once, nearly."""
    return dict({"name": name, "image": IMAGE, "runtime": runtime, "command": ["sh", "-c", script],
                 "restart": {"policy": restart, "backoff": {"initial": "20ms", "max": "100ms"}}
                 if isinstance(restart, str) else restart,
                 "stop": {"grace": "3s"}}, **more)


# Goes on until it is told to end, at once.
LASTS = 'trap "exit %d" TERM; sleep 100000 & wait'


def no_doubles(home, runtime, expected=None):
    """One container at most for each instance, and for each service as many as it has instances."""
    found = []

    def single():  # what is left of a start goes before or soon after the next
        found[:] = home.containers(runtime)
        ids = [c["instance"] for c in found]
        return sorted(ids) == sorted(set(ids))
    wait_until(single, "no instance has several containers", 0.1)
    if expected is not None:
        equal(sorted(c["service"] for c in found), sorted(expected), "containers, by the service in their label")


def agree(home, runtime):
    """What davit says of each instance is what the engine says. A moment's difference is none: the engine
    is asked before and after."""
    for _ in range(3):
        before = {c["instance"]: c["state"] == "running" for c in home.containers(runtime)}
        told = {i["id"]: i["state"] == "started" for i in home.json("ps")}
        after = {c["instance"]: c["state"] == "running" for c in home.containers(runtime)}
        wrong = {k: (before[k], told.get(k)) for k in before if before[k] == after.get(k) and told.get(k) != before[k]}
        wrong.update({k: ("not there", told[k]) for k in told if told[k] and k not in before and k not in after})
        if not wrong:
            return True
        time.sleep(0.05)
    raise AssertionError("engine and davit disagree: %r" % wrong)
