# SPDX-License-Identifier: MIT
"""The channel to the parent (docs/channel.md): what comes by it for whom, and what is asked by it."""
import asyncio
import json
import os
import socket
import sys
from typing import Any, Awaitable, Dict, List, Optional, Set, Type

from .container import Container, Data, Message
from .frames import FAILED, Decoder, Error, Frame, Kind, ProtocolError, encode
from .life import OPERATIONS, Life

WITHIN = ("start", "stop", "fail", "destroy", "solve")  # what the parent can do to those within


class Pending:
    """An answer that is awaited."""

    def __init__(self, loop: asyncio.AbstractEventLoop, kind: Kind, timeout: Optional[float]) -> None:
        self.answers = (Kind.RESULT,) if kind == Kind.MANAGE else (Kind.REPLY, Kind.REFUSE, Kind.PROGRESS)
        self.future = loop.create_future()
        self.timeout = timeout
        self.loop = loop
        self.renew()

    def renew(self) -> None:
        self.end = None if self.timeout is None else self.loop.time() + self.timeout


class Channel(asyncio.Protocol):
    def __init__(self, cls: Type[Container]) -> None:
        self.loop = asyncio.get_running_loop()
        self.closed = self.loop.create_future()  # None, or why the parent is not there any more
        self.lost = asyncio.Event()
        self.writable = asyncio.Event()
        self.writable.set()
        self.root = Life(self, cls)
        self.lives: Dict[str, Life] = {}  # of those within, by alias
        self.asked: Dict[int, Message] = {}  # requests that came and are not answered, by id
        self._decoder = Decoder()
        self._greeted = False
        self._pending: Dict[int, Pending] = {}
        self._last_id = 0
        self._watchers: Dict[str, List[Life]] = {}  # whose end is awaited by whom
        self._beside: Set[asyncio.Task] = set()
        self._heard = self.loop.time()

    # --- bytes ---

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def connection_lost(self, exc: Optional[Exception]) -> None:
        self._close("the parent has gone")
        self.lost.set()

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()

    def data_received(self, data: bytes) -> None:
        self._heard = self.loop.time()
        try:
            for frame in self._decoder.feed(data):
                self._take(frame)
        except ProtocolError as e:
            self._close("the parent breaks the protocol: %s" % e)

    def _close(self, why: Optional[str]) -> None:
        if not self.closed.done():
            self.closed.set_result(why)
        self._transport.close()

    def write(self, frame: Frame) -> None:
        """Queues a frame; never waits."""
        if len(frame.payload) > self._decoder.limit:
            raise Error("invalid", "a message has at most %d bytes" % self._decoder.limit)
        data = encode(frame)
        if not self._transport.is_closing():
            self._transport.write(data)

    async def send(self, frame: Frame) -> None:
        self.write(frame)
        await self.writable.wait()

    # --- frames ---

    def _take(self, frame: Frame) -> None:
        if (frame.kind == Kind.HELLO) == self._greeted:
            raise ProtocolError("%s %s the greeting" % (frame.kind.name, "after" if self._greeted else "before"))
        if frame.kind == Kind.HELLO:
            self._greet(frame.json())
        elif frame.kind == Kind.PING:
            self.write(Frame(Kind.PONG, frame.id))
        elif frame.kind == Kind.OPERATE:
            self._operate(frame)
        elif frame.kind in (Kind.MESSAGE, Kind.REQUEST):
            message = Message(self, frame)
            life = self.lives.get(frame.to) if frame.to else self.root
            if life:
                life.take(message, bool(frame.flags & FAILED))
            else:
                message.refuse("not-found", "there is no %s in here" % frame.to)
        elif frame.kind == Kind.CANCEL:
            if frame.id in self.asked:
                self.asked[frame.id]._cancel()
        elif frame.kind == Kind.GONE:
            watchers = self._watchers.get(frame.to) or [self.root]
            watchers.pop(0).tell_gone(frame)
        elif frame.id in self._pending and frame.kind in self._pending[frame.id].answers:
            self._settle(self._pending[frame.id], frame)

    def _operate(self, frame: Frame) -> None:
        what = frame.json()
        do = str(what.get("do"))
        if do not in (WITHIN if frame.to else OPERATIONS):
            raise ProtocolError("OPERATE without a known operation")
        if frame.to:
            self.run_beside(self._operate_within(frame.id, frame.to, do, what))
            return

        def done(error: Optional[Error], more: dict) -> None:
            self._tell(frame.id, self.root.state, error, more)
            if self.root.state == "destroyed":
                self._close(None)
        self.root.operate(do, what, done)

    async def _operate_within(self, id_: int, alias: str, do: str, what: dict) -> None:
        life, error = self.lives.get(alias), None
        try:
            if life:
                await life.manage(do, what)
            elif do != "destroy":
                raise Error("wrong-state", "cannot %s a destroyed container" % do)
        except Error as e:
            error = e
        self._tell(id_, life.state if life else "destroyed", error, {"message": str(error)} if error else {}, alias)

    def _tell(self, id_: int, state: str, error: Optional[Error], more: dict, to: str = "") -> None:
        self.write(Frame(Kind.STATE, id_, error.number if error else 0, to=to,
                         payload=json.dumps({"state": state, **more}).encode()))

    def run_beside(self, work: Awaitable) -> None:
        """What the module itself has to do; it is nobody's to cancel."""
        task = self.loop.create_task(work)  # type: ignore[arg-type]
        self._beside.add(task)
        task.add_done_callback(self._beside_done)

    def _beside_done(self, task: asyncio.Task) -> None:
        self._beside.discard(task)
        if not task.cancelled() and task.exception() and not self.closed.done():
            self.closed.set_result("a defect of the module: %r" % task.exception())

    def _greet(self, hello: dict) -> None:
        version, limit = hello.get("protocol"), hello.get("limit")
        if not isinstance(version, int) or version < 1 or not isinstance(limit, int):
            raise ProtocolError("HELLO without a version and a limit")
        for key in ("alias", "name", "path", "parent", "args"):
            setattr(self.root.container, key, str(hello.get(key, "")))
        self._decoder.limit = limit
        self._greeted = True
        self.write(Frame(Kind.WELCOME, payload=b'{"protocol": 1}'))
        keepalive = hello.get("keepalive")
        if isinstance(keepalive, (int, float)) and keepalive > 0:
            self._watch_parent(keepalive / 1000, False)

    def _watch_parent(self, keepalive: float, suspect: bool) -> None:
        """What is there to be read is read between the suspicion and the verdict."""
        silent = self.loop.time() - self._heard >= keepalive
        if silent and suspect:
            self._close("parent-unresponsive")
        else:
            self.loop.call_later(0.05 if silent else keepalive / 4, self._watch_parent, keepalive, silent)

    @staticmethod
    def _settle(pending: Pending, frame: Frame) -> None:
        future = pending.future
        if frame.kind == Kind.PROGRESS:
            pending.renew()
        elif future.done():
            pass
        elif frame.kind == Kind.REPLY:
            future.set_result(Data(frame.payload))
        elif frame.kind == Kind.REFUSE:
            future.set_exception(Error.of(frame.type, frame.payload.decode(errors="replace")))
        elif frame.type:
            future.set_exception(Error.of(frame.type, str(frame.json().get("message", ""))))
        else:
            future.set_result(frame.json())

    # --- what the container asks of others ---

    async def _ask(self, kind: Kind, timeout: Optional[float] = None, **fields: Any) -> Any:
        self._last_id += 1
        id_ = self._last_id
        pending = self._pending[id_] = Pending(self.loop, kind, timeout)
        try:
            await self.send(Frame(kind, id_, time=min(int((timeout or 0) * 1000), 2**32 - 1), **fields))
            while not pending.future.done():
                left = None if pending.end is None else pending.end - self.loop.time()
                if left is not None and left <= 0:
                    raise Error("timeout", "no answer in %g s" % pending.timeout)
                await asyncio.wait({pending.future}, timeout=left)
            return pending.future.result()
        finally:
            del self._pending[id_]
            if not pending.future.done() and kind == Kind.REQUEST:
                self.write(Frame(Kind.CANCEL, id_))

    async def request(self, sender: str, to: str, payload: bytes, type_: int, timeout: Optional[float]) -> Data:
        return await self._ask(Kind.REQUEST, timeout, type=type_, payload=payload, to=to, sender=sender)

    async def manage(self, what: dict) -> dict:
        return await self._ask(Kind.MANAGE, payload=json.dumps(what).encode())

    async def watch(self, life: Life, address: str) -> None:
        alias = (await self.manage({"do": "watch", "address": address})).get("alias", "")
        self._watchers.setdefault(alias, []).append(life)

    def within(self, address: str) -> Optional[Life]:
        """Whose alias or path that is, of those within this process."""
        life = self.lives.get(address.rpartition("/")[2])
        return life if life and ("/" not in address or ("/" + life.container.path).endswith("/" + address)) else None


async def _serve(cls: Type[Container], sock: socket.socket) -> None:
    channel = Channel(cls)
    loop = asyncio.get_running_loop()
    await loop.create_unix_connection(lambda: channel, sock=sock)
    worker = channel.root.begin()
    await asyncio.wait({worker, channel.closed}, return_when=asyncio.FIRST_COMPLETED)
    if worker.done():
        worker.result()  # a defect shows itself
    why = await channel.closed
    if why is None:  # destroyed: what was written last is to leave
        await asyncio.wait({loop.create_task(channel.lost.wait())}, timeout=1)
        return
    worker.cancel()
    await asyncio.wait({worker}, timeout=0.5)
    sys.stdout.flush()
    print("davit: %s: %s" % (channel.root.alias or cls.__name__, why), file=sys.stderr, flush=True)
    os._exit(1)  # whatever threads there are: nobody is left to work for


def run(cls: Type[Container]) -> None:
    """Makes this process the container that its parent has started it for. Returns when that is
    destroyed; when the parent has gone, the process ends."""
    number = os.environ.pop("DAVIT_CHANNEL", "")
    try:
        sock = socket.socket(fileno=int(number))
    except (ValueError, OSError):
        sys.exit("davit: DAVIT_CHANNEL is no connection: this program is to be started as a container of davit")
    sock.set_inheritable(False)
    asyncio.run(_serve(cls, sock))
