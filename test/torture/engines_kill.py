#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The daemon is killed at random moments while images are loaded and built and containers are made, started, stopped
and removed, on docker, podman, crun and runc.

    test/engines/with-engines docker podman crun runc -- test/torture/engines_kill.py [WORD]...
    TORTURE_KILLS=N      so many kills of each test
"""
import os
import shutil
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import oci_leaks  # noqa: E402
from containers import (  # noqa: E402
    ENGINES, IMAGE, RUNTIMES, ContainersHome, for_each, no_doubles, only, output, spec)
from rig import CommandError, Skip, check, equal, log, main, read, rng, wait_until  # noqa: E402

KILLS = int(os.environ.get("TORTURE_KILLS", "25"))
ARCHIVE = os.environ.get("DAVIT_TEST_IMAGE_TAR", "")


# ------------------------------------------------------------------------- leaks

def lines(*argv):
    return sorted(output(*argv).splitlines())


def of_engine(home, runtime):
    """All that an engine and the machine have of containers; whose they are is not asked."""
    with open("/proc/self/mounts") as f:
        mounts = sorted(line.split()[1] for line in f if "overlay" in line or home.dir in line or "/shm" in line)
    groups = sorted(d for d, _, _ in os.walk("/sys/fs/cgroup") if len(os.path.basename(d).split("-")[-1]) >= 64
                    and "/unified/" not in d)  # not a namespace's own: others' are there
    state = os.path.join(home.dir, "state/runtime", runtime)
    return {"containers": lines(runtime, "ps", "-a", "-q"), "volumes": lines(runtime, "volume", "ls", "-q"),
            "networks": lines(runtime, "network", "ls", "-q"), "mounts": mounts, "groups": groups,
            "images": lines(runtime, "images", "-a", "-q"),
            "records": [n for n in oci_leaks.below(state) if n != "home"]}  # who we are: once and for ever


def of_oci(home, runtime):
    found = oci_leaks.traces(home, runtime)
    state = os.path.join(home.dir, "state")
    found["networks"] = [n for n in oci_leaks.below(state + "/networks") if n != "bridge"]  # there for all
    found["volumes"] = oci_leaks.below(state + "/volumes")
    found["blobs"] = sorted(os.path.relpath(os.path.join(d, f), state) for d, _, files in
                            os.walk(state + "/images") for f in files if not f.endswith(".lock"))
    return found


def traces(home, runtime):
    return of_engine(home, runtime) if runtime in ENGINES else of_oci(home, runtime)


def left(before, after):
    """What is there that was not."""
    new = {k: sorted(set(after[k]) - set(before[k])) if isinstance(after[k], list) else
           after[k] if after[k] != before[k] else "" for k in after}
    return {k: v for k, v in new.items() if v}


def commands(runtime, n):
    """Some commands, one after the other, any of which may be cut off."""
    name, volume, network = "c%d" % n, "davit-t%d" % (n % 3), "davit-n%d" % (n % 2)
    run = ["run", name, "--runtime", runtime, "--image", IMAGE, "--restart", rng.choice(["never", "always"]),
           "--stop-grace", "1s"]
    if rng.random() < 0.4:
        run += ["-v", volume + ":/data"]
    if rng.random() < 0.3:
        run += ["--network", network]
    words = rng.choice([["true"], ["sleep", "1000"], ["sh", "-c", "exit 3"]])
    made = [["volume", "create", "--runtime", runtime, volume], ["network", "create", "--runtime", runtime, network],
            ["load", "--runtime", runtime, ARCHIVE]]
    return rng.sample(made, rng.randint(0, 2)) + [run + ["--"] + words, ["stop", name], ["kill", name]][
        :rng.randint(1, 3)]


def clients(home, runtime, first, n):
    out = []
    for k in range(first, first + n):
        text = " ; ".join(" ".join("'%s'" % w for w in ["davit", *c]) for c in commands(runtime, k))
        out.append(subprocess.Popen(["sh", "-c", text], env=home.env, stdout=subprocess.DEVNULL, cwd=home.work,
                                    stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, start_new_session=True))
    return out


def each_kill_leaks_nothing(home, runtime):
    """kills of the daemon while images, volumes, networks and containers are made and removed leave nothing
    behind that 'davit kill' and 'rm' do not remove"""
    before = traces(home, runtime)
    made, begun = 0, time.monotonic()
    for kill in range(KILLS):
        running = clients(home, runtime, made, 3)
        made += 3
        time.sleep(rng.uniform(0, 0.6 if runtime in ENGINES else 0.25))
        # The clients first: one that finds no daemon starts one.
        for p in running:
            os.killpg(p.pid, signal.SIGKILL)
            p.wait()
        time.sleep(rng.choice([0, 0.002, 0.01, 0.05]))
        home.kill_daemon()
        home.start_daemon()
        if rng.random() < 0.7:  # else it is asked, and perhaps killed, before that
            home.opened(runtime)
        if time.monotonic() - begun > 60:
            break
    home.opened(runtime)
    there = [s["name"] for s in home.json("status")]
    log("%d kills, %d services were made, %d are there" % (kill + 1, made, len(there)))
    no_doubles(home, runtime)
    for name in there:
        home.cli("kill", name, check=False)
    wait_until(lambda: not home.json("status"), "all services are gone", 0.2)
    for kind in ("volume", "network"):
        # Docker may have two networks with one name; both go with it.
        for name in {o["name"] for o in home.json(kind, "ls", "--runtime", runtime)}:
            if name.startswith("davit-"):
                wait_until(lambda: home.cli(kind, "rm", "--runtime", runtime, name), "%s rm" % kind, 0.2)
    # A load that was killed leaves its folder to the next job of davit-image, which removes it (docs/images.md).
    home.cli("load", "--runtime", runtime, ARCHIVE)
    try:
        wait_until(lambda: not left(before, traces(home, runtime)), step=0.2)
    except AssertionError:
        pass  # what is left is said below
    equal(left(before, traces(home, runtime)), {}, "left behind")


# ------------------------------------------------------------------------- builds

def source(home, n):
    """A directory whose image takes a while: each step is one that nobody has in a cache."""
    where = os.path.join(home.work, "source%d" % n)
    os.mkdir(where)
    with open(os.path.join(where, "Dockerfile"), "w") as f:
        f.write("FROM %s\nRUN echo %s%d >/one; sleep 0.2\nCOPY text /text\nRUN sleep 0.3; cat /one /text >/two\n"
                'ENTRYPOINT ["sh", "-c", "trap exit TERM; sleep 100000 & wait"]\n' %
                (IMAGE, os.path.basename(home.dir), n))
    with open(os.path.join(where, "text"), "w") as f:
        f.write("text %d\n" % n)
    return where


def of_builds(home, runtime):
    """What builds alone leave: their directories, and the containers that podman's list leaves out."""
    if runtime in ENGINES:  # the layers of steps that were done, without a name: an engine's cache, and so kept
        output(runtime, "image", "prune", "-f")
    found = dict(traces(home, runtime), work=oci_leaks.below(os.path.join(home.dir, "cache/work")),
                 temporary=sorted(n for d in ("/tmp", "/var/tmp") for n in os.listdir(d) if n.startswith("buildah")))
    if runtime == "podman":
        found["containers"] = lines("podman", "ps", "-a", "-q", "--external")
    return found


def wait_built(home, name):
    try:
        wait_until(lambda: home.status(name)["status"] == "running", name + " is built and runs", 0.1)
    except AssertionError:
        log(home.cli("logs", "--build", name, check=False).stdout)
        raise


@only("docker", "podman", "crun")
def each_killed_build_leaves_nothing(home, runtime):
    """kills of the daemon while images are built leave nothing half built: what is wanted is built and runs, what
    is not leaves no image, container, mount or directory"""
    if runtime not in ENGINES and not shutil.which("buildah"):
        raise Skip("buildah is not installed")
    before = of_builds(home, runtime)
    begun, kept, cut = time.monotonic(), [], 0
    for n in range(min(KILLS, 5)):
        name = "b%d" % n
        home.cli("run", name, "--runtime", runtime, "--source", source(home, n), "--stop-grace", "1s", "--detach")
        time.sleep(rng.uniform(0, 2))
        home.kill_daemon()
        time.sleep(rng.choice([0, 0.05, 1.5]))
        home.start_daemon()
        if rng.random() < 0.5:
            home.opened(runtime)
            time.sleep(rng.uniform(0, 2))
            home.cli("kill", name)  # in the midst of it, or when it runs already
            cut += 1
        else:
            kept.append(name)
        if time.monotonic() - begun > 20:
            break
    for name in kept:
        wait_built(home, name)
        equal(home.cli("exec", name, "--", "cat", "/two").stdout.splitlines()[1], "text %s" % name[1:], "what was built")
    no_doubles(home, runtime, kept if runtime in ENGINES else None)
    log("%d kills, %d builds went on, %d were cut off" % (n + 1, len(kept), cut))
    for name in kept:
        home.cli("kill", name)
    # The next build takes the images away that nobody needs.
    home.cli("run", "last", "--runtime", runtime, "--source", source(home, n + 1), "--stop-grace", "1s")
    home.cli("kill", "last")
    wait_until(lambda: not home.json("status"), "all services are gone", 0.2)
    for image in home.json("images", "--runtime", runtime):
        for reference in image["references"]:
            if reference.startswith("localhost/davit/"):
                check(reference.startswith("localhost/davit/last:"), "an image that nobody needs", reference)
                home.cli("image", "rm", "--runtime", runtime, reference)
    before["work"] = oci_leaks.below(os.path.join(home.dir, "cache/work"))
    equal(len(before["work"]), 1, "builds in the cache: the last one")
    try:
        wait_until(lambda: not left(before, of_builds(home, runtime)), step=0.2)
    except AssertionError:
        pass  # what is left is said below
    equal(left(before, of_builds(home, runtime)), {}, "left behind")


# --------------------------------------------------------- exits and lines

# The book is a volume of the host's: begin and end of each run, and how it ended.
CRASH = ('n=$(($(grep -c start /book/NAME) + 1)); echo "start $n" >>/book/NAME; echo "line $n 1"; sleep 0.WAIT; '
         'echo "line $n 2"; echo "end $n $((n % 100 + 1))" >>/book/NAME; exit $((n % 100 + 1))')
TICK = 'i=0; while :; do i=$((i + 1)); echo "line $i"; sleep 0.02; done'


def book(home, name, word):
    return [int(x.split()[-1]) for x in read(os.path.join(home.work, name)).decode().splitlines() if
            x.startswith(word)]


def exits_of(home, name):
    """The ends of runs by themselves: those that were told, and those in the book."""
    exits = [e["cause"] for e in home.events("exited", service="default/%s:latest" % name)]
    # The last may have ended by itself while it was asked to.
    told = [c.replace(", as asked", "") for c in exits if c.startswith("exit code")]
    ends = ["exit code %d" % c for c in book(home, name, "end")]
    # One that was ended by the stop between its last line in the book and its end.
    if len(told) == len(ends) - 1 and exits and exits[-1].startswith("signal ") and exits[-1].endswith(", as asked"):
        ends.pop()
    return told, ends


def each_exit_is_told_once(home, runtime):
    """kills of the daemon over services that end and begin again: every exit is told once with its code, no
    line of output is lost or doubled"""
    names = ["crash%d" % k for k in range(3)]
    volume = [{"type": "bind", "source": home.work, "target": "/book"}]
    home.create([spec(runtime, n, CRASH.replace("NAME", n).replace("WAIT", str(k + 1)), "on-failure", volumes=volume)
                 for k, n in enumerate(names)] + [spec(runtime, "tick%d" % k, TICK) for k in range(3)])
    wait_until(lambda: all(home.status("tick%d" % k)["ready"] for k in range(3)), "all run", 0.1)
    before = {k: home.instances("tick%d" % k)[0]["id"] for k in range(3)}
    begun = time.monotonic()
    for kill in range(KILLS):
        time.sleep(rng.uniform(0, 1.0))
        home.kill_daemon()
        time.sleep(rng.choice([0, 0.01, 0.2, 0.5]))
        home.start_daemon()
        if time.monotonic() - begun > 45:
            break
    home.opened(runtime)
    time.sleep(1)
    for n in names:
        home.cli("stop", n)
    wait_until(lambda: all(home.status(n)["status"] == "stopped" for n in names), "those that crash stop", 0.1)
    # The end of a start that the stop has cut short comes by itself, maybe after a moment in which all is told.
    def settled():
        first = [exits_of(home, n) for n in names]
        time.sleep(1)
        return first == [exits_of(home, n) for n in names] and all(told == ends for told, ends in first)
    try:
        wait_until(settled, step=0.1)
    except AssertionError:
        pass  # what differs is said below
    for n in names:
        equal(*exits_of(home, n), n + ": exits told, and as they were")
        got = [x["text"] for x in home.lines("logs", n) if x["text"].startswith("line")]
        want = ["line %d %d" % (r, i) for r in range(1, len(book(home, n, "start")) + 1) for i in (1, 2)]
        if got != want[:len(got)] or len(got) < len(want) - 1:  # the last run may have been stopped half way
            first = next((k for k, (a, b) in enumerate(zip(got, want)) if a != b), min(len(got), len(want)))
            raise AssertionError("%s: %d lines of %d, differ at %d: %r, wanted %r" % (
                n, len(got), len(want), first, got[max(0, first - 2):first + 3], want[max(0, first - 2):first + 3]))
    for k in range(3):
        equal(home.instances("tick%d" % k)[0]["id"], before[k], "the instance goes on")
        equal(home.instances("tick%d" % k)[0]["restarts"], 0, "it goes on")
        got = [int(x["text"].split()[1]) for x in home.lines("logs", "tick%d" % k)]
        wrong = [(a, b) for a, b in zip(got, got[1:]) if b != a + 1]
        check(got and got[0] == 1 and not wrong, "tick%d: lines lost or doubled" % k, len(got), wrong[:5])
    log("%d kills, %d exits, %d lines" % (kill + 1, sum(len(book(home, n, "end")) for n in names), 3 * len(got)))
    no_doubles(home, runtime)


for_each(globals(), RUNTIMES)
if __name__ == "__main__":
    main(globals(), ContainersHome)
