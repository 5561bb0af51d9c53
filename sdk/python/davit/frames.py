# SPDX-License-Identifier: MIT
"""Frames of the channel protocol (docs/channel.md): bytes to frames and back."""
import enum
import json
import struct
from typing import Iterator, NamedTuple

HEADER = struct.Struct("<IBBBBQII")
MAX = 65536  # bytes of a frame behind its header
MORE, FAILED, KEEP = 1, 2, 4  # flags
TYPE_COMMAND = 0xFFFFFF01
TYPE_MAX = 0xFFFFFF00  # a user's types are below

WORDS = ("ok", "invalid", "not-found", "exists", "wrong-state", "conflict", "unsupported", "forbidden", "out-of-memory",
         "io", "no-space", "timeout", "canceled", "protocol", "closed", "corrupt", "unavailable", "quota", "exec-failed",
         "build-failed", "source", "in-use", "compacted", "internal")


class Kind(enum.IntEnum):
    HELLO = 1
    WELCOME = 2
    OPERATE = 3
    STATE = 4
    PING = 5
    PONG = 6
    ACK = 7
    MESSAGE = 8
    REQUEST = 9
    REPLY = 10
    REFUSE = 11
    PROGRESS = 12
    CANCEL = 13
    MANAGE = 14
    RESULT = 15
    GONE = 16
    ANNOUNCE = 17
    LOG = 18
    BELL = 19


TO_CHILD = {Kind.HELLO, Kind.OPERATE, Kind.PING, Kind.MESSAGE, Kind.REQUEST, Kind.REPLY, Kind.REFUSE, Kind.PROGRESS,
            Kind.CANCEL, Kind.RESULT, Kind.GONE, Kind.BELL}
IN_PARTS = {Kind.MESSAGE, Kind.REQUEST, Kind.REPLY}


class Error(Exception):
    """An error with davit's word for it: "not-found", "timeout", ... (docs/errors.md)."""

    def __init__(self, code: str, message: str = ""):
        if code not in WORDS:
            raise ValueError("davit has no error %r" % code)
        super().__init__(message or code)
        self.code = code

    @property
    def number(self) -> int:
        return WORDS.index(self.code)

    @classmethod
    def of(cls, number: int, message: str) -> "Error":
        return cls(WORDS[number] if 0 < number < len(WORDS) else "internal", message)


class ProtocolError(Exception):
    """The parent does not keep to the protocol."""


class Frame(NamedTuple):
    kind: Kind
    id: int = 0
    type: int = 0
    time: int = 0  # milliseconds
    payload: bytes = b""
    sender: str = ""
    to: str = ""
    flags: int = 0

    def json(self) -> dict:
        try:
            value = json.loads(self.payload or b"{}")
        except ValueError as e:
            raise ProtocolError("%s is not JSON: %s" % (self.kind.name, e)) from None
        if not isinstance(value, dict):
            raise ProtocolError("%s is no JSON object" % self.kind.name)
        return value


def encode(frame: Frame) -> bytes:
    """The frame, in parts if it is large. Error: what it holds is too long or no number of that size."""
    sender, to = frame.sender.encode(), frame.to.encode()
    if len(sender) > 255 or len(to) > 255:
        raise Error("invalid", "an address has at most 255 bytes")
    first = MAX - len(sender) - len(to)
    rest = frame.payload[first:]
    if rest and frame.kind not in IN_PARTS:
        raise Error("invalid", "%s has at most %d bytes" % (frame.kind.name, first))
    try:
        out = [HEADER.pack(len(sender) + len(to) + min(first, len(frame.payload)), frame.kind,
                           frame.flags | (MORE if rest else 0), len(sender), len(to), frame.id, frame.type,
                           frame.time), sender, to, frame.payload[:first]]
    except struct.error as e:
        raise Error("invalid", "%s: %s" % (frame.kind.name, e)) from None
    for at in range(0, len(rest), MAX):
        part = rest[at:at + MAX]
        out += (HEADER.pack(len(part), frame.kind, MORE if at + MAX < len(rest) else 0, 0, 0, frame.id, 0, 0), part)
    return b"".join(out)


class Decoder:
    """Takes bytes as they come, gives whole frames; large ones put together again."""

    def __init__(self) -> None:
        self.limit = MAX  # of a message in parts; HELLO says more
        self._in = bytearray()
        self._whole: "Frame | None" = None  # a message of which parts are missing
        self._parts = bytearray()

    def feed(self, data: bytes) -> Iterator[Frame]:
        self._in += data
        at = 0
        try:
            while len(self._in) - at >= HEADER.size:
                size, kind, flags, n_from, n_to, id_, type_, time = HEADER.unpack_from(self._in, at)
                if size > MAX or n_from + n_to > size:
                    raise ProtocolError("a frame of %d bytes, with addresses of %d" % (size, n_from + n_to))
                if len(self._in) - at < HEADER.size + size:
                    break
                body = bytes(self._in[at + HEADER.size:at + HEADER.size + size])
                at += HEADER.size + size
                frame = self._join(self._check(kind, flags, n_from, n_to, id_, type_, time, body))
                if frame:
                    yield frame
        finally:
            del self._in[:at]

    @staticmethod
    def _check(kind: int, flags: int, n_from: int, n_to: int, id_: int, type_: int, time: int, body: bytes) -> Frame:
        if kind not in TO_CHILD:
            raise ProtocolError("a frame of kind %d, which a child is not sent" % kind)
        if flags & ~(MORE | FAILED) or flags & MORE and kind not in IN_PARTS:
            raise ProtocolError("flags %d of %s" % (flags, Kind(kind).name))
        try:
            return Frame(Kind(kind), id_, type_, time, body[n_from + n_to:], body[:n_from].decode(),
                         body[n_from:n_from + n_to].decode(), flags)
        except UnicodeDecodeError:
            raise ProtocolError("an address is not UTF-8") from None

    def _join(self, frame: Frame) -> "Frame | None":
        whole = self._whole
        if frame.kind not in IN_PARTS or not whole and not frame.flags & MORE:
            return frame
        if whole and (frame.kind, frame.id) != (whole.kind, whole.id):
            raise ProtocolError("%s between the parts of another" % frame.kind.name)
        self._whole = whole or frame
        self._parts += frame.payload
        if len(self._parts) > self.limit:
            raise ProtocolError("a message of more than %d bytes" % self.limit)
        if frame.flags & MORE:
            return None
        frame = self._whole._replace(payload=bytes(self._parts), flags=self._whole.flags & ~MORE)
        self._whole, self._parts = None, bytearray()
        return frame
