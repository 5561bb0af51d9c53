# SPDX-License-Identifier: MIT
"""The systems of the part "actors": bench-actor and the same benchmarks in others.

Each is a program that prints lines as bench-actor does (test/bench/actor.c): another
system is one more entry of ALL.
"""
import os
import subprocess

from peers import BUILD

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "actor-peers")


def built(name):
    return os.path.join(BUILD, name)


def davit(workers, rounds):
    return [built("bench-actor"), "--workers", str(workers), "--rounds", str(rounds)]


def erlang(workers, rounds):
    return ["erl", "-noshell", "+S", f"{workers}:{workers}", "-pa", BUILD, "-s", "savina", "main",
            "-extra", str(workers), str(rounds)]


def caf(workers, rounds):
    return [built("bench-actor-caf"), str(workers), str(rounds)]


def zeromq(workers, rounds):
    """Two processes, whatever the number of workers: told once."""
    return [built("bench-actor-zeromq"), str(rounds)] if workers == 1 else None


ALL = {"davit": davit, "Erlang/OTP": erlang, "CAF": caf, "ZeroMQ": zeromq}
# Benchmarks of which less is better.
LESS = ("behind-20ms", "spawn", "bytes", "restart-p50", "restart-p99")
SOURCES = {
    "savina.beam": ["erlc", "-o", BUILD, "savina.erl"],
    "bench-actor-caf": ["c++", "-std=c++17", "-O2", "-w", "savina.cc", "-lcaf_core", "-lpthread", "-o"],
    "bench-actor-zeromq": ["cc", "-O2", "zeromq.c", "-lzmq", "-o"],
}


def build():
    """Compiles those whose source is newer."""
    for target, command in SOURCES.items():
        source = next(os.path.join(HERE, word) for word in command if word.startswith(("savina.", "zeromq.")))
        if os.path.exists(built(target)) and os.path.getmtime(built(target)) > os.path.getmtime(source):
            continue
        subprocess.run(command + ([built(target)] if command[-1] == "-o" else []), cwd=HERE, check=True)


def commands(workers, rounds):
    """{name: command} of those that measure anything with so many workers."""
    given = {name: command(workers, rounds) for name, command in ALL.items()}
    return {name: command for name, command in given.items() if command}
