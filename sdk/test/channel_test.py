#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What a process that is a container does on its channel: channel_test.py PROGRAM
The program is probe.py or probe.mjs, or does as these. Prints TAP."""
import json
import os
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from peer import DEADLINE, Peer, drain, pack, run_tests, wait  # noqa: E402

PROGRAM = {".py": [sys.executable], ".mjs": ["node"]}.get(os.path.splitext(sys.argv[1])[1], []) + [sys.argv[1]]


def peer(*args, **options):
    return Peer(PROGRAM, *args, **options)


# --- life ---

def it_goes_through_the_states_that_it_is_told_to():
    with peer() as p:
        _, answer = p.operate(1, "create", "created")
        assert answer["options"] == {"restart": "always", "limit": 100, "retries": 3}, answer
        p.operate(2, "start", "started", fresh=False)
        p.operate(3, "start", "started", fresh=False)
        p.operate(4, "stop", "stopped")
        p.operate(5, "start", "started", fresh=False)
        p.operate(6, "destroy", "destroyed")
        assert p.ended() == (0, ""), p.ended()


def hooks_run_before_on_and_after_in_the_order_of_the_manual():
    with peer("trace") as p:
        lines = p.operate(1, "create", "created")[0]
        assert lines == ["before create", "config", "boot", "construct", "on create", "after create"], lines
        assert p.operate(2, "start", "started", fresh=False)[0] == ["before start", "on start", "after start"]
        assert p.operate(3, "fail", "failed", code="io", message="m")[0] == ["before fail", "on fail", "after fail"]
        lines = p.operate(4, "start", "started", fresh=True)[0]
        assert lines == ["before start", "construct", "on start", "after start"], lines
        assert p.operate(5, "stop", "stopped")[0] == ["before stop", "on stop", "after stop"]
        lines = p.operate(6, "destroy", "destroyed")[0]
        assert lines == ["before destroy", "on destroy", "after destroy"], lines


def what_a_state_does_not_allow_is_refused():
    with peer() as p:
        p.operate(1, "create", "created")
        p.operate(2, "create", "created", error=4)
        p.operate(3, "continue", "created", error=4)
        p.operate(4, "fail", "created", error=4)


def a_creation_that_fails_ends_the_process():
    with peer("bad config") as p:
        _, answer = p.operate(1, "create", "destroyed", error=10)
        assert answer["message"] == "there is no room", answer
        assert p.ended()[0] == 0


def a_stop_is_not_held_up_by_its_hooks():
    with peer("bad hook") as p:
        p.started()
        lines, _ = p.operate(3, "stop", "stopped")
        assert lines == ["H1: hook of stop: hook"] * 3, lines


def it_fails_when_it_is_told_to():
    with peer() as p:
        p.started()
        _, answer = p.operate(3, "fail", "failed", code="quota", message="enough")
        assert answer["message"] == "enough", answer
        p.operate(4, "continue", "started")


# --- messages ---

def a_request_is_answered_and_counted():
    with peer() as p:
        p.started()
        p.ask("echo hello", 7, 0, b"hello")
        p.ask("nothing", 1 << 63, 1, b"")
        p.ask("echo \u00e4", 8, 2, "\u00e4".encode())
        p.ask("echo of C\0", 9, 3, b"of C")


def it_knows_who_it_is_and_who_asks():
    with peer("some words") as p:
        p.started()
        p.put("REQUEST", "who", id=1, type=5, sender=b"B")
        p.expect("ACK", type=1)
        kind, payload, fields = p.get()
        assert json.loads(payload) == {"alias": "H1", "name": "Probe", "path": "Main/H1", "parent": "Main",
                                       "args": "some words", "state": "started", "sender": "B", "type": 5}, payload


def messages_are_handled_in_order_and_each_is_begun_before_it_is_handled():
    with peer() as p:
        p.started()
        p.raw(b"".join(pack("MESSAGE", b"log %d" % i) for i in range(50)))
        for i in range(50):
            p.expect("ACK", type=1, **({"id": i} if i else {}))
            p.expect("LOG", b"%d" % i)
        p.expect("ACK", id=50)
        p.silent()


def what_comes_before_the_start_waits_for_it():
    with peer() as p:
        p.operate(1, "create", "created")
        p.put("REQUEST", "echo early", id=1)
        p.silent()
        p.put("OPERATE", {"do": "start", "fresh": False}, id=2)
        p.expect("STATE", {"state": "started"}, id=2)
        p.expect("ACK", type=1)
        p.expect("REPLY", b"early", id=1)
        p.expect("ACK", id=1)


def what_comes_while_it_is_stopped_waits():
    with peer() as p:
        p.started()
        p.operate(3, "stop", "stopped")
        p.put("MESSAGE", "log later")
        p.silent()
        p.operate(4, "start", "started", fresh=False)
        p.expect("ACK", type=1)
        p.expect("LOG", b"later")
        p.expect("ACK", id=1)


def a_refusal_is_no_failure():
    with peer() as p:
        p.started()
        p.put("REQUEST", "refuse enough", id=1)
        p.expect("ACK", type=1)
        p.expect("REFUSE", b"enough", id=1, type=17)
        p.expect("ACK", id=1)


def an_answer_may_come_later_and_comes_once():
    with peer() as p:
        p.started()
        p.put("REQUEST", "later", id=1)
        p.put("MESSAGE", "now it is")
        p.expect("ACK", type=1)
        p.expect("ACK", id=1, type=1)
        p.expect("PROGRESS", id=1)
        p.expect("REPLY", b"it is", id=1)
        p.expect("ACK", id=2)
        p.silent()


def a_command_is_found_by_its_name():
    with peer() as p:
        p.started()
        for i, (command, kind, answer, type) in enumerate((
                (b"add\0[1, 2]\0", "REPLY", b"3", 0), (b"add\0\0", "REPLY", b"0", 0),
                (b"add\0[1\0", "REFUSE", b"the parameters are not JSON", 1),
                (b"behave\0\0", "REFUSE", b'H1 has no command "behave"', 2),
                (b"constructor\0\0", "REFUSE", b'H1 has no command "constructor"', 2),
                (b"\xff", "REFUSE", 'H1 has no command "\ufffd"'.encode(), 2))):
            p.put("REQUEST", command, id=1, type=0xffffff01)
            p.expect("ACK", type=1, **({"id": i} if i else {}))
            p.expect(kind, answer, id=1, **({"type": type} if type else {}))
            p.expect("ACK", id=i + 1)


def behaviours_are_put_on_top_of_each_other():
    with peer() as p:
        p.started()
        p.ask("become", 1, 0, b"")
        p.ask("echo x", 2, 1, b"other echo x")
        p.ask("unbecome", 3, 2, b"as before")
        p.ask("echo x", 4, 3, b"x")


def a_large_message_comes_and_goes_in_parts():
    with peer() as p:
        p.started()
        text = b"length " + b"y" * 200000
        for at in range(0, len(text), 65000):
            p.put("REQUEST", text[at:at + 65000], id=9, flags=1 if at + 65000 < len(text) else 0)
            if at + 65000 < len(text):  # nothing large holds up a heartbeat
                p.put("PING", id=at + 1)
                p.expect("PONG", id=at + 1)
        p.expect("ACK", type=1)
        p.expect("REPLY", b"200000", id=9)
        p.expect("ACK", id=1)
        p.put("REQUEST", "bytes 150000", id=3)
        p.expect("ACK", id=1, type=1)
        p.expect("REPLY", b"x" * 65536, id=3, flags=1)
        p.expect("REPLY", b"x" * 65536, id=3, flags=1)
        p.expect("REPLY", b"x" * (150000 - 2 * 65536), id=3)


def what_is_for_somebody_else_is_refused():
    with peer() as p:
        p.started()
        p.put("REQUEST", "echo x", id=1, to=b"Z")
        p.expect("REFUSE", b"there is no Z in here", id=1, type=2)
        p.put("MESSAGE", "log x", to=b"Z")
        p.ask("echo x", 2, 0, b"x")  # neither was counted


# --- failure ---

def a_failure_is_told_and_the_rest_is_kept():
    with peer() as p:
        p.started()
        p.ask("count", 1, 0, b"1 1")
        p.raw(pack("MESSAGE", b"fail the disk is gone") + pack("REQUEST", b"count", id=2))
        p.expect("ACK", id=1, type=1)
        p.expect("STATE", {"state": "failed", "message": "the disk is gone"}, type=9)
        p.silent()
        p.put("OPERATE", {"do": "continue"}, id=3)
        p.expect("STATE", {"state": "started"}, id=3)
        p.expect("ACK", id=2)
        p.expect("ACK", id=2, type=1)
        p.expect("REPLY", b"1 2", id=2)  # its memory is as it was
        p.expect("ACK", id=3)


def a_fresh_start_forgets_all_but_what_boot_has_made():
    with peer() as p:
        p.started()
        p.ask("count", 1, 0, b"1 1")
        p.ask("become", 1, 1, b"")
        p.operate(3, "fail", "failed", code="io", message="m")
        p.operate(4, "start", "started", fresh=True)
        p.ask("count", 1, 2, b"1 1")


def an_exception_fails_it():
    with peer() as p:
        p.started()
        p.put("MESSAGE", "throw")
        p.expect("ACK", type=1)
        kind, answer, fields = p.get()
        assert kind == "STATE" and fields == {"type": 23} and answer["state"] == "failed", (kind, answer, fields)
        assert "missing" in answer["message"], answer


def while_failed_only_what_is_meant_for_that_is_handled():
    with peer() as p:
        p.started()
        p.put("REQUEST", "echo over", id=1, flags=2)
        p.expect("REFUSE", b"that failure is over", id=1, type=4)
        p.put("MESSAGE", "fail x")
        p.expect("ACK", type=1)
        p.expect("STATE", {"state": "failed", "message": "x"}, type=9)
        p.put("MESSAGE", "log kept")
        p.put("REQUEST", "echo why", id=2, flags=2)
        p.expect("REPLY", b"why", id=2)
        p.put("REQUEST", "fail worse", id=3, flags=2)
        p.expect("REFUSE", b"worse", id=3, type=9)
        p.silent()
        p.put("OPERATE", {"do": "start", "fresh": True}, id=3)
        p.expect("STATE", {"state": "started"}, id=3)
        p.expect("ACK", id=1)
        p.expect("ACK", id=1, type=1)
        p.expect("LOG", b"kept")
        p.expect("ACK", id=2)


def work_beside_the_messages_fails_it_too_and_ends_with_it():
    with peer() as p:
        p.started()
        p.ask("work beside", 1, 0, b"")
        p.expect("STATE", {"state": "failed", "message": "beside"}, type=9)
        p.operate(3, "start", "started", fresh=True)
        p.ask("idle", 2, 1, b"")
        p.put("OPERATE", {"do": "stop"}, id=4)
        frames = sorted((p.get() for _ in range(2)), key=lambda f: f[0])
        assert frames == [("LOG", b"cut off", {}), ("STATE", {"state": "stopped"}, {"id": 4})], frames


def a_start_that_fails_leaves_it_failed():
    with peer("bad restart") as p:
        p.started()
        p.operate(3, "fail", "failed", code="io", message="m")
        _, answer = p.operate(4, "start", "failed", error=9, fresh=True)
        assert answer["message"] == "still broken", answer
        p.operate(5, "continue", "started")


# --- what it asks ---

def it_sends_messages():
    with peer() as p:
        p.started()
        p.put("MESSAGE", "send Main/B hello")
        p.expect("ACK", type=1)
        p.expect("MESSAGE", b"hello", type=7, sender=b"H1", to=b"Main/B", flags=4)
        p.expect("ACK", id=1)


def asking(p, id, done, text="ask B hello"):
    p.put("REQUEST", text, id=id)
    p.expect("ACK", type=1, **({"id": done} if done else {}))
    kind, payload, fields = p.get()
    assert kind == "REQUEST" and fields["sender"] == b"H1" and fields["to"] == b"B", (kind, fields)
    return payload, fields


def it_asks_and_is_answered_refused_or_in_vain():
    with peer() as p:
        p.started()
        payload, fields = asking(p, 1, 0)
        assert payload == b"hello" and fields["type"] == 8 and fields["time"] == 300, (payload, fields)
        p.put("REPLY", "nobody asked", id=fields["id"] + 1)
        p.put("RESULT", {}, id=fields["id"])
        p.put("REPLY", "yes", id=fields["id"])
        p.expect("REPLY", b"got yes", id=1)
        p.expect("ACK", id=1)
        _, fields = asking(p, 2, 1)
        p.put("REFUSE", "busy", id=fields["id"], type=16)
        p.expect("REPLY", b"unavailable: busy", id=2)
        p.expect("ACK", id=2)
        _, fields = asking(p, 3, 2)
        p.expect("CANCEL", id=fields["id"])
        kind, payload, _ = p.get()
        assert kind == "REPLY" and payload.startswith(b"timeout: no answer in "), payload
        p.put("REPLY", "too late", id=fields["id"])
        p.expect("ACK", id=3)
        p.silent()


def progress_begins_the_time_anew():
    with peer() as p:
        p.started()
        _, fields = asking(p, 1, 0)
        for _ in range(4):
            wait(0.15)
            p.put("PROGRESS", id=fields["id"])
        p.put("REPLY", "at last", id=fields["id"])
        p.expect("REPLY", b"got at last", id=1)


def it_orders_a_command():
    with peer() as p:
        p.started()
        payload, fields = asking(p, 1, 0, "order B 2")
        name, parameters, rest = payload.split(b"\0")
        assert name == b"add" and json.loads(parameters) == [1, 2] and not rest, payload
        assert fields["type"] == 0xffffff01, fields
        p.put("REPLY", "3", id=fields["id"])
        p.expect("REPLY", b"got 3", id=1)


def it_manages_others():
    with peer() as p:
        p.started()
        for i, (what, asked, error, result, answer) in enumerate((
                ("create", {"do": "create", "alias": "B", "command": ["prog", "x"], "args": "a", "start": True}, 0,
                 {"alias": "B"}, b""),
                ("create", {"do": "create", "alias": "B", "command": ["prog", "x"], "args": "a", "start": True}, 18,
                 {"message": "no such program"}, b"exec-failed: no such program"),
                ("destroy", {"do": "destroy", "address": "B", "force": "soft"}, 0, {"alias": "B"}, b""),
                ("watch", {"do": "watch", "address": "B"}, 0, {"alias": "B"}, b""),
                ("exists", {"do": "get", "address": "B"}, 2, {"message": "no B"}, b"false"),
                ("exists", {"do": "get", "address": "B"}, 0, {"alias": "B"}, b"true"),
                ("get", {"do": "get", "address": "B"}, 0, {"state": "started"}, b'{"state":"started"}'))):
            p.put("REQUEST", "manage " + what, id=1)
            p.expect("ACK", type=1, **({"id": i} if i else {}))
            kind, payload, fields = p.get()
            assert kind == "MANAGE" and payload == asked and list(fields) == ["id"], (kind, payload, fields)
            p.put("RESULT", result, id=fields["id"], type=error)
            kind, payload, fields = p.get()
            assert kind == "REPLY" and payload.replace(b" ", b"") == answer.replace(b" ", b""), payload
            p.expect("ACK", id=i + 1)


def it_tells_all_children():
    with peer() as p:
        p.started()
        p.put("REQUEST", "manage broadcast", id=1)
        p.expect("ACK", type=1)
        _, payload, fields = p.get()
        assert payload == {"do": "children", "address": "H1"}, payload
        p.put("RESULT", {"children": ["B", "C"]}, id=fields["id"])
        p.expect("MESSAGE", b"all", type=9, sender=b"H1", to=b"B")
        p.expect("MESSAGE", b"all", type=9, sender=b"H1", to=b"C")
        p.expect("REPLY", b"2", id=1)


def children_that_are_more_than_a_frame_holds_are_asked_for_again():
    with peer() as p:
        p.started()
        p.put("REQUEST", "manage broadcast", id=1)
        p.expect("ACK", type=1)
        for asked, there in (({}, ["B", "C"]), ({"from": 2}, ["D"])):
            _, payload, fields = p.get()
            assert payload == {"do": "children", "address": "H1", **asked}, payload
            p.put("RESULT", {"children": there, "total": 3}, id=fields["id"])
        for alias in (b"B", b"C", b"D"):
            p.expect("MESSAGE", b"all", type=9, sender=b"H1", to=alias)
        p.expect("REPLY", b"3", id=1)


def it_hears_of_the_end_of_whom_it_watches():
    with peer() as p:
        p.started()
        p.put("GONE", "killed by signal 9", to=b"B", type=14)
        p.expect("LOG", b"gone B closed killed by signal 9")
        p.put("GONE", to=b"B")
        p.expect("LOG", b"gone B well")


# --- the parent ---

def a_ping_is_answered_while_a_message_is_handled():
    with peer() as p:
        p.started()
        p.put("MESSAGE", "sleep")
        p.expect("ACK", type=1)
        p.put("PING", id=77)
        p.expect("PONG", id=77)


def it_ends_when_the_parent_has_gone_whatever_it_does():
    for message in ("echo x", "sleep"):
        with peer() as p:
            p.started()
            p.put("MESSAGE", message)
            p.expect("ACK", type=1)
            p.sock.close()
            assert p.ended() == (1, "davit: H1: the parent has gone\n"), p.ended()


def it_ends_when_the_parent_says_nothing_any_more():
    with peer(keepalive=300) as p:
        p.started()
        for i in range(6):  # as long as it does, it does not
            wait(0.1)
            p.put("PING", id=i + 1)
            p.expect("PONG", id=i + 1)
        assert p.ended() == (1, "davit: H1: parent-unresponsive\n"), p.ended()


def what_was_said_while_it_was_stopped_is_heard_first():
    with peer(keepalive=300) as p:
        p.started()
        p.stop()
        wait(0.6)
        p.put("PING", id=5)
        p.go_on()
        p.expect("PONG", id=5)


def a_parent_that_breaks_the_protocol_is_left():
    hello = {"protocol": 1, "limit": 100000}
    for hostile in (pack("WELCOME"), pack("STATE", b"{}"), pack(0), pack(99), pack(20),
                    pack("PING", size=65537), pack("PING", size=0xffffffff), pack("PING", flags=8),
                    pack("PING", flags=1), pack("GONE", to=b"\xff"), b"\0" * 5 + b"\0\xff\xff" + b"\0" * 17,
                    pack("HELLO", b"{}"), pack("OPERATE", b"{}", id=1), pack("OPERATE", b"[", id=1),
                    pack("OPERATE", b'{"do": "explode"}', id=1),
                    pack("OPERATE", b"[1]", id=1), pack("OPERATE", b'{"do": ["start"]}', id=1), pack("OPERATE", b"\xff\xfe", id=1),
                    pack("MESSAGE", b"a", flags=1) + pack("REQUEST", b"b", id=1),
                    pack("REQUEST", b"a", id=1, flags=1) + pack("REQUEST", b"b", id=2, flags=1),
                    pack("MESSAGE", b"a" * 60000, flags=1) * 2):
        with peer(greet=False) as p:
            p.put("HELLO", hello)
            p.expect("WELCOME", {"protocol": 1})
            p.raw(hostile)
            status, words = p.ended()
            assert status == 1 and "the parent breaks the protocol: " in words and "Traceback" not in words, words
    for hostile in (pack("PING"), pack("HELLO", b"nothing"), pack("HELLO", b"{}"),
                    pack("HELLO", b'{"protocol": "1", "limit": 5}')):
        with peer(greet=False) as p:
            p.raw(hostile)
            status, words = p.ended()
            assert status == 1 and "the parent breaks the protocol: " in words, words


def random_frame(random):
    """Mostly as it should be, seldom quite."""
    kind = random.choice((3, 5, 8, 8, 9, 9, 10, 11, 12, 13, 15, 16, 19))
    payload = {3: b'{"do": "%s", "fresh": %s, "code": "%s"}' % (
                   random.choice((b"start", b"start", b"stop", b"continue", b"fail", b"fail", b"create")),
                   random.choice((b"true", b"false", b"0", b"{}")), random.choice((b"io", b"ok", b"?"))),
               15: random.choice((b"{}", b'{"children": 5}', b'{"message": [1]}'))}.get(
        kind, random.choice((b"echo x", b"count", b"manage exists", b"ask B x", b"idle", b"\xff\xfe", b"x" * 300)))
    frame = bytearray(pack(kind, payload, id=random.choice((0, 1, 2, 3, 2**64 - 1)), time=random.randrange(3),
                           type=random.choice((0, 1, 9, 77, 0xffffff01, 0xffffffff)),
                           sender=random.choice((b"", b"B")), to=random.choice((b"", b"", b"", b"C")),
                           flags=random.choice((0, 0, 0, 2))))
    if random.random() < 0.01:
        frame[random.randrange(len(frame))] ^= 1 << random.randrange(8)
    return bytes(frame)


def whatever_comes_it_goes_on_or_says_why_it_ends():
    import random
    for seed in range(4):
        with peer() as p:
            p.started()
            last_words = drain(p.process.stderr)
            numbers = random.Random(seed)
            try:
                for _ in range(300):
                    p.raw(random_frame(numbers))
                p.put("PING", id=1 << 40)
                p.sock.shutdown(1)
                while True:
                    p.get()
            except (EOFError, OSError):
                pass
            status = p.process.wait(DEADLINE)
            words = last_words()
            assert status == 1 and words.splitlines()[-1].startswith("davit: H1: the parent "), (seed, words[-2000:])
            assert "Fatal error" not in words, (seed, words)


def frames_may_come_byte_by_byte():
    with peer() as p:
        p.started()
        for byte in pack("REQUEST", b"echo slowly", id=1):
            p.raw(bytes([byte]))
        p.expect("ACK", type=1)
        p.expect("REPLY", b"slowly", id=1)


def descriptors_that_come_with_the_greeting_do_no_harm():
    import array
    import socket
    with peer(greet=False) as p:
        hello = pack("HELLO", b'{"protocol": 2, "limit": 1000, "rings": {"slots": 1024}}')
        with open(os.devnull, "rb") as f:
            p.sock.sendmsg([hello], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [f.fileno()] * 2))])
        p.expect("WELCOME", {"protocol": 1})
        p.started()
        p.ask("echo x", 1, 0, b"x")


def without_a_channel_it_says_so():
    for number in (None, "", "x", "-1", "999", "0"):
        env = {k: v for k, v in os.environ.items() if k != "DAVIT_CHANNEL"}
        if number is not None:
            env["DAVIT_CHANNEL"] = number
        r = subprocess.run(PROGRAM, env=env, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                           timeout=DEADLINE)
        assert r.returncode == 1 and r.stderr.startswith("davit: DAVIT_CHANNEL is no connection"), (number, r)


sys.exit(run_tests(globals(), ("peer", "asking", "random_frame")))
