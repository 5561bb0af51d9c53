#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What a workload may connect to. Two hosts, each in a network namespace of its own, stand for one that is
allowed and one that is not; without a policy both are reached.

test/engines/with-engines crun runc -- test/torture/egress.py crun runc    (or process)
"""
import atexit
import contextlib
import functools
import os
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from oci_leaks import differences, traces  # noqa: E402
from rig import Skip, check, equal, main, wait_until  # noqa: E402

RUNTIMES = [a for a in sys.argv[1:] if a in ("crun", "runc", "process")]
TOOLS = ["busybox"] if "process" in RUNTIMES else []  # in the image each has a name of its own
ALLOWED, DENIED = "198.51.100.2", "203.0.113.2"
NAMESPACE = b"kind: Namespace\nname: acme\negress: "
SERVER = """
import http.server, socketserver, sys
class H(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(sys.argv[1].encode())
    def log_message(self, *a): pass
class S(socketserver.ThreadingTCPServer):
    daemon_threads = allow_reuse_address = True
other = S((sys.argv[1], 81), H)
import threading
threading.Thread(target=other.serve_forever, daemon=True).start()
S((sys.argv[1], 80), H).serve_forever()
"""


def run(*argv):
    subprocess.run(argv, check=True, capture_output=True)


class World:
    """Both hosts, behind this machine, and their names in its hosts file."""

    def __init__(self):
        self.servers, self.links = [], []
        run("mount", "--make-rprivate", "/")
        os.makedirs("/run/netns", exist_ok=True)
        with open("/proc/sys/net/ipv4/ip_forward", "w") as f:
            f.write("1")
        for address in (ALLOWED, DENIED):
            name = "out" + address.split(".")[0]
            ours = address.rsplit(".", 1)[0] + ".1"
            run("ip", "netns", "add", name)
            run("ip", "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name)
            run("ip", "address", "add", ours + "/24", "dev", name)
            run("ip", "link", "set", name, "up")
            for words in (["link", "set", "lo", "up"], ["address", "add", address + "/24", "dev", "eth0"],
                          ["link", "set", "eth0", "up"], ["route", "add", "default", "via", ours]):
                run("ip", "-n", name, *words)
            self.links.append(name)
            self.servers.append(subprocess.Popen(
                ["ip", "netns", "exec", name, sys.executable, "-c", SERVER, address]))
            wait_until(lambda: b"200" in subprocess.run(
                ["curl", "-sI", "-X", "GET", "-m", "2", "http://%s/" % address], capture_output=True).stdout)
        self.hosts = open("/etc/hosts").read()
        with open("/etc/hosts", "a") as f:
            f.write("\n%s allowed.test\n%s denied.test\n" % (ALLOWED, DENIED))

    def close(self):
        for p in self.servers:
            p.kill()
            p.wait()
        for name in self.links:
            run("ip", "link", "del", name)
            run("ip", "netns", "del", name)
        with open("/etc/hosts", "w") as f:
            f.write(self.hosts)


@functools.lru_cache
def world():
    w = World()
    atexit.register(w.close)
    return w


def options(runtime):
    """What makes a service run on it at all."""
    if runtime == "process":
        return ("--runtime", "process", "--user", "nobody")
    return ("--runtime", runtime, "--image", "localhost/bb:1")


def each(home):
    """Each runtime that this machine has, with the home's daemon, beside the world."""
    if not RUNTIMES:
        raise Skip("no runtime was named")
    if not os.environ.get("DAVIT_TEST_ENGINES"):
        raise Skip("not run by test/engines/with-engines")
    world()
    home.start_daemon()
    for runtime in RUNTIMES:
        if runtime in ("crun", "runc"):
            if not os.environ.get("DAVIT_TEST_" + runtime.upper()):
                continue
            home.cli("load", "--runtime", runtime, os.environ["DAVIT_TEST_IMAGE_TAR"])
        yield runtime


@contextlib.contextmanager
def service(home, runtime, *more, name="web", keep=False):
    home.cli("run", name, *options(runtime), *more, "--", "sleep", "1000", timeout=120)
    try:
        yield
    finally:
        if not keep:
            home.cli("kill", name, check=False)


def reaches(home, host, port=80, name="web", namespace="default"):
    """Whether the service gets the page of a host. What is refused is so at once: a wait would be a leak of
    packets that are lost somewhere."""
    p = home.cli("exec", "--namespace", namespace, name, "--", *TOOLS, "timeout", "20", *TOOLS, "wget",
                 "-q", "-O", "-", "http://%s:%d/" % (host, port), check=False)
    check(p.returncode in (0, 1), "wget ends by itself", p.returncode, p.stdout, p.stderr)
    return p.returncode == 0


def test_without_a_policy_both_are_reached(home):
    """without a policy both hosts are reached (the control)"""
    for runtime in each(home):
        with service(home, runtime):
            equal([reaches(home, h) for h in (ALLOWED, DENIED)], [True, True], runtime)


def test_a_policy_lets_through_what_it_names(home):
    """with a policy the named host is reached, on the named port, and nothing else, from every command"""
    for runtime in each(home):
        with service(home, runtime, "--egress", "deny", "--allow-host", ALLOWED + ":80"):
            equal([reaches(home, ALLOWED), reaches(home, ALLOWED, 81), reaches(home, DENIED)], [True, False, False],
                  runtime)
            # this machine itself, at the addresses by which it is a neighbour
            check(not reaches(home, "198.51.100.1") and not reaches(home, "10.89.0.1"), "the host is not reached")
            inspected = home.json("inspect", "web")["workloads"][0]["egress"]
            equal(inspected, [{"from": "service", "hosts": [ALLOWED + ":80"]}], runtime)
        with service(home, runtime, "--egress", "deny"):
            equal([reaches(home, h) for h in (ALLOWED, DENIED)], [False, False], runtime)
            check("nothing" in home.cli("why", "web").stdout, "why says so")


def test_the_workload_cannot_change_it(home):
    """the workload has no capability with which it could change the rules or go around them"""
    for runtime in each(home):
        with service(home, runtime, "--egress", "deny", "--allow-host", ALLOWED):
            for words in (["ip", "link", "set", "eth0", "down"], ["ip", "route", "add", "192.0.2.0/24", "dev", "eth0"],
                          ["arping", "-c", "1", "-w", "1", "10.89.0.1"], ["unshare", "-Un", "true"]):
                p = home.cli("exec", "web", "--", *TOOLS, *words, check=False)
                check(p.returncode != 0 or words[0] == "unshare", "not permitted", words, p.stdout, p.stderr)
            mask = home.cli("exec", "web", "--", *TOOLS, "grep", "CapBnd", "/proc/self/status").stdout.split()[1]
            equal(int(mask, 16) & (1 << 12 | 1 << 13 | 1 << 21), 0, "NET_ADMIN, NET_RAW, SYS_ADMIN")
            check(not reaches(home, DENIED), runtime)
            if runtime == "process":
                p = home.cli("exec", "--user", "root", "web", "--", "true", check=False)
                check(p.returncode != 0 and "cannot run as root" in p.stderr, "no root in it", p.stderr)
                p = home.cli("run", "root", "--runtime", "process", "--egress", "deny", "--", "true", check=False)
                check(p.returncode != 0 and "give it a user" in p.stderr, "no root", p.stderr)


def test_names(home):
    """a name of the policy is resolved by davit: it is reached by its name and address, others are not"""
    for runtime in each(home):
        with service(home, runtime, "--egress", "deny", "--allow-host", "allowed.test:80"):
            equal([reaches(home, h) for h in ("allowed.test", ALLOWED, "denied.test", DENIED)],
                  [True, True, False, False], runtime)
        p = home.cli("run", "lost", *options(runtime), "--egress", "deny", "--allow-host", "no-such.test",
                     "--restart", "never", "--", "true", check=False)
        check("cannot resolve no-such.test" in p.stdout + p.stderr, "the reason", p.stdout, p.stderr)
        home.cli("kill", "lost", check=False)


def test_layers(home):
    """of a namespace's policy and a service's, what both allow is reached: neither loosens the other"""
    for runtime in each(home):
        home.cli("apply", "-f", "-", input=NAMESPACE + b"{policy: deny, hosts: [%s]}" % ALLOWED.encode())
        more = ("--namespace", "acme")
        with service(home, runtime, *more, "--egress", "deny", "--allow-host", ALLOWED + ":81", "--allow-host", DENIED,
                     keep=True):
            equal([reaches(home, ALLOWED, 81, namespace="acme"), reaches(home, ALLOWED, namespace="acme"),
                   reaches(home, DENIED, namespace="acme")], [True, False, False], runtime)
            home.cli("apply", "-f", "-", input=NAMESPACE + b"deny", timeout=120)
            wait_until(lambda: not reaches(home, ALLOWED, 81, namespace="acme"), "the tightened policy holds")
        home.cli("kill", "--namespace", "acme", "web")
        home.cli("namespace", "rm", "acme")


def test_it_survives(home):
    """the rules stay while the daemon is dead, with the next one, and for the next run"""
    for runtime in each(home):
        with service(home, runtime, "--egress", "deny", "--allow-host", ALLOWED, "--restart", "always"):
            holds = lambda: equal([reaches(home, h) for h in (ALLOWED, DENIED)], [True, False], runtime) or True  # noqa
            holds()
            home.kill_daemon()
            home.start_daemon()
            wait_until(lambda: home.instances("web")[0]["state"] == "started")
            holds()
            home.cli("stop", "web")
            home.cli("start", "web")
            wait_until(lambda: home.instances("web")[0]["state"] == "started")
            wait_until(holds)


def test_nothing_is_left(home):
    """rules go with the instance: what there is of them is the same before and after"""
    for runtime in each(home):
        def listed():
            return traces(home, runtime)
        before = listed()
        for _ in range(2):
            with service(home, runtime, "--egress", "deny", "--allow-host", ALLOWED):
                check(not reaches(home, DENIED), runtime)
        wait_until(lambda: differences(before, listed()) == {}, lambda: differences(before, listed()))


def test_kills_of_the_daemon(home):
    """a daemon that dies while it makes the rules leaves neither rules nor a workload without them"""
    for runtime in each(home):
        before = traces(home, runtime)
        points = {"process": ["process.create.bundle", "net.namespace", "net.egress"]}.get(
            runtime, ["oci.create.root", "net.namespace", "net.egress"])
        for point in points:
            home.kill_daemon()
            home.start_daemon({"DAVIT_FAULT": point})
            wait_until(lambda: any(r["name"] == runtime and r["available"] for r in home.json("runtimes")))
            home.cli("run", "web", *options(runtime), "--egress", "deny", "--allow-host", ALLOWED, "--detach", "--",
                     "sleep", "1000", check=False)
            home.daemon.wait(60)
            home.start_daemon()
            wait_until(lambda: home.instances("web")[0]["state"] == "started", point)
            equal([reaches(home, h) for h in (ALLOWED, DENIED)], [True, False], point)
            home.cli("kill", "web")
        wait_until(lambda: differences(before, traces(home, runtime)) == {},
                   lambda: differences(before, traces(home, runtime)))


def test_what_cannot_be_enforced_never_starts(home):
    """where nft does not work, what has a policy does not start, and says why"""
    for runtime in each(home):
        broken = os.path.join(home.dir, "nft")
        with open(broken, "w") as f:
            f.write("#!/bin/sh\necho broken on purpose >&2\nexit 1\n")
        os.chmod(broken, 0o755)
        run("mount", "--bind", broken, "/usr/sbin/nft")
        try:
            p = home.cli("run", "web", *options(runtime), "--egress", "deny", "--restart", "never", "--", "sleep",
                         "1000", check=False)
            check(p.returncode != 0 and "broken on purpose" in p.stdout + p.stderr, "the reason", p.stdout, p.stderr)
            check(not home.pid("web") if home.status("web")["instances"] else True, "it does not run")
        finally:
            run("umount", "/usr/sbin/nft")
        home.cli("kill", "web", check=False)


if __name__ == "__main__":
    for word in RUNTIMES:
        sys.argv.remove(word)
    main(globals())
