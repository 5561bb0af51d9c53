# SPDX-License-Identifier: MIT
"""The machine's side of test/vm/run: puts the sources, the build and the installation of
the disk at their places, runs the tests, and says what they say through a serial port."""
import glob
import json
import os
import subprocess
import sys
import time

DISK = "/davit"


def place(what, where):
    os.makedirs(where, exist_ok=True)
    subprocess.run(["mount", "--bind", os.path.join(DISK, what), where], check=True)


def port():
    """The device by the name that it has in /sys: udev may not have come to its link yet."""
    end = time.monotonic() + 120
    while time.monotonic() < end:
        for path in glob.glob("/sys/class/virtio-ports/*/name"):
            with open(path) as f:
                if f.read().strip() == "results":
                    return open("/dev/" + path.split("/")[-2], "w", buffering=1)
        time.sleep(0.2)
    sys.exit("there is no port for results")


def main():
    with open(DISK + "/order.json") as f:
        order = json.load(f)
    with port() as results:
        results.write("# %s, Linux %s, cgroups %s\n" % (os.uname().machine, os.uname().release, order["cgroup"]))
        place("source", order["source"])
        place("build", order["build"])
        subprocess.run(["cp", "-a", DISK + "/installed/.", "/"], check=True)
        subprocess.run(["ldconfig"], check=True)
        subprocess.run(["systemctl", "daemon-reload"], check=True)
        command = ["tools/run-tests", "--no-build", "--build", order["build"], "--jobs", str(order["jobs"]),
                   "--slower", str(order["slower"])]
        for test in order["tests"]:
            command += ["--bats", test] if test.endswith(".bats") else ["--only", "=" + test]
        env = {**os.environ, "HOME": "/root", "LANG": "C.UTF-8", "TERM": "dumb", "DAVIT_VM_CGROUP": order["cgroup"],
               "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
        subprocess.run(command, cwd=order["source"], env=env, stdin=subprocess.DEVNULL, stdout=results, stderr=results)


if __name__ == "__main__":
    sys.exit(main())
