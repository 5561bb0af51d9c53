#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Malformed names, sources, options and specs through the real command line.

bad_input.txt is the table: a line "$ ARGUMENTS" (in the shell's quoting), lines "< TEXT"
of standard input, then "= STATUS", and all that is written to standard error. HOME
stands for the test's directory. After all of them nothing has changed.
"""
import os
import time
import shlex
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "../torture"))
from rig import check, equal, log, main  # noqa: E402


def cases():
    out = []
    for line in open(os.path.join(HERE, "bad_input.txt")).read().splitlines():
        if line.startswith("$ "):
            out.append({"line": line[2:], "args": shlex.split(line[2:]), "input": [], "status": None, "error": []})
        elif line.startswith("< "):
            out[-1]["input"].append(line[2:])
        elif line.startswith("= "):
            out[-1]["status"] = int(line[2:])
        elif line and not line.startswith("#"):
            out[-1]["error"].append(line)
    return out


def prepare(home):
    """What the commands of the table meet: a service in two versions, a secret, files."""
    home.start_daemon()
    home.cli("run", "web", "--command", "sleep 1000", "-e", "A=1")
    home.cli("run", "two", "v1", "--command", "sleep 1000")
    home.cli("run", "two", "v2", "--command", "sleep 1000")
    home.cli("secret", "set", "key", input=b"x")
    home.cli("apply", "-f", "-", input=b"kind: Namespace\nname: small\nquota: {services: 0}\n")
    os.mkdir(home.work + "/empty")
    with open(home.work + "/env", "w") as f:
        f.write("GOOD=1\nno assignment\n")
    with open(home.work + "/bad.yaml", "w") as f:
        f.write("name: web\ninstances: many\n")
    time.sleep(0.3)  # events of what was made are told within 50 ms


def state(home):
    return [home.cli(*a, "-o", "json").stdout for a in
            (("status", "--namespace", "*"), ("events", "--namespace", "*"), ("secret", "list"), ("inspect", "web"))]


def say(home, case):
    p = home.cli(*case["args"], check=False, timeout=30, input="".join(x + "\n" for x in case["input"]).encode())
    return p.returncode, [x.rstrip() for x in p.stderr.replace(home.dir, "HOME").splitlines() if x.strip()], p.stdout


def test_bad_input(home):
    """Each malformed input is refused with its exact message and exit status"""
    prepare(home)
    before = state(home)
    wrong, all_cases = [], cases()
    check(len(all_cases) >= 40, "so few cases", len(all_cases))
    for c in all_cases:
        status, error, out = say(home, c)
        if (status, error) != (c["status"], c["error"]) or out:
            wrong.append(c["line"])
            log("$ %s\n  wanted %s %s\n  got    %s %s %s" % (c["line"], c["status"], c["error"], status, error, out[:200]))
    log("%d cases" % len(all_cases))
    equal(wrong, [], "commands that did otherwise")
    for a, b in zip(before, state(home)):
        equal(b, a, "what there is afterwards")


def test_bad_input_json(home):
    """With -o json the same refusals are an object on standard output, and the status is 1"""
    import json
    prepare(home)
    before = state(home)
    for c in cases():
        if c["status"] != 1 or "-o" in c["args"]:
            continue
        args = c["args"] + ["-o", "json"] if "--" not in c["args"] else \
            c["args"][:c["args"].index("--")] + ["-o", "json"] + c["args"][c["args"].index("--"):]
        p = home.cli(*args, check=False, timeout=30, input="".join(x + "\n" for x in c["input"]).encode())
        equal(p.returncode, 1, c["line"])
        e = json.loads(p.stdout)["error"]
        check(e["code"] and e["message"], c["line"], e)
    for a, b in zip(before, state(home)):
        equal(b, a, "what there is afterwards")


if __name__ == "__main__":
    main(globals())
