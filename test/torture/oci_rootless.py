#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Containers of a davitd that does not run as root: its user is a plain one, made in an /etc of the run's own.

test/engines/with-engines runc -- test/torture/oci_rootless.py    (or crun: DAVIT_TEST_CRUN, DAVIT_TEST_RUNC tell)
"""
import os
import pwd
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import rig  # noqa: E402
from oci_leaks import runtime_under_test  # noqa: E402
from rig import Home, Skip, check, equal, main, wait_until  # noqa: E402

UID = 47110
AS_USER = {"user": UID, "group": UID, "extra_groups": []}
IMAGE = "localhost/bb:1"


class UserHome(Home):
    """A home whose daemon and commands are the user's."""

    def __init__(self, where=None):
        super().__init__(where)
        self.env["HOME"] = self.work
        shutil.copy(os.environ["DAVIT_TEST_IMAGE_TAR"], self.work + "/image.tar")
        for path, _, names in os.walk(self.dir):
            for p in [path] + [os.path.join(path, n) for n in names]:
                os.chown(p, UID, UID)

    def cli(self, *args, check=True, input=None, timeout=60, env=None, cwd=None):
        p = subprocess.run([os.path.join(rig.BUILD, "davit")] + [str(a) for a in args], cwd=cwd or self.work,
                           timeout=timeout, env=dict(self.env, **(env or {})), capture_output=True, text=True,
                           input=input or "", **AS_USER)
        if check and p.returncode:
            raise rig.CommandError(args, p)
        return p

    def start_daemon(self, env=None, wait=True):
        with open(os.path.join(self.dir, "davitd.err"), "ab") as f:
            self.daemon = subprocess.Popen([os.path.join(rig.BUILD, "davitd")], cwd="/", stdin=subprocess.DEVNULL,
                                           stdout=f, stderr=f, env=self.env, start_new_session=True, **AS_USER)
        wait_until(self.answers, 20, "the daemon answers")
        return self.daemon


def begin(home):
    runtime = runtime_under_test()
    try:
        pwd.getpwuid(UID)
    except KeyError:
        subprocess.run(["useradd", "-M", "-u", str(UID), "davit-test"], check=True, capture_output=True)
    try:
        subprocess.run([os.path.join(rig.BUILD, "davit"), "--version"], check=True, capture_output=True, **AS_USER)
        subprocess.run(["unshare", "-Ur", "true"], check=True, capture_output=True, **AS_USER)
    except (OSError, subprocess.CalledProcessError) as e:
        raise Skip("another user can have no namespaces, or not run %s: %s" % (rig.BUILD, e)) from e
    home.start_daemon()
    home.cli("load", "--runtime", runtime, "image.tar")
    return ("--runtime", runtime, "--image", IMAGE)


def ended(home, name):
    wait_until(lambda: home.status(name)["status"] in ("stopped", "error"), 10, name + " ends")
    return home.instances(name)[0]["exit"]


def test_a_service_runs(home):
    """without root an image is loaded, and programs run as root of a user namespace, end and are told"""
    image = begin(home)
    home.cli("run", "ok", *image, "--restart", "never", "--", "true")
    home.cli("run", "bad", *image, "--restart", "never", "--", "sh", "-c", "exit 7", check=False)
    equal(ended(home, "ok")["code"], 0)
    equal(ended(home, "bad")["code"], 7)
    home.cli("run", "web", *image, "--", "sh", "-c", "echo I am $(id -u); exec sleep 1000")
    wait_until(lambda: "I am 0" in home.cli("logs", "web").stdout)
    equal(os.stat("/proc/%d" % home.pid("web")).st_uid, UID)
    equal(home.cli("exec", "web", "--", "id", "-u").stdout, "0\n")
    home.cli("stop", "web")
    home.cli("start", "web")
    wait_until(lambda: home.instances("web")[0]["state"] == "started")
    home.kill_daemon()
    home.start_daemon()
    wait_until(lambda: home.instances("web")[0]["state"] == "started")
    home.cli("kill", "web")


def test_networks(home):
    """without root there are the networks none and host; ports and others are refused with the reason"""
    image = begin(home)
    home.cli("run", "none", *image, "--network", "none", "--restart", "never", "--", "ls", "/sys/class/net")
    home.cli("run", "host", *image, "--network", "host", "--restart", "never", "--", "ls", "/sys/class/net")
    ended(home, "none")
    ended(home, "host")
    equal(home.cli("logs", "none").stdout.split(), ["lo"])
    equal(home.cli("logs", "host").stdout.split(), sorted(os.listdir("/sys/class/net")))
    for option in (("-p", "18080:80"), ("--network", "bridge"), ("--user", "1000")):
        p = home.cli("run", "no", *image, *option, "--", "true", check=False)
        check(p.returncode != 0 and "root" in p.stderr, "no reason was given", option, p.stderr)
    p = home.cli("network", "create", "net", *image[:2], check=False)
    check(p.returncode != 0 and "root" in p.stderr, "a network was made", p.stderr)


def test_files_and_volumes(home):
    """without root files are copied in and out, running and stopped, and volumes keep what is written"""
    image = begin(home)
    home.cli("run", "web", *image, "-v", "data:/data", "--", "sleep", "1000")
    wait_until(lambda: home.instances("web")[0]["state"] == "started")
    home.cli("exec", "web", "--", "sh", "-c", "echo one >/data/one; mkdir /tmp/closed; touch /tmp/closed/x; "
             "chmod 000 /tmp/closed")
    for state in ("running", "stopped"):
        home.cli("cp", "image.tar", "web:/tmp/" + state)
        home.cli("cp", "image.tar", "web:/data/" + state)
        home.cli("cp", "web:/tmp/" + state, "back")
        with open(home.work + "/back", "rb") as a, open(home.work + "/image.tar", "rb") as b:
            check(a.read() == b.read(), "it came back changed")
        if state == "running":
            home.cli("stop", "web")
    home.cli("kill", "web")
    wait_until(lambda: not home.json("status"))
    home.cli("run", "again", *image, "-v", "data:/data", "--restart", "never", "--", "ls", "/data")
    ended(home, "again")
    equal(home.cli("logs", "again").stdout.split(), ["one", "running", "stopped"])
    roots = os.path.join(home.dir, "state/runtime", image[1], "roots")
    home.cli("kill", "again")
    wait_until(lambda: not os.listdir(roots), 10, "the roots are gone, closed directories and all")


if __name__ == "__main__":
    main(globals(), UserHome)
