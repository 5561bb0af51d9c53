#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The daemon is killed at random moments while containers are made, run, stopped and removed. After it has
come back, nothing is on the machine that belongs to no container: what there is of mounts, network
namespaces, interfaces, addresses, rules, control groups and directories is listed before and after.

test/engines/with-engines runc -- test/torture/oci_leaks.py    (or crun: DAVIT_TEST_CRUN, DAVIT_TEST_RUNC tell)
"""
import os
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from rig import Skip, equal, log, main, rng, wait_until  # noqa: E402

KILLS = int(os.environ.get("TORTURE_KILLS", "20"))


def output(*argv):
    return subprocess.run(argv, capture_output=True, text=True, check=False).stdout


def below(path):
    return sorted(os.listdir(path)) if os.path.isdir(path) else []


def groups():
    found = []
    for path, dirs, _ in os.walk("/sys/fs/cgroup"):
        found += [os.path.join(path, d) for d in dirs if len(d) == 16 and set(d) <= set("0123456789abcdef")]
    return sorted(found)


def loops(home):
    """Files of ours that are devices."""
    found = []
    for name in os.listdir("/sys/block"):
        try:
            with open("/sys/block/%s/loop/backing_file" % name) as f:
                found += [line.strip() for line in f if home.dir in line]
        except OSError:
            pass
    return sorted(found)


def traces(home, runtime):
    """All that a container may leave."""
    run, state = os.path.join(home.dir, "run", runtime), os.path.join(home.dir, "state/runtime", runtime)
    with open("/proc/self/mounts") as f:
        mounts = sorted(line.split()[1] for line in f if home.dir in line)
    networks = os.path.join(home.dir, "state/networks")
    return {
        "mounts": mounts,
        "loop devices": loops(home),
        "interfaces": sorted(line.split()[0] for line in output("ip", "-br", "link").splitlines()),
        "rules": output("nft", "list", "tables"),
        "groups": groups(),
        "bundles": below(run + "/bundles"),
        "engine": below(run + "/engine"),
        "roots": below(state + "/roots"),
        "notify": below(run + "/notify"),
        "addresses": [a for n in below(networks) for a in below(os.path.join(networks, n, "addresses"))],
        "holds": below(os.path.join(home.dir, "state/images/holds")),
        "image jobs": below(os.path.join(home.dir, "state/images/tmp")),
        "images": below(os.path.join(home.dir, "state/images/layers")),
    }


def runtime_under_test():
    for name in ("crun", "runc"):
        if os.environ.get("DAVIT_TEST_" + name.upper()):
            return name
    raise Skip(os.environ.get("DAVIT_TEST_NO_RUNC") or os.environ.get("DAVIT_TEST_NO_CRUN")
               or "not run by test/engines/with-engines")


def work(runtime, n):
    """Some commands, one after the other, of which any may be cut off."""
    name = "c%d" % n
    image = ("--runtime", runtime, "--image", "localhost/bb:1")
    other = rng.randint(0, 5)
    if other == 0:
        return [("load", "--runtime", runtime, os.environ["DAVIT_TEST_IMAGE_TAR"])]
    if other == 1:
        net = "n%d" % n
        return [("network", "create", net, "--runtime", runtime),
                ("run", name, *image, "--network", net, "--", "sleep", "1000"),
                ("kill", name), ("network", "rm", net, "--runtime", runtime)]
    words = rng.choice([("true",), ("sleep", "1000"), ("sh", "-c", "exit 3")])
    network = rng.choice([(), (), ("--network", "none")])
    disk = rng.choice([(), (), ("--disk", "8Mi")])
    return [("run", name, *image, *network, *disk, "--restart", rng.choice(["never", "always"]), "--", *words),
            ("stop", name), ("kill", name)][:rng.randint(1, 3)]


def test_kills_of_the_daemon_leak_nothing(home):
    """kills of the daemon while containers, networks and images come and go leave nothing behind"""
    runtime = runtime_under_test()
    home.start_daemon()
    home.cli("load", "--runtime", runtime, os.environ["DAVIT_TEST_IMAGE_TAR"])
    before = traces(home, runtime)
    names = 0
    for kill in range(KILLS):
        running = []
        for _ in range(3):
            names += 1
            running.append(subprocess.Popen(
                ["sh", "-c", " ; ".join(" ".join("'%s'" % w for w in ["davit", *c])
                                        for c in work(runtime, names))],
                env=home.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=home.work,
                start_new_session=True))
        time.sleep(rng.uniform(0.0, 0.25))
        # The clients first: one that finds no daemon starts one.
        for p in running:
            os.killpg(p.pid, signal.SIGKILL)
            p.wait()
        time.sleep(rng.choice([0, 0.002, 0.01]))
        home.kill_daemon()
        home.start_daemon()
    left = [s["name"] for s in home.json("status")]
    home.cli("load", "--runtime", runtime, os.environ["DAVIT_TEST_IMAGE_TAR"])  # takes away what others left
    log("%d services were made, %d are there" % (names, len(left)))
    for name in left:
        home.cli("kill", name, check=False)
    try:
        wait_until(lambda: differences(before, traces(home, runtime)) == {})
    except AssertionError:
        pass  # what is left is said below
    equal(differences(before, traces(home, runtime)), {}, "left behind")


# Says when it begins to delete and when it has, and takes its time.
SLOW = """#!/bin/sh
case " $* " in
*" delete "*)
	echo begin >> %(log)s
	sleep 0.7
	%(program)s "$@"
	echo end >> %(log)s
	;;
*)
	exec %(program)s "$@"
	;;
esac
"""


def test_a_deletion_that_outlives_its_daemon_is_waited_for(home):
    """a deletion that outlives the daemon that began it does not touch the run after"""
    runtime = runtime_under_test()
    if runtime == "crun":
        raise Skip("crun is not needed to delete what has ended")
    said = os.path.join(home.work, "said")
    slow = os.path.join(home.work, runtime)
    with open(slow, "w") as f:
        f.write(SLOW % {"log": said, "program": os.environ["DAVIT_TEST_" + runtime.upper()]})
    os.chmod(slow, 0o755)
    env = {"DAVIT_OCI_RUNTIME": slow}
    home.start_daemon(env)
    home.cli("load", "--runtime", "oci", os.environ["DAVIT_TEST_IMAGE_TAR"])
    home.sh("again", "[ -e /data/again ] && exec sleep 1000; touch /data/again; exit 1", "--runtime", "oci", "--image",
            "localhost/bb:1", "--network", "none", "--restart", "always", "-v", "data:/data")
    wait_until(lambda: os.path.exists(said), "the first run's container is being deleted")
    home.kill_daemon()
    home.start_daemon(env)
    wait_until(lambda: home.status("again")["instances"][0]["run"] == 2, "the second run")
    with open(said) as f:
        words = f.read().split()
    equal(words, ["begin", "end"] * (len(words) // 2), "deletions one after the other, before the run")
    pid = wait_until(lambda: home.pid("again"))
    equal((home.pid("again"), home.status("again")["instances"][0]["run"]), (pid, 2), "the run goes on")


def differences(before, after):
    return {k: (before[k], after[k]) for k in before if before[k] != after[k]}


if __name__ == "__main__":
    main(globals())
