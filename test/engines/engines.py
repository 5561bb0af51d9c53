# SPDX-License-Identifier: MIT
"""Docker's and Podman's services, as with-engines starts them and engine-ctl moves them about.

All that an engine is stands in DIRECTORY/NAME.json (its command and environment), so that any process
inside can stop it and start it again; NAME.sock is its API, NAME.pid its process, NAME.log what it said."""
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import time

READY_WITHIN = 30
STOPPED_WITHIN = 20

# Engine programs that stand outside PATH are found by Podman in its own list of folders.
NEEDS = {"docker": ["dockerd", "containerd", "containerd-shim-runc-v2", "runc", "iptables"],
         "podman": ["podman", "conmon", "runc"],
         "crun": ["crun"], "runc": ["runc"]}

# The service has no systemd, so cgroups are its own; a limit above the hard one of this machine would
# be refused, so there are limits that every machine has. static_dir must stay where the graph root puts it: the
# cleanup that conmon starts is told of the graph root alone, finds no container elsewhere, and every wait for an
# exit then lasts 20 s.
CONTAINERS_CONF = """[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
log_driver = "k8s-file"
[network]
network_backend = "netavark"
network_config_dir = "{dir}/podman/networks"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "{runtime}"
tmp_dir = "{dir}/podman/tmp"
helper_binaries_dir = ["/usr/lib/podman", "/usr/libexec/podman", "/usr/local/libexec/podman", "/usr/bin"]
"""
STORAGE_CONF = """[storage]
driver = "overlay"
graphroot = "{dir}/podman/root"
runroot = "{dir}/podman/run"
"""


class Unavailable(Exception):
    """An engine cannot be had; the message is the reason that tests give for being skipped."""


class Unix(http.client.HTTPConnection):
    def __init__(self, path, timeout):
        super().__init__("engine", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Engine:
    def __init__(self, directory, name):
        self.directory, self.name = directory, name
        self.socket, self.pidfile, self.log, self.spec = (
            os.path.join(directory, name + end) for end in (".sock", ".pid", ".log", ".json"))

    def define(self, argv, env):
        with open(self.spec, "w") as f:
            json.dump({"argv": argv, "env": env}, f)

    def request(self, method, path, body=None, timeout=60):
        connection = Unix(self.socket, timeout)
        try:
            connection.request(method, path, body, {"Content-Type": "application/x-tar"} if body else {})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def answers(self):
        try:
            return self.request("GET", "/_ping", timeout=2)[0] == 200
        except (OSError, http.client.HTTPException):
            return False

    def pid(self):
        """The engine's process, or 0 when it does not run."""
        try:
            with open(self.pidfile) as f:
                pid = int(f.read())
            with open("/proc/%d/stat" % pid) as f:
                return 0 if f.read().rsplit(")", 1)[1].split()[0] == "Z" else pid
        except (OSError, ValueError):
            return 0

    def said(self):
        with open(self.log, errors="replace") as f:
            return f.read()[-2000:]

    def start(self):
        """Starts the engine; it is to be waited for with ready()."""
        if self.pid():
            return
        with open(self.spec) as f:
            spec = json.load(f)
        for stale in (self.socket, self.pidfile, self.pidfile + "d"):
            if os.path.exists(stale):
                os.unlink(stale)
        env = {**os.environ, **spec["env"]}
        env.pop("CONTAINER_HOST", None)  # with it podman is a client of a service, and cannot be one
        with open(self.log, "ab") as log:
            p = subprocess.Popen(spec["argv"], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                 start_new_session=True, env=env)
        with open(self.pidfile, "w") as f:
            f.write(str(p.pid))

    def ready(self):
        end = time.monotonic() + READY_WITHIN
        while not self.answers():
            if not self.pid():
                raise Unavailable("%s ended at its start: %s" % (self.name, self.said().strip()[-500:]))
            if time.monotonic() > end:
                raise Unavailable("%s did not answer within %d s: %s"
                                  % (self.name, READY_WITHIN, self.said().strip()[-500:]))
            time.sleep(0.02)

    def end(self, sig):
        """Ends the engine, and not its containers, with SIG; returns when the process is gone."""
        pid = self.pid()
        if not pid:
            return
        os.kill(pid, signal.SIGCONT)
        os.kill(pid, sig)
        end = time.monotonic() + STOPPED_WITHIN
        while self.pid():
            if time.monotonic() > end:
                raise Unavailable("%s did not end within %d s" % (self.name, STOPPED_WITHIN))
            time.sleep(0.02)

    def signal(self, sig):
        pid = self.pid()
        if not pid:
            raise Unavailable("%s does not run" % self.name)
        os.kill(pid, sig)

    def load(self, archive):
        with open(archive, "rb") as f:
            status, answer = self.request("POST", "/v1.41/images/load?quiet=1", f.read())
        if status != 200:
            raise Unavailable("%s did not load the test image: %s" % (self.name, answer.decode(errors="replace")))


def lacking(name):
    """The first program that an engine needs and this machine lacks, or None."""
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    return next((word for word in NEEDS[name] if not shutil.which(word, path=path)), None)


def docker(directory, live_restore):
    engine = Engine(directory, "docker")
    data = os.path.join(directory, "docker")
    os.makedirs(data)
    argv = ["dockerd", "--data-root", data + "/data", "--exec-root", data + "/exec",
            "--pidfile", engine.pidfile + "d", "-H", "unix://" + engine.socket]
    engine.define(argv + (["--live-restore"] if live_restore else []), {})
    return engine


def podman_environment(directory):
    """What makes the podman program work on the same containers as the service, without asking it."""
    return {"CONTAINERS_CONF": directory + "/podman/containers.conf",
            "CONTAINERS_STORAGE_CONF": directory + "/podman/storage.conf",
            "TMPDIR": directory + "/podman/tmp"}


def podman(directory):
    engine = Engine(directory, "podman")
    for word in ("networks", "tmp", "root", "run"):
        os.makedirs(os.path.join(directory, "podman", word))
    env = podman_environment(directory)
    runtime = "crun" if shutil.which("crun") else "runc"
    for path, text in ((env["CONTAINERS_CONF"], CONTAINERS_CONF), (env["CONTAINERS_STORAGE_CONF"], STORAGE_CONF)):
        with open(path, "w") as f:
            f.write(text.format(dir=directory, runtime=runtime))
    engine.define(["podman", "system", "service", "--time=0", "unix://" + engine.socket], env)
    return engine
