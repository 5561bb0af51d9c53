#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Containers of a davitd that does not run as root: its user is a plain one, made in an /etc of the run's own.

test/engines/with-engines runc -- test/torture/oci_rootless.py    (or crun: DAVIT_TEST_CRUN, DAVIT_TEST_RUNC tell)
"""
import os
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import urllib.request

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import rig  # noqa: E402
from oci_leaks import runtime_under_test  # noqa: E402
from rig import PATIENCE, Home, Skip, check, equal, main, wait_until  # noqa: E402

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

    def cli(self, *args, check=True, input=None, timeout=PATIENCE, env=None, cwd=None):
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
        wait_until(self.answers, "the daemon answers")
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
    wait_until(lambda: home.status(name)["status"] in ("stopped", "error"), name + " ends")
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
    """without root there are the networks none and host; others by name are refused with the reason"""
    image = begin(home)
    home.cli("run", "none", *image, "--network", "none", "--restart", "never", "--", "ls", "/sys/class/net")
    home.cli("run", "host", *image, "--network", "host", "--restart", "never", "--", "ls", "/sys/class/net")
    ended(home, "none")
    ended(home, "host")
    equal(home.cli("logs", "none").stdout.split(), ["lo"])
    equal(home.cli("logs", "host").stdout.split(), sorted(os.listdir("/sys/class/net")))
    for option in (("--network", "mine"), ("--user", "1000")):
        p = home.cli("run", "no", *image, *option, "--", "true", check=False)
        check(p.returncode != 0 and "root" in p.stderr, "no reason was given", option, p.stderr)
    p = home.cli("network", "create", "net", *image[:2], check=False)
    check(p.returncode != 0 and "root" in p.stderr, "a network was made", p.stderr)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def fetch(port):
    with urllib.request.urlopen("http://127.0.0.1:%d/" % port, timeout=30) as r:
        return r.read().decode()


def slirps(home):
    """The processes that stand for networks of this home."""
    return [p for p in rig.processes() if b"/slirp" in rig.read("/proc/%d/cmdline" % p)
            and home.dir.encode() in rig.read("/proc/%d/cmdline" % p)]


def open_tun(home):
    """For everybody, as on a usual machine, in our mount namespace."""
    tun = os.path.join(home.dir, "tun")
    os.mknod(tun, stat.S_IFCHR | 0o666, os.makedev(10, 200))
    os.chmod(tun, 0o666)
    subprocess.run(["mount", "--bind", tun, "/dev/net/tun"], check=True)
    home.cleanups.append(lambda: subprocess.run(["umount", "/dev/net/tun"], check=True))


class Outside:
    """A host of the outside world, as far as a container can tell: an address of this machine that is not of
    its loopback network, with a name server and a web server."""
    ADDRESS = "192.0.2.7"

    def __init__(self):
        subprocess.run(["ip", "address", "replace", self.ADDRESS + "/32", "dev", "lo"], check=True)
        self.resolver = "/etc/resolv.conf"
        self.before = rig.read(self.resolver)
        with open(self.resolver, "w") as f:
            f.write("nameserver %s\n" % self.ADDRESS)
        self.dns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.dns.bind((self.ADDRESS, 53))
        self.web = socket.create_server((self.ADDRESS, 0))
        self.threads = [threading.Thread(target=t, daemon=True) for t in (self.serve_names, self.serve_pages)]
        for t in self.threads:
            t.start()

    def serve_names(self):
        while True:
            try:
                query, client = self.dns.recvfrom(512)
            except OSError:
                return
            if not query:  # see close()
                return
            end = query.index(b"\0", 12) + 5
            is_a = query[end - 4:end] == b"\0\1\0\1"
            self.dns.sendto(query[:2] + b"\x81\x80\0\1" + (b"\0\1" if is_a else b"\0\0") + bytes(4) + query[12:end] + (
                b"\xc0\x0c\0\1\0\1\0\0\0\1\0\4" + socket.inet_aton(self.ADDRESS) if is_a else b""), client)

    def serve_pages(self):
        while True:
            try:
                c, _ = self.web.accept()
            except OSError:
                return
            c.recv(1000)
            c.sendall(b"HTTP/1.0 200 OK\r\n\r\nfrom outside\n")
            c.close()

    def close(self):
        with open(self.resolver, "wb") as f:
            f.write(self.before)
        # The port is free when nobody waits on it any more.
        self.dns.sendto(b"", (self.ADDRESS, 53))
        self.web.shutdown(socket.SHUT_RDWR)
        for t in self.threads:
            t.join()
        self.dns.close()
        self.web.close()
        subprocess.run(["ip", "address", "del", self.ADDRESS + "/32", "dev", "lo"], check=True)


def test_a_network_that_leads_out(home):
    """without root slirp4netns leads out, resolves names and forwards ports, and ends with its container"""
    if not shutil.which("slirp4netns"):
        raise Skip("slirp4netns is not installed")
    open_tun(home)
    image = begin(home)
    port, outside = free_port(), Outside()
    home.cleanups.append(outside.close)
    httpd = ("httpd", "-f", "-p", "80", "-h", "/www")
    home.cli("run", "web", *image, "-p", "%d:80" % port, "--", *httpd)
    page = wait_until(lambda: fetch(port), "the port is forwarded")
    check("404" not in page and page, "a page comes", page)
    equal(home.cli("exec", "web", "--", "wget", "-q", "-O", "-", "http://%s:%d/" % (
        outside.ADDRESS, outside.web.getsockname()[1])).stdout, "from outside\n")
    check(outside.ADDRESS in home.cli("exec", "web", "--", "nslookup", "some.name.example").stdout, "a name is resolved")
    p = home.cli("exec", "web", "--", "wget", "-q", "-T", "2", "-O", "-", "http://10.0.2.2:%d/" % port, check=False)
    check(p.returncode != 0, "the host's loopback is closed to it", p.stdout)
    p = home.cli("run", "second", *image, "-p", "%d:80" % port, "--", *httpd, check=False)
    check("port %d is already in use" % port in p.stderr, "a taken port is refused", p.stderr)
    # It is the container's, not davitd's; and each run has its own.
    home.kill_daemon()
    check(fetch(port), "it goes on without the daemon")
    home.start_daemon()
    check(fetch(port), "and with the next one")
    home.cli("stop", "web")
    wait_until(lambda: not slirps(home), "its network has ended")
    home.cli("start", "web")
    wait_until(lambda: fetch(port), "the next run's port is forwarded")
    os.kill(wait_until(lambda: home.pid("web")), signal.SIGKILL)
    wait_until(lambda: fetch(port), "and that of the one after")
    home.cli("kill", "web")
    wait_until(lambda: not home.json("status") and not slirps(home), "nothing is left")
    bundles = os.path.join(home.dir, "run", image[1], "bundles")
    wait_until(lambda: not os.listdir(bundles), "no file is left")


def test_a_policy_of_egress(home):
    """without root a policy lets a container reach what it names and nothing else, and holds its root to it"""
    if not shutil.which("slirp4netns") or not shutil.which("nft", path="/usr/sbin:/usr/bin:/sbin"):
        raise Skip("slirp4netns or nft is not installed")
    open_tun(home)
    image = begin(home)
    outside = Outside()
    home.cleanups.append(outside.close)
    port = outside.web.getsockname()[1]
    fetched = {}
    for name, more in (("open", ()), ("shut", ("--egress", "deny")), ("other", ("--egress", "deny", "--allow-host",
                       "%s:%d" % (outside.ADDRESS, port + 1))), ("let", ("--egress", "deny", "--allow-host",
                       "%s:%d" % (outside.ADDRESS, port)))):
        home.cli("run", name, *image, *more, "--", "sleep", "1000")
        wait_until(lambda: "default" in home.cli("exec", name, "--", "ip", "route", check=False).stdout,
                   "there is a network")
        fetched[name] = home.cli("exec", name, "--", "wget", "-q", "-O", "-", "http://%s:%d/" % (
            outside.ADDRESS, port), check=False).stdout
    equal(fetched, {"open": "from outside\n", "shut": "", "other": "", "let": "from outside\n"})
    p = home.cli("exec", "let", "--", "ip", "link", "set", "tap0", "down", check=False)
    check(p.returncode != 0, "its root has no power over its network", p.stdout)


def test_a_network_that_does_not_come_up(home):
    """without root a program is not started without its network, and the end of the run says why"""
    slirp = shutil.which("slirp4netns")
    if not slirp:
        raise Skip("slirp4netns is not installed")
    broken = os.path.join(home.dir, "broken")
    with open(broken, "w") as f:
        f.write("#!/bin/sh\necho broken on purpose >&2\nexit 1\n")
    os.chmod(broken, 0o755)
    open_tun(home)
    image = begin(home)
    subprocess.run(["mount", "--bind", broken, slirp], check=True)
    home.cleanups.append(lambda: subprocess.run(["umount", slirp], check=True))
    home.cli("run", "web", *image, "--restart", "never", "--", "touch", "/started", check=False)
    end = ended(home, "web")
    check("cannot set up the network" in end["reason"] and "broken on purpose" in end["reason"], "the reason", end)
    roots = os.path.join(home.dir, "state/runtime", image[1], "roots")
    check(not [d for d in os.listdir(roots) if os.path.exists(os.path.join(roots, d, "root/started"))], "it was started")


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
    wait_until(lambda: not os.listdir(roots), "the roots are gone, closed directories and all")


if __name__ == "__main__":
    main(globals(), UserHome)
