#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The store fails: a broken record, a full disk, one that cannot be written, one that is
away for ten seconds. Each time the services go on, davitd stays idle, commands say what
is wrong, and everything is well again by itself."""
import os
import shutil
import sqlite3
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from rig import (PATIENCE, Home, Skip, alive, check, cpu_seconds, equal, log, main, read, soon, wait_until)  # noqa: E402

PRIVATE = "RIG_PRIVATE_MOUNTS"


def private_mounts():
    """A mount namespace of our own, so that nothing of a tmpfs can be left behind."""
    if os.environ.get(PRIVATE) or os.geteuid():
        return
    if subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode == 0:
        os.environ[PRIVATE] = "1"
        os.execvp("unshare", ["unshare", "-m", sys.executable] + sys.argv)


class SmallDisk(Home):
    """A home whose directory `state` is a tmpfs of 4 MB."""

    def small_disk(self):
        if not os.environ.get(PRIVATE):
            raise Skip("needs root and a private mount namespace (unshare -m)")
        d = self.dir + "/state"
        os.makedirs(d, mode=0o700, exist_ok=True)
        p = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m,mode=700", "davit-torture", d],
                           capture_output=True, text=True)
        if p.returncode:
            raise Skip("cannot mount a tmpfs: " + p.stderr.strip())
        self.cleanups.append(lambda: subprocess.run(["umount", "-l", d], check=True))
        return d

    def fill(self):
        with open(self.dir + "/state/ballast", "wb", buffering=0) as f:
            try:
                while True:
                    f.write(b"x" * 4096)
            except OSError:
                pass

    def empty(self):
        os.unlink(self.dir + "/state/ballast")


def start_some(home):
    home.start_daemon()
    home.sh("steady", "i=0; while :; do i=$((i+1)); echo $i; sleep 0.1; done")
    home.sh("crash", "echo x >> %s/crash; sleep 0.4; exit 1" % home.work, "--detach")
    return home.pid("steady")


def set_backoff(home):
    code, _ = home.api("POST", "/v1/services?mode=apply", [{
        "name": "crash", "command": ["sh", "-c", "echo x >> %s/crash; sleep 0.4; exit 1" % home.work],
        "restart": {"policy": "always", "backoff": {"initial": "100ms", "max": "200ms"}}}])
    check(code < 300, "apply", code)


def through_a_failure(home, fail, mend, seconds, refuses=True):
    """What must hold while the store fails, and after."""
    pid = start_some(home)
    set_backoff(home)
    home.cli("run", "kept", "--command", "sleep 1000")
    wait_until(lambda: len(read(home.work + "/crash")) > 2)
    crashes = len(read(home.work + "/crash"))
    fail()
    cpu, t = cpu_seconds(home.daemon.pid), time.monotonic()
    if refuses:
        p = home.cli("run", "refused", "--command", "sleep 1000", "--detach", "-e", "BIG=" + "x" * 30000,
                     check=False)
        log("a command meanwhile: " + p.stderr.strip())
        equal(p.returncode, 1, "its exit status")
        check("store" in p.stderr or "space" in p.stderr or "read-only" in p.stderr or "disk" in p.stderr,
              "it does not say what is wrong", p.stderr)
    while time.monotonic() - t < seconds:
        soon(lambda: equal(home.api("GET", "/v1/services")[0], 200, "status meanwhile"), 1, "status")
        time.sleep(0.25)
    used = (cpu_seconds(home.daemon.pid) - cpu) / (time.monotonic() - t)
    status = home.json("daemon", "status")
    log("CPU of davitd: %.1f %%; the store: %s" % (used * 100, status["store"]))
    check(used < 0.2, "davitd uses so much of a CPU", used)
    if refuses:
        check(not status["store"]["healthy"] and status["store"]["error"], "daemon status", status["store"])
    check(len(read(home.work + "/crash")) - crashes > seconds / 4, "restarts do not go on meanwhile",
          len(read(home.work + "/crash")) - crashes)
    equal(home.pid("steady"), pid, "the steady one")
    check(home.daemon.poll() is None, "davitd has ended")
    mend()
    wait_until(lambda: home.json("daemon", "status")["store"]["healthy"], "the store is well again")
    home.cli("run", "after", "--command", "sleep 1000")
    home.kill_daemon()
    home.start_daemon()
    equal(home.pid("steady"), pid, "the steady one, after a new daemon")
    names = [s["name"] for s in home.json("status")]
    check({"steady", "crash", "kept", "after"} <= set(names), "services", names)
    check(len(home.events("exited")) > 2, "events of exits")


def test_corrupt_record(home):
    """A corrupt record stops nobody else, and is told of"""
    pid = start_some(home)
    for name in ("one", "two", "three"):
        home.cli("run", name, "--command", "sleep 1000")
    home.cli("daemon", "stop")
    home.daemon.wait(PATIENCE)
    db = sqlite3.connect(home.dir + "/state/store.db", isolation_level=None)
    table, key, value = find_table(db)
    rows = [r[0] for r in db.execute("SELECT %s FROM %s" % (key, table))]
    texts = [k.decode() if isinstance(k, bytes) else k for k in rows]
    mine = rows[[k for k, t in enumerate(texts) if t.startswith("services/") and "/two/" in t][0]]
    for garbage in (b"\x00\xff{not json", b"", b"{}", b"[1,2", b'{"spec": {"name": 5}}'):
        db.execute("UPDATE %s SET %s = ? WHERE %s = ?" % (table, value, key), (garbage, mine))
        home.start_daemon()
        states = {s["name"]: s["status"] for s in home.json("status")}
        states.pop("crash")
        others = {k: v for k, v in states.items() if k != "two"}
        equal(others, {"one": "running", "three": "running", "steady": "running"}, "the others")
        equal(home.pid("steady"), pid, "pid")
        check("two" in home.said() or "two" in str(home.json("daemon", "status")), "nobody is told", home.said())
        cpu, t = cpu_seconds(home.daemon.pid), time.monotonic()
        time.sleep(0.7)
        check((cpu_seconds(home.daemon.pid) - cpu) / (time.monotonic() - t) < 0.3, "it spins")
        home.cli("daemon", "stop")
        home.daemon.wait(PATIENCE)
    db.close()
    home.start_daemon()
    check(any(e["service"] == "default/two:latest" and "cannot be read" in e["cause"] for e in home.events("failed")),
          "no event tells of it")
    # The way out.
    said = home.cli("stop", "two", check=False)
    check(said.returncode == 1 and "the record of service 'two' cannot be read" in said.stderr, "stop", said)
    home.cli("run", "two", "--command", "sleep 999")
    check(home.pid("two"), "it runs again")
    home.cli("kill", "two")
    home.cli("daemon", "stop")
    home.daemon.wait(PATIENCE)
    db = sqlite3.connect(home.dir + "/state/store.db", isolation_level=None)
    db.execute("UPDATE %s SET %s = ? WHERE %s LIKE 'services/%%/one/%%'" % (table, value, key), (b"{",))
    db.close()
    home.start_daemon()
    home.cli("kill", "one")
    said = home.cli("kill", "one", check=False)
    check("service 'one' not found" in said.stderr, "it is gone", said)


def find_table(db):
    """The table that has keys and values."""
    for (table,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
        columns = [c[1] for c in db.execute("PRAGMA table_info(%s)" % table)]
        if "key" in columns and "value" in columns:
            return table, "key", "value"
    raise AssertionError("no table of keys and values")


def test_full_disk(home):
    """A full disk: services and restarts go on, commands say so, nothing is lost when there is room again"""
    home.small_disk()
    through_a_failure(home, home.fill, home.empty, 4)


def test_away_for_ten_seconds(home):
    """A store that fails for ten seconds: nothing spins, and all is well again by itself"""
    home.small_disk()
    through_a_failure(home, home.fill, home.empty, 10)


def test_stop_without_store(home):
    """davit daemon stop --all ends everything while the store does not answer"""
    home.small_disk()
    pid = start_some(home)
    home.fill()
    t = time.monotonic()
    home.cli("daemon", "stop", "--all")
    log("it took %.2f s" % (time.monotonic() - t))
    check(not alive(pid), "the steady one lives")
    home.empty()
    home.start_daemon()
    wait_until(lambda: home.status("steady")["status"] == "running", "it runs again")


def test_locked_store(home):
    """A store that another program holds locked: the same"""
    def fail():
        home.db = sqlite3.connect(home.dir + "/state/store.db", isolation_level=None, timeout=20)
        home.db.execute("BEGIN IMMEDIATE")

    def mend():
        home.db.rollback()
        home.db.close()
    through_a_failure(home, fail, mend, 4, refuses=False)


def test_read_only(home):
    """A store that cannot be written at all: commands say so, and it serves as soon as it can"""
    d = home.small_disk()

    def remount(how):
        p = subprocess.run(["mount", "-o", "remount," + how, d], capture_output=True, text=True)
        if p.returncode:
            raise Skip("cannot remount: " + p.stderr.strip())

    remount("ro")
    p = home.cli("status", check=False)
    log("at the start: " + p.stderr.strip())
    equal(p.returncode, 1, "davit status without a writable store")
    check("ead-only" in p.stderr, "it does not say what is wrong", p.stderr)
    remount("rw")
    home.cli("run", "fine", "--command", "sleep 1000")
    equal(home.status("fine")["status"], "running", "afterwards")


if __name__ == "__main__":
    private_mounts()
    main(globals(), SmallDisk)
