# SPDX-License-Identifier: MIT
"""For the end-to-end tests: a home of its own for each, the real programs, TAP.

A test is a function of one argument, a Home. `main(globals())` runs those whose
name begins with "test_" in the order of the file, each in a fresh home, and says
its docstring as the test's name. A home ends everything by `davit daemon stop
--all` and then looks for what is left: processes by their environment and
arguments, cgroups by name, mounts by path. What is left is a failure, and is
killed by pid. Nothing is ever looked for by a program's name.

    test/torture/store.py [WORD]...     only tests whose name has one of the words
    RIG_SEED=N                          repeats a random run
    RIG_KEEP=1                          keeps the homes of failed tests
"""
import contextlib
import glob
import http.client
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.path.abspath(os.environ.get("DAVIT_BUILD", os.path.join(ROOT, "build")))
TICKS = os.sysconf("SC_CLK_TCK")


class Skip(Exception):
    pass


def log(text):
    for line in str(text).splitlines():
        print("# " + line, flush=True)


def check(ok, text, *details):
    if not ok:
        raise AssertionError(" ".join([text] + [repr(d) for d in details]))


def equal(got, want, what=""):
    if got != want:
        raise AssertionError("%s: got %r, wanted %r" % (what or "not equal", got, want))


PATIENCE = 120  # seconds, for what must come: no machine is too busy for it


def wait_until(fn, what=None, step=0.02):
    """The first true value of fn; an exception of the last try is shown."""
    end = time.monotonic() + PATIENCE
    last = None
    while True:
        try:
            last = fn()
            if last:
                return last
        except (AssertionError, OSError, KeyError, IndexError, ValueError, CommandError) as e:
            last = e
        if time.monotonic() > end:
            raise AssertionError("not within %d s: %s (last: %r)" % (PATIENCE, what or fn, last))
        time.sleep(step)


def soon(fn, seconds, what, tries=10):
    """fn takes less than so long, once in several tries: a busy machine has quiet moments. Its last time."""
    for _ in range(tries):
        began = time.monotonic()
        fn()
        took = time.monotonic() - began
        if took < seconds:
            return took
    raise AssertionError("%s: not once in %d tries within %g s (last: %.2f s)" % (what, tries, seconds, took))


# ------------------------------------------------------------------- processes

def read(path, deflt=b""):
    try:
        with open(path, "rb") as f:
            return f.read()
    except OSError:
        return deflt


def stat_of(pid):
    """The fields of /proc/PID/stat from the state (field 3) on, or None."""
    text = read("/proc/%d/stat" % pid).decode(errors="replace")
    return text[text.rindex(")") + 2:].split() if text else None


def alive(pid):
    s = stat_of(pid)
    return bool(s) and s[0] not in "ZX"


def cpu_seconds(pid):
    s = stat_of(pid)
    return (int(s[11]) + int(s[12])) / TICKS if s else 0.0


def memory_kb(pid):
    """Private memory: what the process itself has taken."""
    m = re.findall(rb"^Private_(?:Clean|Dirty): *(\d+)", read("/proc/%d/smaps_rollup" % pid), re.M)
    return sum(map(int, m))


def processes():
    return [int(n) for n in os.listdir("/proc") if n.isdigit()]


def children(pid):
    return [p for p in processes() if (stat_of(p) or [0, "-1"])[1] == str(pid)]


# ------------------------------------------------------------------- the home

class CommandError(Exception):
    def __init__(self, argv, p):
        self.status, self.stdout, self.stderr = p.returncode, p.stdout, p.stderr
        super().__init__("davit %s: status %d: %s%s" % (" ".join(argv), p.returncode, p.stdout[-400:],
                                                      p.stderr[-400:]))


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout):
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Home:
    def __init__(self, where=None):
        self.dir = where or tempfile.mkdtemp(prefix="davit-torture-", dir="/tmp")
        self.work = os.path.join(self.dir, "work")
        os.makedirs(self.work, exist_ok=True)
        self.socket = os.path.join(self.dir, "run/davit.sock")
        self.env = {k: v for k, v in os.environ.items() if not k.startswith("DAVIT_")}
        self.env["DAVIT_HOME"] = self.dir
        self.env["PATH"] = BUILD + ":" + self.env.get("PATH", "/usr/bin:/bin")
        self.daemon = None  # a Popen, when the test itself has started it
        self.cleanups = []

    # --- commands

    def cli(self, *args, check=True, input=None, timeout=PATIENCE, env=None, cwd=None):
        args = [str(a) for a in args]
        p = subprocess.run([os.path.join(BUILD, "davit")] + args, cwd=cwd or self.work, timeout=timeout,
                           env=dict(self.env, **(env or {})), capture_output=True,
                           **({"input": input} if input is not None else {"stdin": subprocess.DEVNULL}))
        p.stdout, p.stderr = p.stdout.decode(errors="replace"), p.stderr.decode(errors="replace")
        if check and p.returncode:
            raise CommandError(args, p)
        return p

    def json(self, *args, **more):
        return json.loads(self.cli(*args, "-o", "json", **more).stdout)

    def lines(self, *args, **more):
        return [json.loads(x) for x in self.cli(*args, "-o", "json", **more).stdout.splitlines()]

    def status(self, name, version=None, **more):
        found = [s for s in self.json("status", name, **more) if version in (None, s["version"])]
        equal(len(found), 1, "services called " + name)
        return found[0]

    def instances(self, name, **more):
        return self.status(name, **more)["instances"]

    def pid(self, name, **more):
        return self.instances(name, **more)[0]["pid"]

    def events(self, kind=None, **more):
        out = self.lines("events", "--namespace", "*") if more.pop("everywhere", False) else self.lines("events")
        return [e for e in out if kind in (None, e["type"]) and all(e[k] == v for k, v in more.items())]

    def api(self, method, path, body=None, timeout=PATIENCE):
        """One request: (HTTP status, decoded answer)."""
        c = UnixConnection(self.socket, timeout)
        try:
            c.request(method, path, None if body is None else json.dumps(body),
                      {"Content-Type": "application/json", "Davit-Cause": "test"})
            r = c.getresponse()
            text = r.read()
            return r.status, json.loads(text) if text else None
        finally:
            c.close()

    def sh(self, name, script, *options, **more):
        """davit run NAME OPTIONS -- sh -c SCRIPT"""
        return self.cli("run", name, *options, "--", "sh", "-c", script, **more)

    # --- the daemon

    def start_daemon(self, env=None, wait=True):
        """davitd as our own child, so that its end can be waited for."""
        with open(os.path.join(self.dir, "davitd.err"), "ab") as f:
            self.daemon = subprocess.Popen([os.path.join(BUILD, "davitd")], cwd="/", stdin=subprocess.DEVNULL,
                                           stdout=f, stderr=f, env=dict(self.env, **(env or {})),
                                           start_new_session=True)
        if wait:
            wait_until(lambda: self.daemon.poll() is not None or self.answers(), "the daemon answers", 0.005)
        return self.daemon

    def answers(self):
        with contextlib.suppress(OSError):
            s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            with s:
                s.settimeout(30)
                s.connect(self.socket)
                return True
        return False

    def daemon_pid(self):
        return self.json("daemon", "status")["pid"]

    def kill_daemon(self):
        self.daemon.kill()
        self.daemon.wait()

    def picture(self):
        """For the reader of a failure: what there is and what has happened."""
        try:
            if not self.answers():
                return ""
            return "".join(self.cli(what, "--namespace", "*", check=False, timeout=30).stdout[-3000:]
                           for what in ("status", "events"))
        except (OSError, subprocess.TimeoutExpired) as e:
            return "no picture: %s\n" % e

    def said(self):
        """What the daemon has logged."""
        return (read(self.dir + "/davitd.err") + read(self.dir + "/log/davitd.log")).decode(errors="replace")

    def keepers(self):
        """Pids, by the directory in their arguments."""
        want = os.path.realpath(self.dir + "/run/process").encode()
        out = []
        for pid in processes():
            argv = read("/proc/%d/cmdline" % pid).split(b"\0")
            if len(argv) > 2 and argv[1] == want and alive(pid):
                out.append(pid)
        return out

    def limits(self):
        """Which cgroup limits the machine gives: of memory, cpu, pids."""
        caps = {c["name"]: c["supported"] for r in self.json("runtimes") if r["name"] == "process"
                for c in r["capabilities"]}
        return {k for k in ("memory", "cpu", "pids") if any(k in n and ok for n, ok in caps.items())}

    def can_track(self):
        return bool(self.limits())

    # --- the end

    def ours(self):
        """Processes of this home: {pid: command line}."""
        found = {}
        mark = b"DAVIT_HOME=" + self.dir.encode() + b"\0"
        ids = set(self.instance_ids())
        for pid in processes():
            if pid == os.getpid() or not alive(pid):
                continue
            cmd, env = read("/proc/%d/cmdline" % pid), read("/proc/%d/environ" % pid)
            m = re.search(rb"(?:^|\0)DAVIT_INSTANCE=([0-9a-f]{16})\0", env)
            if mark in env + b"\0" or self.dir.encode() in cmd or (m and m.group(1).decode() in ids):
                found[pid] = cmd.replace(b"\0", b" ").decode(errors="replace")[:200]
        return found

    def instance_ids(self):
        ids = re.findall(rb"[0-9a-f]{16}(?=\0)", b"".join(map(read, glob.glob(self.dir + "/run/process/*.slots"))))
        return {i.decode() for i in ids} | set(os.listdir(self.dir + "/log/process")
                                               if os.path.isdir(self.dir + "/log/process") else [])

    def cgroups(self):
        """Groups of this home; the daemon names its own by a hash of the directory."""
        h = 0xcbf29ce484222325
        for byte in os.path.realpath(self.dir + "/run/process").encode():
            h = (h ^ byte) * 0x100000001b3 % 2 ** 64
        name = "davit-%08x" % ((h ^ h >> 32) % 2 ** 32)
        return [d for d, _, _ in os.walk("/sys/fs/cgroup") if "/" + name in d]

    def close(self):
        """Ends everything; a list of what was left behind."""
        left = []
        if os.path.exists(self.dir + "/run"):
            try:
                self.cli("daemon", "stop", "--all")
            except (CommandError, subprocess.TimeoutExpired) as e:
                left.append("daemon stop --all: %s" % e)
        if self.daemon and not left:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.daemon.wait(30)
        with contextlib.suppress(AssertionError):
            wait_until(lambda: not self.ours() and not self.cgroups())
        for pid, cmd in self.ours().items():
            left.append("process %d: %s" % (pid, cmd))
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        if self.daemon and self.daemon.poll() is None:
            self.daemon.kill()
            self.daemon.wait()
        for fn in reversed(self.cleanups):
            fn()
        left += ["cgroup " + d for d in self.cgroups()]
        left += ["mount " + m.split()[1] for m in open("/proc/mounts") if m.split()[1].startswith(self.dir)]
        return left


# ------------------------------------------------------------------------ TAP

SEED = int(os.environ.get("RIG_SEED", "0")) or random.SystemRandom().randrange(1, 2 ** 31)
rng = random.Random(SEED)


def run_one(fn, home):
    """(TAP directive or "", failure or "")"""
    failure, skip = "", ""
    try:
        fn(home)
    except Skip as e:
        skip = " # SKIP " + str(e)
    except (Exception, KeyboardInterrupt):
        failure = traceback.format_exc() + home.picture()
    said = home.said()
    left = home.close()
    if left:
        failure += "left behind:\n  " + "\n  ".join(left) + "\n"
    if "ERROR: AddressSanitizer" in said or "runtime error:" in said or "LeakSanitizer" in said:
        failure += "a sanitizer has spoken:\n"
    if failure:
        said = [x for x in said.splitlines() if " serves /" not in x]
        failure += "the daemon said:\n" + "\n".join(said[-30:])
    if failure and os.environ.get("RIG_KEEP"):
        log("kept: " + home.dir)
    else:
        shutil.rmtree(home.dir, ignore_errors=True)
    return skip, failure


def main(names, home=Home):
    tests = [f for n, f in names.items() if n.startswith("test_") and callable(f)]
    if sys.argv[1:]:
        tests = [f for f in tests if any(w in f.__name__ for w in sys.argv[1:])]
    failed = 0
    # Told to end: what was started is ended all the same.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    print("TAP version 13\n1..%d" % len(tests))
    log("seed %d (RIG_SEED repeats it)" % SEED)
    for k, fn in enumerate(tests):
        title = " ".join((fn.__doc__ or fn.__name__[5:].replace("_", " ")).split())
        start = time.monotonic()
        skip, failure = run_one(fn, home())
        failed += bool(failure)
        if failure:
            log(failure)
        print("%s %d - %s%s" % ("not ok" if failure else "ok", k + 1, title, "" if failure else skip), flush=True)
        log("%.1f s" % (time.monotonic() - start))
    sys.exit(1 if failed else 0)
