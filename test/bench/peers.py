# SPDX-License-Identifier: MIT
"""The subjects: davit, its peers, and the bare loop. Each is a class with the same few methods:

    prepare(n, argv)  writes what it needs to run n services with that command; not measured
    start()           lets them begin, from nothing; returns when all was asked for
    managers()        the pids of the subject's own processes
    stop()            ends everything, by pid
"""
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from measure import Failed, alive, boottime, descendants, median, read, wait_until

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
BUILD = os.environ.get("BUILD_DIR", os.path.join(ROOT, "build"))


def end(pid, signo=signal.SIGTERM, timeout=30):
    """Signals one process of ours and waits until it is gone."""
    try:
        os.kill(pid, signo)
    except ProcessLookupError:
        return
    wait_until(f"end of {pid}", lambda: not alive(pid), timeout)


def end_all(pids):
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    wait_until("end of all", lambda: not any(alive(p) for p in pids), 60)


class Subject:
    name = ""
    needs = None  # a program of the peer's package
    most = 1 << 30  # services that it is asked for

    def __init__(self):
        self.dir = tempfile.mkdtemp(prefix="davit-bench.")
        self.child = None

    def spawn(self, argv, **more):
        """The subject's first process, in a process group of its own."""
        with open(os.path.join(self.dir, "out"), "ab") as out:
            self.child = subprocess.Popen(argv, stdout=out, stderr=out, stdin=subprocess.DEVNULL,
                                          start_new_session=True, **more)
        return self.child.pid

    def path(self, *parts):
        return os.path.join(self.dir, *parts)

    def begun(self):
        """Is there something to stop?"""
        return self.child is not None

    def stop(self):
        self.child.terminate()
        self.child.wait(60)

    def clean(self):
        shutil.rmtree(self.dir, ignore_errors=True)


class Bare(Subject):
    name = "bare loop"

    def prepare(self, n, argv):
        self.argv = [os.path.join(BUILD, "bench-spawn"), str(n)] + argv

    def start(self):
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        self.child = subprocess.Popen(
            self.argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard)))

    def managers(self):
        return [self.child.pid]

    def stop(self):
        below = descendants(self.child.pid)
        self.child.stdin.close()
        self.child.wait(60)
        self.child.stdout.close()
        wait_until("end of the children", lambda: not any(alive(p) for p in below))


class Kept(Bare):
    """The bare loop with what whoever keeps a process cannot do without: two pipes, a control group that is looked
    at, and a message. None where there is no group in which this may be done."""
    name = "bare loop that keeps"

    @staticmethod
    def groups():
        """The directory of our own group of the v2 hierarchy."""
        mounts = [line.split() for line in read("/proc/self/mounts").decode().splitlines()]
        own = [line[3:] for line in read("/proc/self/cgroup").decode().splitlines() if line.startswith("0::")]
        found = [m[1] + own[0].rstrip("/") for m in mounts if m[2] == "cgroup2" and own]
        return found[0] if found and os.access(found[0], os.W_OK) else None

    def prepare(self, n, argv):
        self.group = tempfile.mkdtemp(prefix="bench-", dir=self.groups())
        self.argv = [os.path.join(BUILD, "bench-spawn"), "-k", self.group, str(n)] + argv

    def clean(self):
        for path in [os.path.join(self.group, d) for d in os.listdir(self.group) if d.isdigit()] + [self.group]:
            wait_until(f"end of {path}", lambda: not read(os.path.join(path, "cgroup.procs")), 10)
            os.rmdir(path)
        super().clean()


class Davit(Subject):
    name = "davit"

    def prepare(self, n, argv, restart="always"):
        self.n = n
        self.env = dict(os.environ, DAVIT_HOME=self.path("home"), DAVIT_LOG_LEVEL="warning")
        with open(self.path("all.yaml"), "w") as f:
            for k in range(n):
                f.write(f"---\nkind: Service\nname: s{k}\ncommand: {json.dumps(argv[:1])}\n"
                        f"args: {json.dumps(argv[1:])}\nrestart: {restart}\n")

    def davit(self, *args, check=True, **more):
        r = subprocess.run([os.path.join(BUILD, "davit"), *args], env=self.env, stdin=subprocess.DEVNULL,
                           capture_output=True, text=True, **more)
        if check and r.returncode:
            raise Failed(f"davit {' '.join(args[:2])}: {r.stderr.strip() or r.stdout.strip()}")
        return r.stdout

    def start(self):
        self.davit("apply", "-d", "-f", self.path("all.yaml"))

    def wait_recorded(self, n, timeout=60):
        """Until n `started` events are in the store. Returns when they were durable, in boottime."""
        seen = set()
        p = subprocess.Popen([os.path.join(BUILD, "davit"), "events", "-f", "-o", "json"], env=self.env,
                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        try:
            deadline = time.monotonic() + timeout
            for line in p.stdout:
                event = json.loads(line)
                if event["type"] == "started":
                    seen.add(event["instance"])
                if len(seen) >= n:
                    return self.last_written()
                if time.monotonic() > deadline:
                    break
        finally:
            p.terminate()
            p.stdout.close()
            p.wait(30)
        raise Failed(f"{len(seen)} of {n} starts recorded")

    def last_written(self):
        """When the store's log was last written to, and one fdatasync, as each commit ends with. To look for
        events meanwhile would take time from what is measured, and look too late."""
        log = os.stat(self.path("home", "state", "store.db-wal")).st_mtime - time.time() + boottime()
        syncs = []
        for _ in range(5):
            with open(self.path("sync"), "wb") as f:
                f.write(b"x" * 65536)
                f.flush()
                t = time.monotonic()
                os.fdatasync(f.fileno())
                syncs.append(time.monotonic() - t)
        return log + median(syncs)

    def begun(self):
        return os.path.exists(self.path("home"))

    def daemon(self):
        return json.loads(self.davit("daemon", "status", "-o", "json"))["pid"]

    def keepers(self):
        found = []
        for pid in [int(p) for p in os.listdir("/proc") if p.isdigit()]:
            argv = read(f"/proc/{pid}/cmdline").split(b"\0")
            if argv[0].endswith(b"davit-keeper") and self.dir.encode() in b" ".join(argv):
                found.append(pid)
        return found

    def managers(self):
        return [self.daemon()] + self.keepers()

    def stop(self):
        own = self.managers()
        self.davit("daemon", "stop", "--all", timeout=120)
        wait_until("end of the daemon and its keepers", lambda: not any(alive(p) for p in own))


class Supervisord(Subject):
    name = "supervisord"
    needs = "supervisord"

    def prepare(self, n, argv):
        with open(self.path("conf"), "w") as f:
            f.write(f"[supervisord]\nnodaemon=true\nlogfile={self.path('log')}\npidfile={self.path('pid')}\n"
                    f"childlogdir={self.dir}\nminfds=8192\n")
            for k in range(n):
                f.write(f"[program:s{k}]\ncommand={' '.join(argv)}\nautostart=true\n")

    def start(self):
        self.spawn(["/usr/bin/supervisord", "-c", self.path("conf")])

    def managers(self):
        return [self.child.pid]


class Scanned(Subject):
    """runit and s6: a directory of directories, each with a script `run`."""

    def prepare(self, n, argv):
        self.argv = [os.fsencode(a) for a in argv]
        os.mkdir(self.path("scan"))
        for k in range(n):
            os.mkdir(self.path("scan", f"s{k}"))
            run = self.path("scan", f"s{k}", "run")
            with open(run, "w") as f:
                f.write(f"#!/bin/sh\nexec {' '.join(argv)}\n")
            os.chmod(run, 0o755)

    def managers(self):
        return [self.child.pid] + [p for p in descendants(self.child.pid)
                                   if read(f"/proc/{p}/cmdline").rstrip(b"\0").split(b"\0") != self.argv]

    def stop(self):
        everything = descendants(self.child.pid)
        self.child.kill()
        self.child.wait(60)
        end_all([p for p in everything if alive(p)])


class Runit(Scanned):
    name = "runit"
    needs = "runsvdir"

    def start(self):
        self.spawn(["/usr/bin/runsvdir", self.path("scan")])


class S6(Scanned):
    name = "s6"
    needs = "s6-svscan"

    def start(self):
        self.spawn([shutil.which("s6-svscan"), "-c", "4096", self.path("scan")])


class Pm2(Subject):
    name = "pm2"
    needs = "npm"
    most = 100
    prefix = None

    @classmethod
    def install(cls, where):
        log = os.path.join(where, "npm.log")
        with open(log, "wb") as out:
            r = subprocess.run(["npm", "install", "--silent", "--no-fund", "--no-audit", "--prefix", where,
                                "pm2"], stdout=out, stderr=out, stdin=subprocess.DEVNULL)
        if r.returncode:
            raise Failed("npm could not install pm2")
        cls.prefix = where

    def prepare(self, n, argv):
        self.env = dict(os.environ, PM2_HOME=self.path("home"), PM2_DISABLE_VERSION_CHECK="true")
        apps = [{"name": f"s{k}", "script": argv[0], "args": argv[1:], "interpreter": "none"} for k in range(n)]
        with open(self.path("all.config.json"), "w") as f:
            json.dump({"apps": apps}, f)

    def pm2(self, *args):
        return subprocess.run([os.path.join(self.prefix, "node_modules/.bin/pm2"), *args], env=self.env,
                              stdin=subprocess.DEVNULL, capture_output=True)

    def start(self):
        self.pm2("start", self.path("all.config.json"))

    def begun(self):
        return os.path.exists(self.path("home", "pm2.pid"))

    def managers(self):
        return [int(read(self.path("home", "pm2.pid")))]

    def stop(self):
        own = self.managers()
        self.pm2("kill")
        wait_until("end of pm2", lambda: not any(alive(p) for p in own))


if __name__ == "__main__":
    sys.exit("a part of test/bench/run")
