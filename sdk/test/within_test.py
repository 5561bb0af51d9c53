#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What containers within a process do on its channel, and what follows when a request is cancelled:
within_test.py PROGRAM, as channel_test.py. Prints TAP."""
import json
import os
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from peer import Peer, run_tests, wait  # noqa: E402

PROGRAM = {".py": [sys.executable], ".mjs": ["node"]}.get(os.path.splitext(sys.argv[1])[1], []) + [sys.argv[1]]
STATES = {"destroyed": (), "created": (), "started": ("start",), "stopped": ("start", "stop"),
          "failed": ("start", "fail")}


def peer(*args, **options):
    return Peer(PROGRAM, *args, **options).started()


def peer_not_started(*args):
    return Peer(PROGRAM, *args)


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
        p.expect("STATE", {"state": "failed", "message": "its children fail: escalation, by C1"}, type=16)
        p.put("OPERATE", {"do": "start", "fresh": True}, id=3)
        p.expect("STATE", {"state": "started"}, id=3)
        known(p, "C1", "started")


# --- the rules of supervision ---

def fail(p, alias="C1", restarts=None):
    """It fails, and is started again after the seconds that are returned, at most."""
    begun = time.monotonic()
    p.put("MESSAGE", "fail x", to=alias.encode())
    known(p, alias, "failed")
    p.expect("LOG", b"%s: failed: x" % alias.encode())
    if restarts is not None:
        known(p, alias, "started", restarts=restarts)
    return time.monotonic() - begun


def options(**given):
    return json.dumps(given)


def the_delay_before_a_restart_is_that_of_c():
    cases = ((({"initial": 100, "jitter": 0}, 0, 0.5), 100), (({"initial": 100, "jitter": 0}, 3, 0.5), 800),
             (({"factor": 3, "jitter": 0.5}, 1, 0.5), 225), (({}, 0, 0), 100), (({}, 0, 1), 90),
             (({"jitter": 0}, 5000, 0), 30000), (({"initial": 500, "max": 300, "jitter": 0}, 0, 0), 300),
             (({"factor": 0.1, "jitter": 7}, 4, 0.25), 75), (({"initial": 0}, 5000, 0), 0), ((None, 3, 0), 0))
    with peer() as p:
        p.put("REQUEST", "delay " + json.dumps([case for case, _ in cases]), id=1)
        p.expect("ACK", type=1)
        kind, answer, _ = p.get()
        assert kind == "REPLY" and json.loads(answer) == [delay for _, delay in cases], answer


def a_restart_waits_longer_each_time_and_messages_wait_with_it():
    with peer() as p:
        inside(p, args=options(backoff={"initial": 100, "max": 200, "jitter": 0}))
        for i, least in enumerate((0.1, 0.2, 0.2)):
            begun = time.monotonic()
            fail(p)
            p.put("MESSAGE", "log kept", to=b"C1")
            known(p, "C1", "started", restarts=i + 1)
            assert time.monotonic() - begun >= least, (i, time.monotonic() - begun)
            p.expect("LOG", b"kept")


def after_a_while_of_health_the_delay_starts_over():
    with peer() as p:
        inside(p, args=options(backoff={"initial": 50, "factor": 1000, "max": 100000, "reset": 300}))
        fail(p, restarts=1)
        wait(0.4)
        fail(p, restarts=2)  # or after 50 s


def what_is_stopped_while_it_waits_stays_so_and_a_start_does_not_wait():
    with peer() as p:
        inside(p, args=options(backoff={"initial": 100000}))
        fail(p)
        assert operate(p, "stop")[1] == "stopped"
        assert operate(p, "start")[1] == "started"
        fail(p)
        assert operate(p, "start")[1] == "started"
        p.silent()


def a_failure_from_outside_counts_as_any_other():
    with peer() as p:
        inside(p, args=options(retries=1))
        if "started" not in operate(p, "fail")[0]:
            p.up_to("ANNOUNCE")
        p.put("OPERATE", {"do": "fail"}, id=9, to=b"C1")
        while (frame := p.get())[0] != "STATE" or frame[2].get("to"):
            assert frame[0] != "ANNOUNCE" or frame[1]["state"] == "failed", frame
        assert frame[1]["message"] == "its children fail: escalation, by C1", frame


def those_after_it_are_restarted_with_it_and_do_not_count():
    with peer(options(strategy="rest-for-one")) as p:
        for i in range(3):
            inside(p, "C%d" % i, done=i)
        fail(p, "C1")
        known(p, "C2", "stopped")
        known(p, "C1", "started", restarts=1)
        known(p, "C2", "started", restarts=0)
        p.silent()


def simple_one_for_one_takes_children_of_one_class():
    with peer(options(strategy="simple-one-for-one")) as p:
        inside(p)
        inside(p, "C2", done=1)
        p.put("REQUEST", "inside-other X", id=5)
        p.expect("ACK", type=1, id=2)
        p.expect("MANAGE", {"do": "get", "address": "X"}, id=3)
        p.put("RESULT", {"message": "nobody"}, id=3, type=2)
        p.expect("REPLY", b"invalid: by simple-one-for-one all children of H1 are of one class", id=5)
        p.expect("ACK", id=3)
        fail(p, restarts=1)
        p.silent()


def all_are_restarted_the_last_and_deepest_is_stopped_first():
    with peer(options(strategy="one-for-all")) as p:
        inside(p)
        inside(p, "C2", done=1)
        inside(p, "D1", done=2, parent="C1")
        inside(p, "C3", done=2, asked=3, args=options(strategy="rest-for-one"))
        fail(p, "C2")
        for alias in ("C3", "D1", "C1"):
            known(p, alias, "stopped", strategy="rest-for-one" if alias == "C3" else "one-for-one")
        for alias in ("C1", "D1", "C2", "C3"):
            known(p, alias, "started")


def a_group_is_stopped_at_once_and_waits_for_the_backoff():
    with peer(options(strategy="one-for-all")) as p:
        inside(p, args=options(backoff={"initial": 200, "jitter": 0}))
        inside(p, "C2", done=1)
        begun = time.monotonic()
        fail(p)
        known(p, "C2", "stopped")
        known(p, "C1", "started", restarts=1)
        assert time.monotonic() - begun >= 0.2
        known(p, "C2", "started", restarts=0)


def what_fails_while_a_group_waits_waits_for_the_later_of_both():
    with peer(options(strategy="rest-for-one")) as p:
        inside(p, "C0")
        inside(p, "C1", done=1, args=options(backoff={"initial": 100000}))
        fail(p)
        fail(p, "C0")
        p.silent(0.5)
        assert operate(p, "start", "C0")[1] == "started"
        assert operate(p, "stop", "C1")[1] == "stopped"


def what_others_stopped_and_what_is_never_restarted_is_not_with_a_group():
    with peer(options(strategy="one-for-all")) as p:
        inside(p)
        inside(p, "C2", done=1, args="never")
        inside(p, "C3", done=2)
        assert operate(p, "stop", "C3")[1] == "stopped"
        fail(p)
        known(p, "C2", "stopped")
        known(p, "C1", "started")
        p.silent()
        assert operate(p, "start", "C2")[1] == "started"


def more_restarts_than_it_bears_fail_the_one_above_which_starts_all_afresh():
    with peer(options(max_restarts=1)) as p:
        inside(p)
        inside(p, "C2", done=1)
        inside(p, "C3", done=2)
        operate(p, "stop", "C3")
        for attempt in range(2):
            fail(p, restarts=attempt + 1)
            fail(p)
            known(p, "C2", "stopped")
            p.expect("STATE", {"state": "failed", "message": "its children fail: intensity, by C1"}, type=16)
            p.put("OPERATE", {"do": "start", "fresh": True}, id=3)
            p.expect("STATE", {"state": "started"}, id=3)
            known(p, "C1", "started")
            known(p, "C2", "started")
        p.silent()


def restarts_of_long_ago_do_not_count():
    with peer(options(max_restarts=1, period=200)) as p:
        inside(p)
        for i in range(3):
            fail(p, restarts=i + 1)
            wait(0.25)


def one_out_of_retries_stays_failed_if_that_is_isolated():
    with peer(options(isolate=True)) as p:
        inside(p, args=options(retries=0))
        fail(p)
        p.ask("echo x", 4, 1, b"x")
        assert operate(p, "start")[1] == "started"


def the_end_of_a_significant_one_stops_the_others_and_the_one_above():
    with peer(options(auto_shutdown=True)) as p:
        inside(p)
        inside(p, "C2", done=1, args=options(restart="never", significant=True))
        fail(p, "C2")
        known(p, "C1", "stopped")
        p.expect("STATE", {"state": "stopped"})


def one_that_fails_while_the_one_above_is_stopped_is_restarted():
    with peer() as p:
        inside(p)
        p.put("OPERATE", {"do": "stop"}, id=3)
        p.expect("STATE", {"state": "stopped"}, id=3)
        fail(p, restarts=1)


def what_is_no_option_is_refused():
    for given, message in (
            ({"restart": "sometimes"}, "option restart is not one of always, on-failure, never"),
            ({"retrys": 3}, "there is no option retrys"), ({"limit": 1.5}, "option limit is not a whole number of at least 0"),
            ({"isolate": 1}, "option isolate is not true or false"), ({"backoff": [1]}, "option backoff is not an object"),
            ({"backoff": {"first": 1}}, "option backoff has no first"),
            ({"backoff": {"max": "1s"}}, "option backoff.max is not a number of at least 0"),
            ({"significant": True}, "a significant container that is always restarted never ends")):
        with peer_not_started(options(**given)) as p:
            _, answer = p.operate(1, "create", "destroyed", error=1)
            assert answer["message"] == message, answer


def a_full_mailbox_and_one_that_is_stopped_do_what_the_options_say():
    with peer() as p:
        for i, (given, lost, code, why) in enumerate((
                ({}, 3, 16, b"the mailbox is full"),
                ({"overflow": "drop-newest"}, 3, 14, b"the request was not handled: the mailbox is full"),
                ({"overflow": "drop-oldest"}, 2, 14, b"the request was not handled: the mailbox is full"))):
            alias = "C%d" % i
            inside(p, alias, done=i, args=options(limit=1, **given))
            operate(p, "stop", alias)
            p.put("REQUEST", "echo 2", id=2, to=alias.encode())
            p.put("REQUEST", "echo 3", id=3, to=alias.encode())
            p.expect("REFUSE", why, id=lost, type=code)
            p.put("OPERATE", {"do": "start"}, id=9, to=alias.encode())
            known(p, alias, "started")
            both = sorted((p.get() for _ in range(2)), key=lambda frame: frame[0])
            assert both == [("REPLY", b"%d" % (5 - lost), {"id": 5 - lost}),
                            ("STATE", {"state": "started"}, {"id": 9, "to": alias.encode()})], both
        inside(p, "D", done=3, args=options(keep_nothing=True))
        operate(p, "stop", "D")
        p.put("REQUEST", "echo x", id=2, to=b"D")
        p.expect("REFUSE", b"the request was not handled: the receiver is not started", id=2, type=14)


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


sys.exit(run_tests(globals(), ("peer", "peer_not_started", "known", "inside", "operate", "fail", "options")))
