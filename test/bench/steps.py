# SPDX-License-Identifier: MIT
"""The part `step`: one isolated step beside `unshare` with the same mounts and an OCI runtime; an input of
100,000 files; the store beside `tar | zstd -1`; a plan of a thousand trivial steps."""
import os
import resource
import shutil
import statistics
import subprocess
import tempfile
import time

import peers

BUILD = peers.BUILD
# With two inputs over overlays and an output: what davit does, by the programs of util-linux.
MOUNTS = """
mount -t overlay -o lowerdir=$1/l1,upperdir=$1/u1,workdir=$1/w1,volatile overlay $1/m1
mount -t overlay -o lowerdir=$1/l2,upperdir=$1/u2,workdir=$1/w2,volatile overlay $1/m2
mount --bind $1/o $1/mo
exec true
"""


def cpu():
    """Milliseconds of CPU that our ended children and theirs have used."""
    r = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (r.ru_utime + r.ru_stime) * 1e3


def in_cpu(argv):
    """(milliseconds, those of CPU) of a program: on a busy machine the clock tells of others."""
    before = cpu()
    return ms(argv), cpu() - before


def ms(argv, **more):
    begin = time.monotonic()
    subprocess.run(argv, check=True, stdin=subprocess.DEVNULL, **more)
    return (time.monotonic() - begin) * 1e3


def bench_all(home, *argv):
    out = subprocess.run([BUILD + "/bench-step", *argv], check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                         text=True, env={**os.environ, "DAVIT_HOME": home})
    return [float(x) for x in out.stdout.split()]


def bench(home, *argv):
    return bench_all(home, *argv)[0]


def unshare(directory):
    for name in "l1", "l2", "m1", "m2", "o", "mo":
        os.makedirs(f"{directory}/{name}", exist_ok=True)
    for name in "u1", "w1", "u2", "w2":
        shutil.rmtree(f"{directory}/{name}", ignore_errors=True)
        os.makedirs(f"{directory}/{name}")
    return ms(["unshare", "-m", "-p", "-i", "-u", "-f", "--mount-proc", "--propagation", "private", "sh", "-ec", MOUNTS,
               "sh", directory])


def oci(directory):
    """(name, function) of crun inside with-engines, else of runc, else None."""
    name = "crun" if os.environ.get("DAVIT_TEST_CRUN") else "runc"
    if not shutil.which(name) or not os.path.exists("/bin/busybox"):
        return None
    os.makedirs(directory + "/rootfs/bin")
    shutil.copy("/bin/busybox", directory + "/rootfs/bin/true")
    subprocess.run([name, "spec"], cwd=directory, check=True)
    config = directory + "/config.json"
    with open(config) as f:
        text = f.read().replace('"sh"', '"/bin/true"').replace('"terminal": true', '"terminal": false')
    with open(config, "w") as f:
        f.write(text)
    return name + " run", lambda: ms([name, "run", f"bench-{os.getpid()}"], cwd=directory)


def docker():
    """`docker run` of the tests' image, inside with-engines docker."""
    image = os.environ.get("DAVIT_TEST_IMAGE")
    if not os.environ.get("DAVIT_TEST_DOCKER_SOCKET") or not shutil.which("docker"):
        return None
    return "docker run", lambda: ms(["docker", "run", "--rm", image, "true"])


def overhead(o, work):
    others = [x for x in (oci(work + "/oci"), docker()) if x]
    rows = {name: [] for name in ["davit_execute()", "unshare, sh, mount", *(x[0] for x in others)]}
    for _ in range(5 * o.rounds):
        rows["davit_execute()"].append(bench(work + "/home", "5", "true"))
        rows["unshare, sh, mount"].append(unshare(work + "/un"))
        for name, run in others:
            rows[name].append(run())
    return {name: statistics.median(v) for name, v in rows.items()}


def many_files(directory, n):
    """n files of 10 kB, a hundred in each directory."""
    block = os.urandom(5000) * 2
    for i in range(n // 100):
        os.makedirs(f"{directory}/{i}")
        for k in range(100):
            with open(f"{directory}/{i}/{k}", "wb") as f:
                f.write(block[k:] + b"%d" % i)


def few_files(directory, n):
    """n files of 32 MB, of which half can be compressed."""
    os.makedirs(directory)
    for i in range(n):
        with open(f"{directory}/{i}", "wb") as f:
            for _ in range(512):
                f.write(os.urandom(32768) + b"a line of text\n" * 2185)


def store_rows(o, work, directory):
    """What the store does with a directory beside what tar and zstd do, in turn: [(name, [(ms, ms of CPU)])]. An
    artifact is there when its name is, as the archive is when its file has been closed: neither waits for the disk."""
    rows = {"`tar \\| zstd -1` to a file": [], "taken, as the output of a step is: renamed, hashed": [],
            "copied in and hashed, as a directory for `-i` is": [], "the same once more": [],
            "written out as tar through zstd": []}
    for i in range(o.rounds):
        home, other = f"{work}/store{i}", f"{work}/other{i}"
        subprocess.run(["cp", "-a", directory, work + "/output"], check=True)
        for row, of in zip(rows.values(), [
                in_cpu(["sh", "-c", f"tar -C {directory} -c . | zstd -1 -q -f -o {work}/peer.tar.zst"]),
                bench_all(other, "take", work + "/output"),
                *(bench_all(home, what, directory) for what in ("put", "put", "get"))]):
            row.append(of)
        subprocess.run(["rm", "-rf", other, *([home] if i else [])], check=True)
    return rows


def store_table(o, work, title, directory):
    rows = store_rows(o, work, directory)
    medians = {name: [statistics.median(x) for x in zip(*v)] for name, v in rows.items()}
    peer = next(iter(medians.values()))
    lines = ["", f"### {title}", "", "| | ms | of CPU | speed against tar and zstd | by CPU |", "|---|---|---|---|---|"]
    for name, (wall, used) in medians.items():
        lines.append(f"| {name} | {wall:.0f} | {used:.0f} | {peer[0] / wall:.2f} | {peer[1] / used:.2f} |")
    first, then = bench_all(f"{work}/store0", "mount", directory)
    lines += [f"| the first step with it as an input | {first:.1f} | | | |", f"| the next one | {then:.1f} | | | |"]
    subprocess.run(["rm", "-rf", f"{work}/store0"], check=True)
    return lines


FEW = 4
PLAN_STEPS, AT_A_TIME = 1000, 8


def plan_davit(work):
    """Seconds from the beginning of a run of trivial steps to its end, with the host's start and all of its journal."""
    env = {**os.environ, "DAVIT_HOME": work + "/plan"}
    steps = "".join(f"      - {{task: t{i}, config: {{run: {{path: 'true'}}}}}}\n" for i in range(PLAN_STEPS))
    with open(work + "/plan.yml", "w") as f:
        f.write(f"jobs:\n- name: many\n  plan:\n  - in_parallel:\n      limit: {AT_A_TIME}\n      steps:\n" + steps)
    begin = time.monotonic()
    subprocess.run([BUILD + "/davit", "job", work + "/plan.yml", "many", "--json"], check=True, env=env,
                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.monotonic() - begin


def plan_unshare():
    """The same number of programs in namespaces of their own, as many at a time, and nothing else."""
    begin = time.monotonic()
    subprocess.run(f"seq {PLAN_STEPS} | xargs -P {AT_A_TIME} -I_ unshare -m -p -i -u -f --mount-proc "
                   "--propagation private true", shell=True, check=True, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL)
    return time.monotonic() - begin


def plan(o, work):
    davit, bare = [], []
    try:
        for _ in range(o.rounds):
            davit.append(PLAN_STEPS / plan_davit(work))
            bare.append(PLAN_STEPS / plan_unshare())
    finally:
        subprocess.run([BUILD + "/davit", "daemon", "stop", "--all"], env={**os.environ, "DAVIT_HOME": work + "/plan"},
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return ["", f"### A plan of {PLAN_STEPS} trivial steps, {AT_A_TIME} at a time", "", "| | steps a second |", "|---|---|",
            f"| `davit job`: isolated, durable, logged | {statistics.median(davit):.0f} |",
            f"| `xargs -P {AT_A_TIME} unshare` | {statistics.median(bare):.0f} |"]


def step(o, subjects):
    subprocess.run(["ninja", "-C", BUILD, "--quiet", "bench-step"], check=True)
    work = tempfile.mkdtemp(prefix="davit-bench.")
    try:
        lines = ["### One isolated step, two inputs, one output", "", "| | ms |", "|---|---|"]
        for name, v in overhead(o, work).items():
            lines.append(f"| {name} | {v:.1f} |")
        many_files(work + "/many", o.files)
        few_files(work + "/few", FEW)
        small = bench(work + "/home", "1", "true")
        lines += ["", f"A step with two small inputs: {small:.1f} ms."]
        lines += store_table(o, work, f"Into the store: {o.files} files of 10 kB", work + "/many")
        lines += store_table(o, work, f"Into the store: {FEW} files of 32 MB", work + "/few")
        return lines + plan(o, work)
    finally:
        shutil.rmtree(work, ignore_errors=True)
