#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A davitd and a Podman that are not root's: their user is a plain one, made in an /etc of the run's own.

    test/engines/with-engines podman -- test/torture/podman_rootless.py
"""
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.request

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import rig  # noqa: E402
from containers import need  # noqa: E402
from oci_rootless import AS_USER, IMAGE, UID, UserHome, ended  # noqa: E402
from rig import Skip, check, equal, main, wait_until  # noqa: E402

SERVICE = ("--runtime", "podman", "--image", IMAGE)
TUN = "/dev/net/tun"


def let_in():
    """What a machine gives a user that logs in, and here the namespace of the run: an account with subordinate
    ids, a directory for its sockets, and the device that networks without root are made with."""
    try:
        pwd.getpwuid(UID)
    except KeyError:
        subprocess.run(["useradd", "-M", "-u", str(UID), "davit-test"], check=True, capture_output=True)
    runtime_dir = "/run/user/%d" % UID
    os.makedirs(runtime_dir, exist_ok=True)
    os.chown(runtime_dir, UID, UID)
    if not os.stat(TUN).st_mode & 0o002:
        devices = os.path.join(os.environ["DAVIT_TEST_ENGINES"], "devices")
        os.mkdir(devices)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755,dev", "devices", devices], check=True)
        subprocess.run(["mknod", "-m", "666", devices + "/tun", "c", "10", "200"], check=True)
        subprocess.run(["mount", "--bind", devices + "/tun", TUN], check=True)
    return runtime_dir


class PodmanHome(UserHome):
    """With a Podman service of the same user's."""
    service = None

    def serve(self):
        need("podman")
        runtime_dir = let_in()
        theirs = os.environ["DAVIT_TEST_ENGINES"] + "/podman"
        self.podman = where = tempfile.mkdtemp(prefix="rootless-", dir=os.environ["DAVIT_TEST_ENGINES"])
        for name in ("root", "run", "networks", "tmp"):
            os.makedirs(os.path.join(where, name))
        for name in ("containers.conf", "storage.conf"):
            with open(os.path.join(theirs, name)) as f, open(os.path.join(where, name), "w") as to:
                # The monitor of a command outlives that by so much, else by minutes.
                to.write(f.read().replace(theirs, where).replace("[engine]", "[engine]\nexit_command_delay = 3"))
        for path, _, names in os.walk(where):
            for p in [path] + [os.path.join(path, n) for n in names]:
                os.chown(p, UID, UID)
        for name in ("CONTAINER_HOST", "DOCKER_HOST"):
            self.env.pop(name, None)
        self.env.update(XDG_RUNTIME_DIR=runtime_dir, CONTAINERS_CONF=where + "/containers.conf",
                        CONTAINERS_STORAGE_CONF=where + "/storage.conf", DAVIT_PODMAN_SOCKET=where + "/podman.sock")
        self.start_service()
        self.start_daemon()
        wait_until(lambda: self.cli("images", "--runtime", "podman", check=False).returncode == 0, "podman is open")
        self.cli("load", "--runtime", "podman", "image.tar")

    def start_service(self):
        with open(self.podman + "/log", "ab") as log:
            self.service = subprocess.Popen(
                ["podman", "system", "service", "--time=0", "unix://" + self.env["DAVIT_PODMAN_SOCKET"]], cwd=self.work,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.env, start_new_session=True, **AS_USER)
        wait_until(lambda: os.path.exists(self.env["DAVIT_PODMAN_SOCKET"]) or self.service.poll() is not None,
                   "the service listens")
        if self.service.poll() is not None:
            with open(self.podman + "/log") as f:
                raise Skip("no Podman without root here: " + f.read().strip()[-300:])

    def stop_service(self, sig=signal.SIGTERM):
        os.killpg(self.service.pid, sig)  # in a user namespace it is two processes
        self.service.wait(60)
        if os.path.exists(self.env["DAVIT_PODMAN_SOCKET"]):
            os.unlink(self.env["DAVIT_PODMAN_SOCKET"])

    def close(self):
        if not self.service:
            return super().close()
        self.cli("daemon", "stop", "--all", check=False)
        self.stop_service()
        wait_until(lambda: not any("conmon" in line for line in self.ours().values()), "its monitors are gone")
        for pid in [pid for pid, line in self.ours().items() if "catatonit" in line or line.startswith("podman")]:
            os.kill(pid, signal.SIGKILL)  # holds the user's namespaces for the next time
        shutil.rmtree(self.podman, ignore_errors=True)
        return super().close()


def test_a_service_is_as_root_s(home):
    """without root a service runs, answers on its port, is told of, survives the daemon and Podman's service"""
    home.serve()
    home.cli("run", "bad", *SERVICE, "--restart", "never", "--", "sh", "-c", "exit 7", check=False)
    equal(ended(home, "bad")["code"], 7)
    home.cli("run", "web", *SERVICE, "-p", "18080:80", "-v", "data:/data", "--", "httpd", "-f", "-p", "80", "-h", "/www")

    def answer():
        return urllib.request.urlopen("http://127.0.0.1:18080/", timeout=30).read()
    wait_until(lambda: b"busybox" in answer(), "the port answers")
    pid = home.pid("web")
    equal(os.stat("/proc/%d" % pid).st_uid, UID)
    equal(home.cli("exec", "web", "--", "sh", "-c", "echo kept >/data/x; id -u").stdout, "0\n")
    home.cli("cp", "image.tar", "web:/tmp/in")
    home.kill_daemon()
    home.start_daemon()
    wait_until(lambda: home.instances("web") and home.pid("web") == pid, "it is taken over")
    home.stop_service(signal.SIGKILL)
    home.start_service()
    wait_until(lambda: home.cli("exec", "web", "--", "cat", "/data/x", check=False).stdout == "kept\n",
               "it is reached again")
    equal(home.pid("web"), pid)
    check(b"busybox" in answer(), "the port still answers")
    home.cli("stop", "web")
    home.cli("start", "web")
    wait_until(lambda: home.instances("web")[0]["state"] == "started" and home.pid("web") != pid)


def test_what_cannot_be_is_said(home):
    """without root, on control groups of version 1, limits, statistics and pauses are refused with the reason"""
    home.serve()
    podman = next(r for r in home.json("runtimes") if r["name"] == "podman")
    if next(c for c in podman["capabilities"] if c["name"] == "memory-limit")["supported"]:
        raise Skip("this machine has control groups of version 2")
    for option in (("--memory", "64Mi"), ("--cpu", "500m"), ("--pids", "10")):
        p = home.cli("run", "no", *SERVICE, *option, "--", "true", check=False)
        check(p.returncode and "control groups of version 1" in p.stderr, "no reason was given", option, p.stderr)
    home.cli("run", "web", *SERVICE, "--", "sleep", "1000")
    p = home.cli("pause", "web", check=False)
    check(p.returncode and "control groups of version 1" in p.stderr, "a pause", p.stderr)
    p = home.cli("stats", check=False)
    check(p.returncode and "control groups of version 1" in p.stderr, "statistics of what is not its own", p.stdout)


def test_a_dockerfile_is_built(home):
    """without root a source with a Dockerfile is built and runs"""
    home.serve()
    os.mkdir(home.work + "/src")
    with open(home.work + "/src/Dockerfile", "w") as f:
        f.write("FROM %s\nRUN id -u >/built\nCMD [\"sleep\", \"1000\"]\n" % IMAGE)
    home.cli("run", "web", "--runtime", "podman", "--source", "src", "--stop-grace", "100ms")
    equal(home.cli("exec", "web", "--", "cat", "/built").stdout, "0\n")


if __name__ == "__main__":
    main(globals(), PodmanHome)
