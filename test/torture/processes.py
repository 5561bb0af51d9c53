#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Hostile and clumsy workloads: what they leave, what they ignore, what they write."""
import glob
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from rig import (PATIENCE, Home, Skip, alive, check, children, cpu_seconds, equal, log, main, memory_kb, processes,  # noqa: E402
                 read, stat_of, wait_until)

MIB = 1 << 20
PAGE = 4096  # the slots begin on one (src/keeper/slots.h); the id comes first in a slot, and this is the first slot


def test_forged_record(home):
    """A foreign process that a forged record names is never signalled"""
    trap = ("import signal,sys,time\n"
            "for s in range(1,65):\n"
            "  try: signal.signal(s, lambda n, f: open(sys.argv[1], 'a').write('%d ' % n))\n"
            "  except (OSError, ValueError): pass\n"
            "open(sys.argv[1], 'a').write('up ')\n"
            "while True: time.sleep(1)\n")
    hits = home.work + "/hits"
    foreign = subprocess.Popen([sys.executable, "-c", trap, hits], start_new_session=True, env={})
    try:
        wait_until(lambda: read(hits) == b"up ")
        home.sh("real", "exec sleep 1000", "--restart", "never")
        i = home.instances("real")[0]
        home.cli("daemon", "stop")
        for pid in home.keepers():
            os.kill(pid, signal.SIGKILL)
        os.kill(i["pid"], signal.SIGKILL)
        wait_until(lambda: not alive(i["pid"]) and not home.keepers())
        path = home.dir + "/run/process/keeper-0.slots"
        with open(path, "r+b") as f:
            data = f.read()
            at = [m.start() for m in re.finditer(i["id"].encode(), data) if m.start() % PAGE == 0]
            equal(len(at), 1, "slots of the instance")
            # The main process and the session: wherever the slot has the pid, it gets the foreign one.
            slot, old, new = data[at[0]:at[0] + 512], struct.pack("i", i["pid"]), struct.pack("i", foreign.pid)
            hits_at = [k for k in range(24, 512, 4) if slot[k:k + 4] == old]
            check(len(hits_at) >= 2, "pid and session in the slot", hits_at)
            for k in hits_at:
                f.seek(at[0] + k)
                f.write(new)
        # Every way in which a signal could be sent to it.
        status = home.status("real")
        check(not [x for x in status["instances"] if x["pid"] == foreign.pid], "it was adopted", status)
        home.cli("signal", "real", "HUP", check=False)
        home.cli("signal", "HUP", "real", check=False)
        home.cli("stop", "real", check=False)
        home.cli("restart", "real", check=False)
        home.cli("kill", "real")
        home.cli("daemon", "stop", "--all")
        equal(read(hits), b"up ", "signals that it got")
        check(foreign.poll() is None, "it was killed", foreign.returncode)
    finally:
        foreign.kill()
        foreign.wait()


def test_short_services(home):
    """200 short services leave no zombie, and 200 exit events"""
    home.start_daemon()
    specs = [{"name": "short%d" % k, "command": ["sh", "-c", "exit %d" % (k % 7)], "restart": "never"}
             for k in range(200)]
    code, answer = home.api("POST", "/v1/services?mode=create", specs)
    check(code < 300, "creation", code, answer)
    wait_until(lambda: not [s for s in home.json("status") if s["status"] not in ("stopped", "error")],
               "all are over")
    told = home.events("exited")
    equal(len(told), 200, "exit events")
    equal(len({e["instance"] for e in told}), 200, "of so many instances")
    for s in home.json("status"):
        code = int(s["name"][5:]) % 7
        equal((s["instances"][0]["exit"]["code"], s["status"]), (code, "error" if code else "stopped"), s["name"])
    for parent in home.keepers() + [home.daemon.pid]:
        zombies = [p for p in children(parent) if (stat_of(p) or "?")[0] == "Z"]
        equal(zombies, [], "zombies of %d" % parent)
    fds = len(os.listdir("/proc/%d/fd" % home.keepers()[0]))
    check(fds < 40, "descriptors of the keeper", fds)


def test_ignores_term(home):
    """A shell that ignores TERM, with a grandchild, is gone after its grace, and status answers meanwhile"""
    home.start_daemon()
    mark = "IGNORES=" + os.path.basename(home.dir)
    loop = 'trap "" TERM HUP INT; while :; do sleep 0.2; done'
    home.sh("deaf", "sh -c '%s' & setsid sh -c '%s' & %s" % (loop.replace('""', '"" '), loop, loop), "-e", mark,
            "--stop-grace", "1500ms")

    def its():
        return [p for p in processes() if mark.encode() in read("/proc/%d/environ" % p) and alive(p)]
    wait_until(lambda: len(its()) >= 3)
    all_of_it = its()
    began = time.monotonic()
    stop = subprocess.Popen(["davit", "stop", "deaf"], env=home.env, stdout=subprocess.DEVNULL,
                            stderr=subprocess.DEVNULL)
    took = []
    while [p for p in all_of_it if alive(p)] and time.monotonic() - began < PATIENCE:
        t = time.monotonic()
        code, _ = home.api("GET", "/v1/services")
        took.append(time.monotonic() - t)
        equal(code, 200)
        time.sleep(0.02)
    gone = time.monotonic() - began
    stop.wait(PATIENCE)
    took.sort()
    log("gone after %.2f s; status meanwhile: median %.1f ms, longest %.1f ms" % (gone, took[len(took) // 2] * 1e3,
                                                                                 took[-1] * 1e3))
    check(1.2 < gone < PATIENCE, "gone after", gone)
    check(len(took) > 3 and took[0] < 0.1, "status meanwhile", took)
    wait_until(lambda: home.status("deaf")["status"] == "stopped")


FORKER = r"""
import os, sys, time
def daemon(clear):
    if os.fork(): return
    os.setsid()
    if os.fork(): os._exit(0)
    os.chdir("/")
    env = {} if clear else dict(os.environ)
    os.execve("/bin/sh", ["sh", "-c", "echo $$ >> %s; trap '' TERM HUP; while :; do sleep 0.3; done" % sys.argv[1]], env)
for clear in (False, True): daemon(clear)
time.sleep(float(sys.argv[2]))
"""


def test_forks_daemons(home):
    """A service that forks daemons (new session, no parent, even an empty environment) leaves none behind,
    on stop and when its main process ends"""
    if not home.can_track():
        raise Skip("no cgroup can be made here: a process without session, parent and environment escapes")
    for way, life in (("stop", "1000"), ("end", "0.5"), ("kill", "1000")):
        pids = home.work + "/pids." + way
        home.cli("run", "forker", "--restart", "never", "--stop-grace", "300ms", "--detach", "--", sys.executable,
                 "-c", FORKER, pids, life)
        wait_until(lambda: len(read(pids).split()) == 2, "two daemons")
        daemons = [int(p) for p in read(pids).split()]
        if way != "end":
            check(all(map(alive, daemons)), "they live")
            home.cli(way, "forker")
        wait_until(lambda: not any(map(alive, daemons)), "after %s nothing is left" % way)
        if way != "kill":
            wait_until(lambda: home.status("forker")["status"] == "stopped")
            home.cli("kill", "forker")


def test_stopped_child(home):
    """A child that was stopped by SIGSTOP can be killed"""
    home.sh("frozen", "sleep 1000 & wait", "--stop-grace", "500ms")
    pid = home.pid("frozen")
    both = [pid] + children(pid)
    for p in both:
        os.kill(p, signal.SIGSTOP)
    wait_until(lambda: stat_of(pid)[0] == "T")
    t = time.monotonic()
    home.cli("kill", "frozen")
    log("it took %.2f s" % (time.monotonic() - t))
    check(not any(map(alive, both)), "it lives")


def log_bytes(home, ident):
    return sum(os.path.getsize(f) for f in glob.glob("%s/log/process/%s/*" % (home.dir, ident)))


def ticks(home):
    return len(home.cli("logs", "other").stdout.splitlines())


def test_log_flood(home):
    """A flood of output blocks no other service, grows no memory, and stays within its files"""
    home.start_daemon()
    home.sh("other", "i=0; while :; do i=$((i+1)); echo $i; sleep 0.05; done")
    keeper = home.keepers()[0]
    before = memory_kb(keeper), memory_kb(home.daemon.pid)
    home.sh("flood", "yes | head -c 200000000; echo end of it; exec sleep 1000", "--log-max-size", "2Mi",
            "--log-max-files", "3", "--detach")
    ident = wait_until(lambda: home.instances("flood")[0]["id"])
    n, t, most, slow = ticks(home), time.monotonic(), 0, 0.0
    while "end of it" not in home.cli("logs", "flood", "-n", "1").stdout:
        check(time.monotonic() - t < 2 * PATIENCE, "the flood does not end")
        a = time.monotonic()
        home.api("GET", "/v1/services")
        slow = max(slow, time.monotonic() - a)
        most = max(most, memory_kb(keeper) - before[0], memory_kb(home.daemon.pid) - before[1])
        time.sleep(0.2)
    took = time.monotonic() - t
    log("200 MB in %.1f s; memory grew by at most %d kB; status took at most %.0f ms; %d kB of files"
        % (took, most, slow * 1000, log_bytes(home, ident) / 1024))
    check(ticks(home) - n > took, "the other could not write", ticks(home) - n, took)
    so_far = ticks(home)  # it goes on meanwhile
    lines = [int(x) for x in home.cli("logs", "other").stdout.split()]
    check(len(lines) >= so_far, "lines of the other are missing", len(lines), so_far)
    equal(lines, list(range(1, len(lines) + 1)), "lines of the other")
    check(most < 6 * 1024, "memory grew by kB", most)
    check(log_bytes(home, ident) <= 3 * (2 * MIB + 128 * 1024), "files", log_bytes(home, ident))


def test_endless_line(home):
    """A line of 50 MB without an end is kept in bounded files and memory, and others go on"""
    home.start_daemon()
    home.sh("other", "while :; do echo x; sleep 0.05; done")
    keeper = home.keepers()[0]
    before = memory_kb(keeper), memory_kb(home.daemon.pid)
    home.sh("endless", "head -c 50000000 /dev/zero | tr '\\0' a; echo; echo after; exec sleep 1000",
            "--log-max-size", "2Mi", "--log-max-files", "3", "--detach")
    ident = wait_until(lambda: home.instances("endless")[0]["id"])

    def at_end():
        return b"stdout F after\n" in b"".join(read(f)[-200:] for f in glob.glob("%s/log/process/%s/*" % (home.dir, ident)))
    wait_until(at_end, "the line after it", 0.2)
    out = home.cli("logs", "endless", "-n", "1").stdout
    check(out.endswith("after\n") and len(out) < 1000, "the last line", out[-100:])
    grown = memory_kb(keeper) - before[0], memory_kb(home.daemon.pid) - before[1]
    log("memory grew by %d kB (keeper) and %d kB (davitd); %d kB of files"
        % (grown[0], grown[1], log_bytes(home, ident) / 1024))
    check(grown[0] < 2048 and grown[1] < 16 * 1024, "memory grew", grown)
    # A file may be four times its size where a line does not end.
    check(log_bytes(home, ident) <= 3 * (8 * MIB + 128 * 1024), "files", log_bytes(home, ident))
    wait_until(lambda: ticks(home) > 20, "the other goes on")


def test_drop_policy(home):
    """Policy drop never blocks the writer, and counts what is dropped"""
    total = 400000
    home.sh("loud", "seq 1 %d; echo done > %s/done; exec sleep 1000" % (total, home.work), "--log-policy", "drop",
            "--log-rate", "100Ki", "--log-max-size", "64Mi", "--detach")
    wait_until(lambda: os.path.exists(home.work + "/done"), "the writer is not held up")

    def counted():
        kept, dropped, last = 0, 0, 0
        for x in home.lines("logs", "loud"):
            m = re.match(r"davit: (\d+) lines \((\d+) bytes\) dropped", x["text"])
            if m:
                equal(x["stream"], "stderr", "the marker's stream")
                dropped += int(m.group(1))
            elif x["text"].isdigit():
                check(int(x["text"]) > last, "the order", x, last)
                kept, last = kept + 1, int(x["text"])
        equal(kept + dropped, total, "kept and counted as dropped")
        return kept, dropped
    kept, dropped = wait_until(counted, "the last ones are counted, too", 0.5)
    log("%d lines kept, %d dropped" % (kept, dropped))
    check(dropped > 0 and kept > 0, "nothing dropped or nothing kept", kept, dropped)


def test_oom(home):
    """Out of memory is told as such"""
    if "memory" not in home.limits():
        raise Skip("no memory cgroup can be made here")
    home.cli("run", "fat", "--memory", "48Mi", "--restart", "never", "--detach", "--", sys.executable, "-c",
             "b=[]\nwhile True: b.append(bytearray(1<<20))")
    s = wait_until(lambda: (lambda s: s["status"] == "error" and s)(home.status("fat")))
    check("memory" in s["error"].lower(), "the error", s["error"])
    check("oom" in str(s["instances"][0]["exit"]).lower() or "memory" in str(s["instances"][0]["exit"]).lower(),
          "the exit", s["instances"][0]["exit"])
    check(any("memory" in e["cause"] for e in home.events("exited")), "the event", home.events("exited"))
    # A SIGKILL from elsewhere is none.
    home.sh("shot", "kill -9 $$", "--memory", "48Mi", "--restart", "never", "--detach")
    s = wait_until(lambda: (lambda s: s["status"] == "error" and s)(home.status("shot")))
    check("memory" not in s["error"] and "9" in s["error"], "a mere SIGKILL", s["error"])


def test_groups_of_a_killed_daemon(home):
    """empty control groups that a killed daemon left go with the start of another, a living one's stay"""
    home.start_daemon()
    if not home.can_track():
        raise Skip("there are no control groups that can be made here")
    check(home.cgroups(), "there are groups")
    dead, next_one = Home(), Home()
    try:
        dead.start_daemon()
        dead.json("runtimes")
        check(dead.cgroups(), "it has groups")
        keepers = dead.keepers()
        dead.kill_daemon()
        for pid in keepers:
            os.kill(pid, signal.SIGKILL)
        next_one.start_daemon()
        next_one.json("runtimes")
        equal(dead.cgroups(), [], "groups of the dead")
        check(home.cgroups(), "a living one's groups are gone")
    finally:
        for other in (dead, next_one):
            equal(other.close(), [], "left behind")
            shutil.rmtree(other.dir, ignore_errors=True)


def test_limits(home):
    """The limits of processes and CPU hold"""
    limits = home.limits()
    if not {"pids", "cpu"} <= limits:
        raise Skip("no cgroup for pids or cpu can be made here")
    home.cli("run", "forks", "--pids", "12", "--cpu", "200m", "--", sys.executable, "-c",
             "import os,signal,time\nn=0\ntry:\n while n<50:\n  p=os.fork()\n  if not p: time.sleep(1000)\n  n+=1\n"
             "except OSError as e: print('stopped at', n, e.strerror, flush=True)\n"
             "end=time.monotonic()+2\nwhile time.monotonic()<end: pass\nprint('burnt', flush=True)\ntime.sleep(1000)")
    text = wait_until(lambda: [x["text"] for x in home.lines("logs", "forks") if "stopped" in x["text"]][0])
    equal(text, "stopped at 11 Resource temporarily unavailable", "forks")
    pid = home.pid("forks")
    t, cpu = time.monotonic(), cpu_seconds(pid)
    time.sleep(1)
    share = (cpu_seconds(pid) - cpu) / (time.monotonic() - t)
    log("a CPU hog with 200m got %.0f %%" % (share * 100))
    check(share < 0.35, "more CPU than allowed", share)


if __name__ == "__main__":
    main(globals())
