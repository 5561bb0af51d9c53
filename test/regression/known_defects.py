#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The known defects of earlier systems, each as a test that bears its name."""
import datetime
import glob
import json
import os
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../torture"))
from rig import (alive, check, cpu_seconds, equal, log, main, processes, read, stat_of,  # noqa: E402
                 wait_until)


def runs(home, name):
    """How often a workload was really executed: it appends a line each time."""
    return len(read(os.path.join(home.work, name)).splitlines())


def test_retry_counter(home):
    """Retry counter zeroed on each start: --retries 3 is three restarts and then error, over
    restarts of the daemon too"""
    home.start_daemon()
    home.sh("three", "echo x >> %s/three; sleep 0.2; exit 7" % home.work, "--retries", "3", "--detach")
    wait_until(lambda: runs(home, "three") >= 2, "a first restart")
    home.kill_daemon()
    home.start_daemon()
    wait_until(lambda: home.status("three")["status"] == "error", "status error")
    equal(runs(home, "three"), 4, "one run and three restarts")
    s = home.status("three")
    equal(s["restarts"], 3, "restarts in the status")
    equal(s["instances"][0]["exit"]["code"], 7, "its last exit")
    home.kill_daemon()
    home.start_daemon()
    time.sleep(1)
    equal(runs(home, "three"), 4, "a daemon that comes back starts nothing that has failed for good")
    equal(home.status("three")["status"], "error", "status after the restart of the daemon")
    home.sh("none", "echo x >> %s/none; exit 1" % home.work, "--retries", "0", "--detach")
    wait_until(lambda: home.status("none")["status"] == "error", "status error")
    time.sleep(0.5)
    equal(runs(home, "none"), 1, "--retries 0 is no restart")


# One that any user can execute.
PYTHON = "/usr/bin/python3" if os.path.exists("/usr/bin/python3") else sys.executable
OPTIONS = """
namespace=lab type=shell profile=local directory=/tmp user=65534:65534 instances=2 cpu=250m memory=96Mi pids=40
restart=always retries=9 stop-signal=INT stop-grace=3s ready=log ready-pattern=^up ready-timeout=20s
log-max-size=2Mi log-max-files=4 log-policy=drop log-rate=3Mi update-order=stop-first update-parallel=2
""".split()
EXPECTED = {
    "namespace": "lab", "type": "shell", "profile": "local", "directory": "/tmp", "user": "65534:65534",
    "instances": 2, "resources": {"cpu": "250m", "memory": "96Mi", "pids": 40},
    "rlimits": {"nofile": "300:400", "core": "0"}, "env": {"A": "b=c", "EMPTY": "", "SPACED": " x  y "},
    "metadata": {"team": "a=b", "note": "two words"}, "ports": [{"container": 0, "host": 0}],
    "args": ["one two", "--three=3", ""],
    "restart": {"policy": "always", "retries": 9}, "stop": {"signal": "SIGINT", "grace": "3s"},
    "ready": {"type": "log", "pattern": "^up", "timeout": "20s"},
    "logs": {"maxSize": "2Mi", "maxFiles": 4, "policy": "drop", "rate": "3Mi"},
    "update": {"order": "stop-first", "parallel": 2}, "noNewPrivileges": True, "significant": True,
}
GUEST = r"""
import json, os, resource, sys
print("up", flush=True)
groups = {}
for line in open("/proc/self/cgroup"):
    _, what, path = line.strip().split(":", 2)
    groups[what] = path
json.dump({"argv": sys.argv[1:], "env": dict(os.environ), "cwd": os.getcwd(), "uid": os.getuid(), "gid": os.getgid(),
  "groups": os.getgroups(), "nofile": resource.getrlimit(resource.RLIMIT_NOFILE),
  "core": resource.getrlimit(resource.RLIMIT_CORE), "cgroup": groups,
  "nnp": [l.split()[1] for l in open("/proc/self/status") if l.startswith("NoNewPrivs")][0],
  "secret_file": open(os.environ["CREDENTIALS_DIRECTORY"] + "/key").read() }, sys.stdout)
print(flush=True)
import signal; signal.signal(signal.SIGINT, lambda *a: (print("INT", flush=True), sys.exit(0)))
while True: signal.pause()
"""


def subset(want, got, where=""):
    """Every key of want is in got with that value."""
    if isinstance(want, dict):
        for k, v in want.items():
            check(isinstance(got, dict) and k in got, "dropped: %s.%s" % (where, k), got)
            subset(v, got[k], where + "." + k)
    else:
        equal(got, want, where)


def test_options_dropped(home):
    """Options dropped between CLI, store and backend: each is in inspect, survives a restart of the
    daemon, and is what the workload sees"""
    home.start_daemon()
    os.makedirs(home.dir + "/config/profiles")
    with open(home.dir + "/config/profiles/local.env", "w") as f:
        f.write("FROM_PROFILE=p\nA=profile\n")
    os.chmod(home.dir, 0o755)
    os.chmod(home.work, 0o755)
    home.cli("secret", "set", "key", "--namespace", "lab", input=b"file value")
    home.cli("secret", "set", "word", "--namespace", "lab", input=b"variable value")
    options = [x for o in OPTIONS for x in ("--" + o.split("=", 1)[0], o.split("=", 1)[1])]
    home.cli("run", "opt", "v=1", *options, "--rlimit", "nofile=300:400", "--rlimit", "core=0",
             "-e", "A=b=c", "-e", "EMPTY=", "-e", "SPACED= x  y ", "--metadata", "team=a=b",
             "--metadata", "note=two words", "-p", "0", "-v", home.work,
             "--secret", "key", "--secret", "word=WORD", "--no-new-privileges", "--significant",
             "--args", "one two", "--args", "--three=3", "--args", "", "--detach",
             "--command", PYTHON, "--command", "-c", "--command", GUEST)
    ns = ("--namespace", "lab")
    wait_until(lambda: home.json("status", "opt", *ns)[0]["ready"] == 2, "two ready instances")
    for turn in ("as given", "after a restart of the daemon"):
        spec = home.json("inspect", "opt", *ns)["spec"]
        want = {k: v for k, v in EXPECTED.items() if k != "ports"}
        subset(want, spec, turn)
        equal(spec["version"], "v=1", turn)
        check(spec["ports"] and spec["volumes"] and len(spec["secrets"]) == 2, "dropped: lists", spec)
        home.kill_daemon()
        home.start_daemon()
    inst = home.json("status", "opt", *ns)[0]["instances"]
    out = [x["text"] for x in home.lines("logs", "opt", *ns) if x["text"].startswith("{")]
    equal(len(out), 2, "one report for each instance")
    for text, i in zip(out, inst):
        got = json.loads(text)
        equal(got["argv"], ["one two", "--three=3", ""], "arguments")
        subset({"A": "b=c", "EMPTY": "", "SPACED": " x  y ", "WORD": "variable value", "FROM_PROFILE": "p",
                "DAVIT_NAMESPACE": "lab",
                "DAVIT_SERVICE_NAME": "opt", "DAVIT_SERVICE_VERSION": "v=1"}, got["env"], "env")
        equal(got["secret_file"], "file value", "the secret's file")
        equal((got["cwd"], got["uid"], got["gid"], got["nnp"]), ("/tmp", 65534, 65534, "1"), "cwd, user")
        equal((got["nofile"], got["core"]), ([300, 400], [0, 0]), "rlimits")
        limits = cgroup_limits(i["id"])
        for name, values in {"memory": {96 << 20}, "pids": {40}, "cpu": {25000, "25000 100000"}}.items():
            check(limits.get(name) in values, "no limit of %s in the cgroup" % name, limits)
    home.cli("stop", "opt", *ns)
    wait_until(lambda: [x["text"] for x in home.lines("logs", "opt", *ns)].count("INT") == 2,
               "the stop signal was INT")


def cgroup_limits(ident):
    out = {}
    for kind, files in (("memory", ("memory.limit_in_bytes", "memory.max")), ("pids", ("pids.max",)),
                        ("cpu", ("cpu.cfs_quota_us", "cpu.max"))):
        for f in files:
            for path in glob.glob("/sys/fs/cgroup/**/davit-*/%s/%s" % (ident, f), recursive=True):
                text = read(path).decode().strip()
                out[kind] = int(text) if text.lstrip("-").isdigit() else text
    return out


def test_since_and_count(home):
    """--since and log count ignored"""
    home.sh("talk", "for i in 1 2 3 4 5; do echo old $i; done; sleep 2.5; for i in 1 2 3; do echo new $i; done; "
            "exec sleep 1000")
    wait_until(lambda: home.lines("logs", "talk")[-1]["text"] == "new 3", "the last line")
    texts = lambda *a: [x["text"] for x in home.lines("logs", "talk", *a)]  # noqa: E731
    equal(len(texts()), 8, "all lines")
    for n in (0, 1, 2, 4, 8, 100):
        equal(texts("-n", n), texts()[max(0, 8 - n):] if n else [], "-n %d" % n)
    third = home.lines("logs", "talk")[5]["time"]
    begun = datetime.datetime.fromisoformat(third[:19] + "+00:00").timestamp()

    def since_then():  # of what lies 2.5 s behind the old ones: an age between the two, if davit starts soon
        return "--since", "%dms" % ((time.time() - begun) * 1000 + 500)
    wait_until(lambda: texts(*since_then()) == ["new 1", "new 2", "new 3"], "--since an age")
    wait_until(lambda: texts(*since_then(), "-n", 2) == ["new 2", "new 3"], "--since with -n")
    equal(len(texts("--since", "1h")), 8, "--since 1h")
    equal(texts("--since", third), ["new 1", "new 2", "new 3"], "--since TIME")
    home.cli("scale", "talk", 2)
    wait_until(lambda: len(texts()) == 16, "the lines of two instances")
    equal(len(texts("-n", 2)), 4, "-n counts for each instance")


def test_namespace_failure(home):
    """Namespace creation failure reported as success"""
    def refused(code, text, *args, **more):
        p = home.cli(*args, "-o", "json", check=False, **more)
        equal(p.returncode, 1, "exit status of %r: %s" % (args, p.stdout + p.stderr))
        e = json.loads(p.stdout)["error"]
        equal(e["code"], code, "code of %r: %s" % (args, e))
        check(text in e["message"], "the message does not say %r" % text, e)

    home.cli("apply", "-f", "-", input=b"kind: Namespace\nname: small\nquota: {services: 1, instances: 2, "
             b"memory: 100Mi}\n")
    before = home.cli("status", "--namespace", "*", "-o", "json").stdout
    events = len(home.events(everywhere=True))
    bad = (b"kind: Namespace\nname: 'a b'\n", b"kind: Namespace\nname: x\nquota: {services: -2}\n",
           b"kind: Namespace\nname: x\nquota: {service: 2}\n")
    for text in bad:
        p = home.cli("apply", "-f", "-", "-o", "json", input=text, check=False)
        equal(p.returncode, 1, "exit status of %r" % text)
        check(json.loads(p.stdout)["error"]["message"], "no message")
    refused("invalid", "namespace", "run", "s", "--namespace", "not a name", "--command", "sleep 100")
    refused("quota", "namespace small allows", "run", "s", "--namespace", "small", "-i", "3", "--memory", "1Mi", "--command", "sleep 100")
    refused("quota", "namespace small allows", "run", "s", "--namespace", "small", "--memory", "101Mi", "--command", "sleep 100")
    equal(home.cli("status", "--namespace", "*", "-o", "json").stdout, before, "what is there after refusals")
    equal(len(home.events(everywhere=True)), events, "events after refusals")
    home.cli("run", "s", "--namespace", "small", "--memory", "40Mi", "--command", "sleep 100")
    refused("quota", "namespace small allows", "run", "t", "--namespace", "small", "--memory", "1Mi", "--command", "sleep 100")
    refused("quota", "namespace small allows", "scale", "s", "3", "--namespace", "small")
    refused("quota", "namespace small allows", "update", "s", "--namespace", "small", "--memory", "101Mi")
    equal(len(home.json("status", "--namespace", "small")), 1, "services in the namespace")


def test_env_equals(home):
    """Env values with '=' dropped"""
    values = {"A": "b=c", "B": "=", "C": "==x==", "URL": "postgres://u:p@h/db?a=1&b=2", "D": "", "E": "a\nb=c",
              "F": "$HOME `id` \"quoted\" 'single' \\back", "G": "über = ünter"}
    args = [x for k, v in values.items() for x in ("-e", k + "=" + v)]
    with open(home.work + "/env", "w") as f:
        f.write("FROM_FILE=x=y=z\nQUOTED=\"a = b\"\n")
    home.cli("run", "env", *args, "--env-file", home.work + "/env", "--", sys.executable, "-c",
             "import json,os;print(json.dumps(dict(os.environ)),flush=True);import time;time.sleep(1000)")
    want = dict(values, FROM_FILE="x=y=z", QUOTED="a = b")
    equal({k: home.json("inspect", "env")["spec"]["env"].get(k) for k in want}, want, "inspect")
    line = wait_until(lambda: home.lines("logs", "env")[0]["text"])
    equal({k: json.loads(line).get(k) for k in want}, want, "what the workload sees")
    home.cli("update", "env", "-e", "A=again=and=again")
    wait_until(lambda: json.loads(home.lines("logs", "env")[-1]["text"])["A"] == "again=and=again")
    equal(json.loads(home.lines("logs", "env")[-1]["text"])["C"], "==x==", "the others after an update")


def group_of(home, mark):
    """Living processes that were started with this mark in their arguments or environment."""
    return [p for p in processes() if p != os.getpid() and alive(p)
            and mark.encode() in read("/proc/%d/cmdline" % p) + read("/proc/%d/environ" % p)
            and stat_of(p)[1] != str(os.getpid())]


def test_leaked_groups(home):
    """Leaked process groups: nothing of a service is left after stop, kill, restart, update, its own
    end, or the end of its main process by SIGKILL"""
    mark = "LEAK=%s" % os.path.basename(home.dir)
    end = home.work + "/end"
    os.mkfifo(end)
    script = ("sleep 1001 & (sleep 1002 & sleep 1003) & sh -c 'trap \"\" TERM; sleep 1004 & wait' & "
              "setsid sleep 1005 & (setsid sh -c 'sleep 1006 & exec sleep 1007' &) ; ")
    opts = ("-e", mark, "--stop-grace", "300ms")
    for way in ("stop", "kill", "restart", "update", "end", "murder"):
        tail = "read x <%s; exit 0" % end if way == "end" else "wait; sleep 1000"
        home.sh("leak", script + tail, *opts, *(("--restart", "never") if way in ("end", "murder") else ()),
                "--detach")
        before = wait_until(lambda: (lambda g: len(g) >= 7 and g)(group_of(home, mark)), "its descendants")
        if way == "end":
            with open(end, "w") as f:
                f.write("now\n")
            wait_until(lambda: home.status("leak")["status"] == "stopped", "its end")
        elif way == "murder":
            os.kill(home.pid("leak"), signal.SIGKILL)
            wait_until(lambda: home.status("leak")["status"] == "error", "its end")
        elif way == "update":
            home.cli("update", "leak", "-e", "X=1")
        else:
            home.cli(way, "leak")
        wait_until(lambda: not [p for p in before if alive(p)], "after %s nothing of it is left" % way)
        if way != "kill":
            home.cli("kill", "leak")
        wait_until(lambda: not group_of(home, mark), "after kill")


def test_running_lie(home):
    """'running' for a service that is not"""
    def changes():
        home.cli("kill", "lie", check=False)
        home.sh("lie", "exec sleep 1000", "--restart", "never")
        equal(home.status("lie")["status"], "running", "at first")
        os.kill(home.pid("lie"), signal.SIGKILL)
        return lambda: wait_until(lambda: home.status("lie")["status"] == "error",
                                  "status error after a kill behind our back", 0.001)
    for _ in range(5):  # a busy machine has quiet moments
        seen = changes()
        t = time.monotonic()
        seen()
        took = time.monotonic() - t
        log("the status changed within %.0f ms" % (took * 1000))
        if took < 0.5:
            break
    check(took < 0.5, "the status changed after %.2f s" % took)
    i = home.instances("lie")[0]
    equal((i["pid"], i["exit"]["signal"]), (None, 9), "pid and exit")
    check("signal 9" in home.status("lie")["error"], "the error says why", home.status("lie"))
    # One that cannot be executed never was running.
    p = home.cli("run", "nothing", "--retries", "0", "--", "/nonexistent/program", check=False)
    equal(p.returncode, 1, "status of run of what does not exist")
    check("No such file" in p.stderr, "the reason is told", p.stderr)
    check(not [e for e in home.events("started") if "nothing" in e["service"]], "no started event")
    # Killed while no daemon looks: the next one knows.
    home.sh("gone", "exec sleep 1000", "--restart", "never")
    pid = home.pid("gone")
    home.cli("daemon", "stop")
    os.kill(pid, signal.SIGKILL)
    check(home.status("gone")["status"] != "running", "killed while there was no daemon: the first answer")
    wait_until(lambda: home.status("gone")["status"] == "error", "killed while there was no daemon")
    equal(home.instances("gone")[0]["exit"]["signal"], 9, "and how it ended is known")


def test_secrets_plain(home):
    """Secrets in the store as plain text"""
    value = "hunter2-%s-verysecret" % os.urandom(6).hex()
    second = "second-%s-value" % os.urandom(6).hex()
    home.cli("secret", "set", "db", input=value.encode())
    home.cli("secret", "set", "file", input=second.encode())
    home.cli("run", "app", "--secret", "db=DB_PASSWORD", "--secret", "file", "--", sys.executable, "-c",
             "import os,time;assert os.environ['DB_PASSWORD']=='" + value[:4] + "'+'" + value[4:] + "'\n"
             "assert open(os.environ['CREDENTIALS_DIRECTORY']+'/file').read().startswith('second-')\n"
             "print('has it',flush=True)\ntime.sleep(1000)")
    wait_until(lambda: home.lines("logs", "app")[0]["text"] == "has it", "the workload has the secrets")
    home.cli("restart", "app")
    home.cli("secret", "set", "db", input=(value + "x").encode())
    home.cli("secret", "rm", "file", check=False)
    pid = wait_until(lambda: home.pid("app"))
    for args in (("inspect", "app", "-o", "json"), ("status", "-o", "json"), ("events", "-o", "json"),
                 ("why", "app"), ("tree", "-o", "json"), ("secret", "list", "-o", "json"), ("ps", "-o", "json"),
                 ("logs", "app", "-o", "json"), ("daemon", "status", "-o", "json")):
        out = home.cli(*args, check=False)
        check(value not in out.stdout + out.stderr and second not in out.stdout + out.stderr,
              "the secret is in davit %s" % " ".join(args))
    for p in [pid] + list(home.ours()):
        check(value.encode() not in read("/proc/%d/cmdline" % p), "the secret is in a command line")
    for d in [home.daemon_pid()] + home.keepers():
        check(value.encode() not in read("/proc/%d/environ" % d), "the secret is in the environment of a daemon")
    files = [os.path.join(d, f) for d, _, names in os.walk(home.dir) for f in names]
    check(any(f.endswith("store.db-wal") or f.endswith("store.db") for f in files), "no store is found", files)
    allowed = os.path.join(home.dir, "run")
    for f in files:
        text = read(f)
        check(value.encode() not in text, "the secret is in plain text in", f)
        if second.encode() in text:
            # The file that the workload reads: in memory only, for its user alone.
            check(f.startswith(allowed) and os.stat(f).st_mode & 0o077 == 0, "the secret is in plain text in", f)
    home.cli("daemon", "stop")
    for f in glob.glob(home.dir + "/state/*"):
        check(value.encode() not in read(f), "the secret is in plain text after the end in", f)


def test_logs_shared(home):
    """One log per name shared by versions and namespaces"""
    home.cli("apply", "-f", "-", input=b"kind: Namespace\nname: other\n")
    places = [("default", "v1"), ("default", "v10"), ("other", "v1"), ("default", "v1:x/y=z")]

    def texts(version, namespace="default"):
        return [x["text"] for x in home.lines("logs", "same", version, "--namespace", namespace)]
    for ns, v in places:
        home.cli("run", "same", v, "--namespace", ns, "--", "sh", "-c", "echo 'I am %s %s'; exec sleep 1000" % (ns, v))
    for ns, v in places:
        wait_until(lambda: texts(v, ns) == ["I am %s %s" % (ns, v)], "the log of %s %s" % (ns, v))
    home.cli("kill", "same", "v1")
    equal(sorted(s["version"] for s in home.json("status", "same")), ["v10", "v1:x/y=z"], "after kill of v1")
    equal(home.json("status", "same", "--namespace", "other")[0]["status"], "running", "the other namespace's v1")
    home.sh("same", "echo again; exec sleep 1000", "--name", "same2", check=False)
    home.cli("run", "same", "v1", "--", "sh", "-c", "echo 'second life'; exec sleep 1000")
    wait_until(lambda: "second life" in texts("v1"), "its own new log")
    check("I am default v10" not in texts("v1"), "v10 is not v1")


def test_store_hot_loop(home):
    """A hot loop on a store error"""
    import sqlite3
    home.start_daemon()
    home.sh("crash", "sleep 0.3; exit 1", "--detach")
    home.sh("calm", "exec sleep 1000")
    pid = home.pid("calm")
    db = sqlite3.connect(home.dir + "/state/store.db", timeout=10, isolation_level=None)
    db.execute("BEGIN EXCLUSIVE") if not read(home.dir + "/state/store.db-wal") else db.execute("BEGIN IMMEDIATE")
    cpu, t = cpu_seconds(home.daemon.pid), time.monotonic()
    time.sleep(4)
    used = (cpu_seconds(home.daemon.pid) - cpu) / (time.monotonic() - t)
    log("CPU of davitd while the store is locked: %.1f %%" % (used * 100))
    check(used < 0.2, "davitd uses %.0f %% of a CPU" % (used * 100))
    equal(home.pid("calm"), pid, "status answers meanwhile")
    db.execute("ROLLBACK")
    db.close()
    wait_until(lambda: home.json("daemon", "status")["store"]["healthy"], "the store is healthy again")
    home.cli("run", "after", "--command", "sleep 1000")
    equal(home.status("after")["status"], "running", "a command afterwards")


if __name__ == "__main__":
    main(globals())
