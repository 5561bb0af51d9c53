# SPDX-License-Identifier: MIT
"""A cgroup of our own in every hierarchy, below the one that we are in. Seen from a cgroup namespace it is the
root, so that whatever engines make there (/docker, /libpod_parent, a test's own) is inside it, is nobody
else's, and can be removed as a whole. Nothing else on the machine is looked at."""
import os
import re
import time


def memberships():
    """{controller or "name=..." or "" for version 2: path of our cgroup}"""
    found = {}
    with open("/proc/self/cgroup") as f:
        for line in f:
            _, names, path = line.rstrip("\n").split(":", 2)
            for name in names.split(","):
                found[name] = path
    return found


def mounts():
    """[(mount point, cgroup that is its root, name of the hierarchy as in memberships())]; proc_pid_mountinfo(5)"""
    names = memberships()
    found = []
    with open("/proc/self/mountinfo") as f:
        for line in f:
            left, right = line.split(" - ")
            kind, _, options = right.split()[:3]
            root, point = (re.sub(r"\\([0-7]{3})", lambda m: chr(int(m.group(1), 8)), w) for w in left.split()[3:5])
            name = next((o for o in options.split(",") if o in names), None) if kind == "cgroup" else ""
            if kind in ("cgroup", "cgroup2") and name in names:
                found.append((point, root, name))
    return found


def write(path, text):
    with open(path, "w") as f:
        f.write(text)


def folders(name):
    """Where groups called NAME are to be made. Of a hybrid machine only version 1 is taken: crun refuses to work
    where both are, and so with-engines takes the other mount away."""
    ours = memberships()
    found = {}
    for point, root, hierarchy in mounts():
        path = ours[hierarchy]
        if root == "/" or path == root or path.startswith(root + "/"):
            inside = path if root == "/" else path[len(root):]
            found[hierarchy] = os.path.normpath("%s/%s/%s" % (point, inside, name))
    return [found[h] for h in found if h] or list(found.values())


def make(groups):
    for folder in groups:
        os.mkdir(folder)
        for file in ("cpuset.cpus", "cpuset.mems"):  # a cpuset of version 1 takes no process until these are set
            parent = os.path.join(os.path.dirname(folder), file)
            if os.path.exists(parent) and not os.path.exists(folder + "/cgroup.controllers"):
                with open(parent) as f:
                    write(os.path.join(folder, file), f.read())


def enter(groups):
    for folder in groups:
        write(folder + "/cgroup.procs", str(os.getpid()))


def remove(groups, within):
    """Removes the groups and all below; waits WITHIN seconds for what is ending. Returns what is left."""
    end = time.monotonic() + within
    while True:
        for folder in groups:
            for path, _, _ in os.walk(folder, topdown=False):
                try:
                    os.rmdir(path)
                except OSError:  # a process is still there: tried again
                    pass
        left = [folder for folder in groups if os.path.exists(folder)]
        if not left or time.monotonic() > end:
            return left
        time.sleep(0.05)
