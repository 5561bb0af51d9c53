#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Files into and out of containers, with everything that a container or an archive may try meanwhile.

test/engines/with-engines runc -- test/torture/oci_copy.py    (or crun: DAVIT_TEST_CRUN, DAVIT_TEST_RUNC tell)
"""
import io
import os
import subprocess
import sys
import tarfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from oci_leaks import runtime_under_test  # noqa: E402
from rig import check, equal, main, wait_until  # noqa: E402


def start(home, *more, words=("sleep", "1000")):
    runtime = runtime_under_test()
    home.start_daemon()
    home.cli("load", "--runtime", runtime, os.environ["DAVIT_TEST_IMAGE_TAR"])
    home.cli("run", "web", "--runtime", runtime, "--image", "localhost/bb:1", "--network", "none", *more, "--", *words)
    wait_until(lambda: home.instances("web")[0]["state"] == "started")


def inside(home, script):
    return home.cli("exec", "web", "--", "sh", "-c", script).stdout


def archive(path, *members):
    with tarfile.open(path, "w") as t:
        for m, content in members:
            m.size = len(content)
            t.addfile(m, io.BytesIO(content))


def member(name, kind=tarfile.REGTYPE, link="", mode=0o644, uid=0):
    m = tarfile.TarInfo(name)
    m.type, m.linkname, m.mode, m.uid, m.gid = kind, link, mode, uid, uid
    return m


def test_trees_go_in_and_come_back(home):
    """a tree with links, modes, owners and holes goes in and comes back the same, running and stopped"""
    start(home)
    tree = os.path.join(home.work, "tree")
    os.makedirs(tree + "/deep/er")
    with open(tree + "/deep/er/file", "w") as f:
        f.write("content\n" * 10000)
    os.chmod(tree + "/deep/er/file", 0o4750)
    os.symlink("/etc/passwd", tree + "/link")
    os.link(tree + "/deep/er/file", tree + "/hard")
    os.mkfifo(tree + "/pipe")
    with open(tree + "/hole", "wb") as f:
        f.truncate(5 << 20)
    os.chmod(tree + "/deep", 0o555)
    for state in ("started", "stopped"):
        if state == "stopped":
            home.cli("stop", "web")
        home.cli("cp", tree, "web:/tmp/" + state)
        back = os.path.join(home.work, "back-" + state)
        home.cli("cp", "web:/tmp/" + state, back)
        st = os.lstat(back + "/deep/er/file")
        equal(st.st_mode & 0o777, 0o750)
        equal(st.st_ino, os.lstat(back + "/hard").st_ino, "the hard link")
        equal(os.readlink(back + "/link"), "/etc/passwd")
        equal(os.lstat(back + "/deep").st_mode & 0o7777, 0o555)
        equal(os.path.getsize(back + "/hole"), 5 << 20)
        with open(back + "/deep/er/file") as f:
            equal(f.read(), "content\n" * 10000)
    home.cli("start", "web")
    wait_until(lambda: home.instances("web")[0]["state"] == "started")
    equal(inside(home, "stat -c %a /tmp/st*/deep/er/file; wc -l </tmp/stopped/deep/er/file").split(),
          ["4750", "4750", "10000"])


def test_volumes_are_written_whether_it_runs_or_not(home):
    """what is copied to the place of a volume is in the volume, and a read-only one is refused"""
    os.mkdir(home.work + "/ro")
    start(home, "-v", "data:/data", "-v", home.work + "/ro:/ro:ro")
    volume = os.path.join(home.dir, "state/volumes")
    with open(home.work + "/a", "w") as f:
        f.write("a")
    home.cli("cp", home.work + "/a", "web:/data/running")
    home.cli("stop", "web")
    home.cli("cp", home.work + "/a", "web:/data/stopped")
    found = sorted(n for _, _, names in os.walk(volume) for n in names if n in ("running", "stopped"))
    equal(found, ["running", "stopped"])
    p = home.cli("cp", home.work + "/a", "web:/ro/x", check=False)
    check(p.returncode != 0 and not os.listdir(home.work + "/ro"), "a read-only volume was written", p.stderr)


def test_links_of_the_container_lead_nowhere(home):
    """links that a container has put where files are copied are followed inside, never on the host"""
    start(home)
    out = home.work + "/victim"
    os.mkdir(out)
    inside(home, "ln -s %s /tmp/abs; ln -s ../../../../../../../../%s /tmp/rel; ln -s /proc/1/root%s /tmp/magic"
           % (out, out, out))
    with open(home.work + "/a", "w") as f:
        f.write("a")
    for name in ("abs", "rel", "magic"):
        home.cli("cp", home.work + "/a", "web:/tmp/%s/a" % name, check=False)
        archive(home.work + "/x.tar", (member(name + "/a"), b"x"))
        with open(home.work + "/x.tar", "rb") as f:
            p = home.cli("cp", "-", "web:/tmp", input=f.read(), check=False)
        check(p.returncode != 0, name + " was followed", p.stdout)
        p = home.cli("cp", "web:/tmp/%s/../victim" % name, home.work + "/stolen", check=False)
        check(p.returncode != 0, name + " was followed out", p.stdout)
    equal(os.listdir(out), [])


def test_hostile_archives_are_refused(home):
    """archives that lead out by names, links or hard links, and devices, are refused"""
    start(home)
    victim = home.work + "/victim"
    with open(victim, "w") as f:
        f.write("mine")
    inside(home, "mkdir /tmp/in; echo inside >/tmp/secret")
    for what, *members in (
            ("dots", (member("../out"), b"x")),
            ("dots within", (member("a/../../out"), b"x")),
            ("a link up", (member("l", tarfile.SYMTYPE, ".."), b""), (member("l/out"), b"x")),
            ("an absolute link", (member("l", tarfile.SYMTYPE, "/tmp"), b""), (member("l/out"), b"x")),
            ("a hard link out", (member("h", tarfile.LNKTYPE, "../secret"), b"")),
            ("a hard link by a link", (member("u", tarfile.SYMTYPE, ".."), b""),
             (member("h", tarfile.LNKTYPE, "u/secret"), b"")),
            ("a device", (member("d", tarfile.CHRTYPE), b""))):
        archive(home.work + "/x.tar", *members)
        with open(home.work + "/x.tar", "rb") as f:
            p = home.cli("cp", "-", "web:/tmp/in", input=f.read(), check=False)
        check(p.returncode != 0, what + " was taken")
        inside(home, "rm -rf /tmp/in; mkdir /tmp/in")
    equal(inside(home, "ls /tmp; cat /tmp/secret").split(), ["in", "secret", "inside"])
    # A name that begins with a slash is one of the directory's, as tar has it.
    archive(home.work + "/x.tar", (member("/abs"), b"x"))
    with open(home.work + "/x.tar", "rb") as f:
        home.cli("cp", "-", "web:/tmp/in", input=f.read())
    equal(inside(home, "ls /tmp/in").split(), ["abs"])
    p = home.cli("cp", "-", "web:/tmp/in", input=b"no archive at all" * 100, check=False)
    check(p.returncode != 0, "garbage was taken")


def test_a_container_cannot_win_a_race(home):
    """a container that swaps a directory for a link all the time gets nothing written or read outside"""
    out = home.work + "/outside"
    os.mkdir(out)
    start(home, words=("sh", "-c", "cd /tmp; mkdir d; ln -s %s l; while :; do mv d e; mv l d; mv d l; mv e d; done"
                       % out))
    archive(home.work + "/x.tar", *[(member("d/%d" % i), b"x") for i in range(300)])
    with open(home.work + "/x.tar", "rb") as f:
        data = f.read()
    for _ in range(10):
        home.cli("cp", "-", "web:/tmp", input=data, check=False)
        home.cli("cp", "web:/tmp/d", "-", check=False)
    equal(os.listdir(out), [])


def test_a_killed_client_leaves_no_copier(home):
    """a client that leaves in the middle of a copy leaves no davit-copy behind"""
    start(home)
    inside(home, "head -c 50000000 /dev/zero >/tmp/big")
    p = subprocess.Popen(["davit", "cp", "web:/tmp/big", "-"], env=home.env, stdout=subprocess.PIPE, cwd=home.work)
    p.stdout.read(1000)
    p.kill()
    p.wait()
    p.stdout.close()
    wait_until(lambda: not [1 for c in os.listdir("/proc") if c.isdigit() and name_of(c) == "davit-copy"])


def name_of(pid):
    try:
        with open("/proc/%s/comm" % pid) as f:
            return f.read().strip()
    except OSError:
        return ""


if __name__ == "__main__":
    main(globals())
