#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What containers within a process do on its channel, and what follows when a request is cancelled:
within_test.py PROGRAM, as channel_test.py. Prints TAP."""
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from peer import Peer, run_tests  # noqa: E402

PROGRAM = {".py": [sys.executable], ".mjs": ["node"]}.get(os.path.splitext(sys.argv[1])[1], []) + [sys.argv[1]]
STATES = {"destroyed": (), "created": (), "started": ("start",), "stopped": ("start", "stop"),
          "failed": ("start", "fail")}


def peer(*args, **options):
    return Peer(PROGRAM, *args, **options).started()


def known(p, alias, state, **more):
    """It is announced; the names are in no order."""
    kind, what, _ = p.get()
    assert kind == "ANNOUNCE" and what["alias"] == alias and what["state"] == state, (kind, what)
    assert not [k for k, v in more.items() if what.get(k) != v], (what, more)
    return what


def inside(p, alias="C1", args="", done=0, asked=None, parent="H1"):
    """The message after `done` others makes one within; before it the parent was asked for something so often."""
    asked = done if asked is None else asked
    p.put("REQUEST", "inside %s %s" % (alias, args), id=1, to=b"" if parent == "H1" else parent.encode())
    if parent == "H1":
        p.expect("ACK", type=1, **({"id": done} if done else {}))
    p.expect("MANAGE", {"do": "get", "address": alias}, id=asked + 1)
    p.put("RESULT", {"message": "nobody"}, id=asked + 1, type=2)
    known(p, alias, "created", name="Probe", parent=parent)
    known(p, alias, "started", name="Probe", parent=parent)
    p.expect("REPLY", b"", id=1)
    if parent == "H1":
        p.expect("ACK", id=done + 1)


def operate(p, do, alias="C1", **more):
    """What was announced, and the answer: its state, and the error's number."""
    p.put("OPERATE", {"do": do, **more}, id=9, to=alias.encode())
    states = []
    while (frame := p.get())[0] != "STATE":
        assert frame[0] in ("ANNOUNCE", "LOG"), frame
        states += [frame[1]["state"]] if frame[0] == "ANNOUNCE" else []
    assert frame[2]["to"] == alias.encode() and frame[2]["id"] == 9, frame
    return states, frame[1]["state"], frame[2].get("type", 0)


def one_within_is_announced_and_reached_by_its_alias():
    with peer() as p:
        inside(p, args="some words")
        p.put("REQUEST", "who", id=2, sender=b"B", to=b"C1")
        who = p.get()
        assert who[0] == "REPLY" and who[2] == {"id": 2}, who
        for part in (b'"alias": "C1"', b'"path": "Main/H1/C1"', b'"parent": "H1"', b'"args": "some words"',
                     b'"sender": "B"'):
            assert part.replace(b": ", b":") in who[1].replace(b": ", b":"), who
        p.put("REQUEST", b"add\0[1, 2]\0", id=3, type=0xffffff01, to=b"C1")
        p.expect("REPLY", b"3", id=3)
        p.put("MESSAGE", "send B hello", to=b"C1")
        p.expect("MESSAGE", b"hello", type=7, sender=b"C1", to=b"B", flags=4)
        p.ask("echo x", 4, 1, b"x")  # what is for those within is not counted


def each_pair_of_state_and_operation_does_what_the_table_says():
    table = {  # of include/davit/state.h; "" is an error
        "destroyed": ("", "", "", "destroyed"), "created": ("started", "", "", "destroyed"),
        "started": ("started", "stopped", "failed", "destroyed"),
        "stopped": ("started", "stopped", "", "destroyed"), "failed": ("started", "stopped", "failed", "destroyed")}
    with peer() as p:
        made = 0
        for state, row in table.items():
            for do, then in zip(("start", "stop", "fail", "destroy"), row):
                if state != "destroyed":
                    p.put("REQUEST", "inside C1 never", id=1)
                    p.expect("ACK", type=1, **({"id": made} if made else {}))
                    p.expect("MANAGE", {"do": "get", "address": "C1"}, id=made + 1)
                    p.put("RESULT", {"message": "nobody"}, id=made + 1, type=2)
                    made += 1
                    known(p, "C1", "created")
                    known(p, "C1", "started")
                    p.expect("REPLY", b"", id=1)
                    p.expect("ACK", id=made)
                    for way in {"stopped": ["stop"], "failed": ["fail"]}.get(state, []):
                        operate(p, way)
                if state == "created":
                    operate(p, "destroy", force="both")
                    continue  # it is started as it is made
                answer = operate(p, do, force="both")[1:]
                assert answer == ((then, 0) if then else (state, 4)), (state, do, answer)
                if then != "destroyed":
                    assert operate(p, "destroy", force="both")[1:] == ("destroyed", 0)


def one_that_runs_is_not_destroyed_without_force():
    with peer() as p:
        inside(p)
        assert operate(p, "destroy") == ([], "started", 4)
        assert operate(p, "stop")[1] == "stopped"
        assert operate(p, "destroy") == (["destroyed"], "destroyed", 0)


def one_whose_handler_does_not_return_is_cut_off():
    with peer() as p:
        inside(p)
        p.put("REQUEST", "sleep", id=2, to=b"C1")
        p.put("REQUEST", "echo x", id=3, to=b"C1")
        p.put("OPERATE", {"do": "destroy", "force": "hard"}, id=9, to=b"C1")
        p.expect("REFUSE", b"the request was not handled: the receiver has ended", id=2, type=14)
        p.expect("REFUSE", b"the request was not handled: the receiver has ended", id=3, type=14)
        known(p, "C1", "destroyed")
        p.expect("STATE", {"state": "destroyed"}, id=9, to=b"C1")
        p.ask("echo x", 4, 1, b"x")


def a_failure_within_is_announced_and_repaired_within():
    with peer() as p:
        inside(p)
        p.put("REQUEST", "count", id=2, to=b"C1")
        p.expect("REPLY", b"1 1", id=2)
        p.put("REQUEST", "fail no paper", id=3, to=b"C1")
        failed = known(p, "C1", "failed", code="io", message="no paper")
        assert len(failed["failure"]) == 16, failed
        p.expect("REFUSE", b"the request was not handled: its handler failed", id=3, type=14)
        p.expect("LOG", b"C1: failed: no paper")
        known(p, "C1", "started", restarts=1)
        p.put("REQUEST", "count", id=4, to=b"C1")
        p.expect("REPLY", b"1 1", id=4)  # its memory is new


def a_failure_that_stays_is_solved_by_its_hash():
    with peer() as p:
        inside(p, args="never")
        p.put("MESSAGE", "fail no paper", to=b"C1")
        failed = known(p, "C1", "failed")
        p.expect("LOG", b"C1: failed: no paper")
        p.put("REQUEST", "echo why", id=2, flags=2, to=b"C1")
        p.expect("REPLY", b"why", id=2)
        assert operate(p, "solve", failure="1", solution="continue")[1:] == ("failed", 4)
        assert operate(p, "solve", failure=failed["failure"], solution="continue")[1:] == ("started", 0)


def too_many_failures_within_fail_the_one_above():
    with peer() as p:
        inside(p)
        for i in range(3):  # its retries
            p.put("MESSAGE", "fail x", to=b"C1")
            known(p, "C1", "failed")
            p.expect("LOG", b"C1: failed: x")
            known(p, "C1", "started", restarts=i + 1)
        p.put("MESSAGE", "fail x", to=b"C1")
        known(p, "C1", "failed")
        p.expect("LOG", b"C1: failed: x")
        p.expect("STATE", {"state": "failed", "message": "its children fail: retries, by C1"}, type=16)
        p.put("OPERATE", {"do": "start", "fresh": True}, id=3)
        p.expect("STATE", {"state": "started"}, id=3)
        known(p, "C1", "started")


def those_within_end_before_the_one_above_the_deepest_first():
    with peer() as p:
        inside(p)
        inside(p, "C2", done=1)
        inside(p, "D1", done=2, parent="C1")
        p.put("OPERATE", {"do": "destroy"}, id=3)
        for alias in ("C2", "D1", "C1"):
            known(p, alias, "destroyed")
        p.expect("STATE", {"state": "destroyed"}, id=3)
        assert p.ended() == (0, "")


def it_manages_those_within_by_itself():
    with peer() as p:
        inside(p)
        p.put("REQUEST", "child stop C1", id=2)
        p.expect("ACK", id=1, type=1)
        known(p, "C1", "stopped")
        p.expect("REPLY", b"", id=2)
        p.expect("ACK", id=2)
        p.put("REQUEST", "child start H1/C1", id=3)
        p.expect("ACK", id=2, type=1)
        known(p, "C1", "started")
        p.expect("REPLY", b"", id=3)
        p.expect("ACK", id=3)
        p.put("REQUEST", "child stop C1", id=4, to=b"C1")
        p.expect("REPLY", b"forbidden: it does not stand beneath you", id=4)


def an_alias_that_another_process_has_is_not_taken():
    with peer() as p:
        p.put("REQUEST", "inside B", id=1)
        p.expect("ACK", type=1)
        p.expect("MANAGE", {"do": "get", "address": "B"}, id=1)
        p.put("RESULT", {"alias": "B"}, id=1)
        assert p.get()[0] == "STATE"  # the probe does not catch that


# --- requests that are cancelled ---

def one_that_waits_is_not_handled():
    with peer() as p:
        p.put("OPERATE", {"do": "stop"}, id=3)
        p.expect("STATE", {"state": "stopped"}, id=3)
        p.put("REQUEST", "log never", id=5)
        p.put("REQUEST", "echo x", id=6)
        p.put("CANCEL", id=5)
        p.put("CANCEL", id=77)  # of nothing that is known
        p.put("OPERATE", {"do": "start"}, id=4)
        p.expect("STATE", {"state": "started"}, id=4)
        p.expect("ACK", id=1, type=1)  # the first is done with
        p.expect("REPLY", b"x", id=6)
        p.expect("ACK", id=2)


def the_handler_of_one_that_is_begun_is_told_and_answers_nobody():
    with peer() as p:
        p.put("REQUEST", "await", id=5)
        p.expect("ACK", type=1)
        p.put("CANCEL", id=5)
        p.expect("LOG", b"nobody waits")
        p.expect("ACK", id=1)
        inside(p, done=1, asked=0)
        p.put("REQUEST", "await", id=6, to=b"C1")
        p.put("PING", id=1)
        p.expect("PONG", id=1)
        p.put("CANCEL", id=6)
        p.expect("LOG", b"nobody waits")
        p.silent()


sys.exit(run_tests(globals(), ("peer", "known", "inside", "operate")))
