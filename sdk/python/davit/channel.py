# SPDX-License-Identifier: MIT
"""The channel to the parent, and the life of the container at this end of it (docs/channel.md)."""
import asyncio
import collections
import inspect
import json
import os
import socket
import sys
import traceback
from typing import Any, Awaitable, Callable, Dict, List, Optional, Set, Type

from .container import Container, Data, Message, Refusal
from .frames import FAILED, TYPE_COMMAND, WORDS, Decoder, Error, Frame, Kind, ProtocolError, encode

OPERATIONS = {  # what is done, from which states it can be
    "create": ("destroyed",),
    "start": ("created", "started", "stopped", "failed"),
    "continue": ("failed",),
    "stop": ("created", "started", "stopped", "failed"),
    "fail": ("started", "failed"),
    "destroy": ("created", "started", "stopped", "failed"),
}


async def _call(function: Callable, *args: Any) -> Any:
    result = function(*args)
    return await result if inspect.isawaitable(result) else result


def _error_of(e: BaseException) -> Error:
    if isinstance(e, Error):
        return e
    if isinstance(e, MemoryError):
        return Error("out-of-memory")
    if isinstance(e, OSError):
        return Error("io", str(e))
    return Error("internal", "%s: %s" % (type(e).__name__, e) if str(e) else type(e).__name__)


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
        self.container = cls()
        self.container._channel = self
        self.state = "destroyed"
        self.behaviours: List[Callable] = []
        self.loop = asyncio.get_running_loop()
        self.closed = self.loop.create_future()  # None, or why the parent is not there any more
        self.lost = asyncio.Event()
        self._decoder = Decoder()
        self._greeted = False
        self._operations: "collections.deque[Frame]" = collections.deque()
        self._mailbox: "collections.deque[Frame]" = collections.deque()
        self._urgent: "collections.deque[Frame]" = collections.deque()  # for a failed container
        self._done = 0  # messages, since this process began
        self._broken = False  # the one that was begun last has failed
        self._error = Error("internal")  # of the last failure
        self._ready = asyncio.Event()
        self._pending: Dict[int, Pending] = {}
        self._last_id = 0
        self._tasks: Set[asyncio.Task] = set()
        self._background: "collections.deque[BaseException]" = collections.deque()
        self._writable = asyncio.Event()
        self._writable.set()
        self._heard = self.loop.time()
        self._kept: dict = {}  # attributes that survive a restart

    # --- bytes ---

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def connection_lost(self, exc: Optional[Exception]) -> None:
        self._close("the parent has gone")
        self.lost.set()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

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
        await self._writable.wait()

    # --- frames ---

    def _take(self, frame: Frame) -> None:
        if (frame.kind == Kind.HELLO) == self._greeted:
            raise ProtocolError("%s %s the greeting" % (frame.kind.name, "after" if self._greeted else "before"))
        if frame.kind == Kind.HELLO:
            self._greet(frame.json())
        elif frame.kind == Kind.PING:
            self.write(Frame(Kind.PONG, frame.id))
        elif frame.kind == Kind.OPERATE:
            if str(frame.json().get("do")) not in OPERATIONS:
                raise ProtocolError("OPERATE without a known operation")
            self._operations.append(frame)
        elif frame.kind in (Kind.MESSAGE, Kind.REQUEST):
            if frame.to:
                Message(self, frame).refuse("not-found", "there is no %s in here" % frame.to)
            else:
                (self._urgent if frame.flags & FAILED else self._mailbox).append(frame)
        elif frame.kind == Kind.GONE:
            self._mailbox.append(frame)
        elif frame.id in self._pending and frame.kind in self._pending[frame.id].answers:
            self._settle(self._pending[frame.id], frame)
        self._ready.set()

    def _greet(self, hello: dict) -> None:
        version, limit = hello.get("protocol"), hello.get("limit")
        if not isinstance(version, int) or version < 1 or not isinstance(limit, int):
            raise ProtocolError("HELLO without a version and a limit")
        for key in ("alias", "name", "path", "parent", "args"):
            setattr(self.container, key, str(hello.get(key, "")))
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

    async def request(self, to: str, payload: bytes, type_: int, timeout: Optional[float]) -> Data:
        return await self._ask(Kind.REQUEST, timeout, type=type_, payload=payload, to=to,
                               sender=self.container.alias)

    async def manage(self, what: dict) -> dict:
        return await self._ask(Kind.MANAGE, payload=json.dumps(what).encode())

    def spawn(self, work: Awaitable) -> asyncio.Task:
        task = self.loop.create_task(work)  # type: ignore[arg-type]
        self._tasks.add(task)
        task.add_done_callback(self._task_done)
        return task

    def _task_done(self, task: asyncio.Task) -> None:
        if task in self._tasks and not task.cancelled() and task.exception():
            self._background.append(task.exception())  # type: ignore[arg-type]
            self._ready.set()
        self._tasks.discard(task)

    def _cancel_tasks(self) -> None:
        tasks, self._tasks = self._tasks, set()
        self._background.clear()
        for task in tasks:
            task.cancel()

    # --- one thing after the other ---

    async def work(self) -> None:
        while not self.closed.done():
            if self._operations:
                await self._operate(self._operations.popleft())
            elif self._urgent:
                await self._handle_urgent(self._urgent.popleft())
            elif self.state == "started" and self._background:
                await self._fail(self._background.popleft())
                self._tell_failed(0)
            elif self.state == "started" and self._mailbox:
                await self._handle(self._mailbox.popleft())
            else:
                self._ready.clear()
                await self._ready.wait()

    def _busy(self) -> bool:
        return bool(self.state == "started" and self._mailbox and not self._operations)

    async def _handle(self, frame: Frame) -> None:
        if frame.kind == Kind.GONE:
            error = Error.of(frame.type, frame.payload.decode(errors="replace")) if frame.type else None
            if not await self._try(self.container.gone, frame.to, error):
                self._tell_failed(0)
            return
        self.write(Frame(Kind.ACK, self._done, 1))
        if not await self._try(self._deliver, frame):
            self._broken = True
            self._tell_failed(0)
            return
        self._done += 1
        if not self._busy():
            self.write(Frame(Kind.ACK, self._done, 0))
        await self._writable.wait()

    async def _handle_urgent(self, frame: Frame) -> None:
        """One for a failure: while that lasts, whatever waits. It is not counted."""
        message = Message(self, frame)
        if self.state != "failed":
            message.refuse("wrong-state", "that failure is over")
            return
        try:
            await self._deliver(frame)
        except Exception as e:
            error = _error_of(e)
            message.refuse(error.code, str(error))

    async def _deliver(self, frame: Frame) -> None:
        message = Message(self, frame)
        try:
            if frame.type == TYPE_COMMAND:
                answer = await _call(self._command(frame), message)
            else:
                answer = await _call(self.behaviours[-1] if self.behaviours else self.container.behave, message)
            if not message._kept:
                message.reply(answer)
        except Refusal as e:
            if message.is_request:
                message.refuse(e.code, str(e))
            else:
                self.container.log("%s: a message of type %d: %s" % (self.container.alias, frame.type, e))

    def _command(self, frame: Frame) -> Callable:
        name = frame.payload.partition(b"\0")[0].decode(errors="replace")
        method = getattr(self.container, name, None)
        if not getattr(method, "davit_command", False):
            raise Refusal("not-found", '%s has no command "%s"' % (self.container.alias, name))
        return method  # type: ignore[return-value]

    async def _try(self, function: Callable, *args: Any) -> bool:
        """False: it has failed, and the container with it."""
        try:
            await _call(function, *args)
            return True
        except asyncio.CancelledError as e:
            if self.closed.done():
                raise
            await self._fail(e)
        except Exception as e:
            await self._fail(e)
        return False

    # --- life ---

    async def _operate(self, frame: Frame) -> None:
        what = frame.json()
        do, fresh = str(what["do"]), what.get("fresh") is True
        error, more = None, {}
        if self.state not in OPERATIONS[do]:
            error = Error("wrong-state", "cannot %s a %s container" % (do, self.state))
        elif do == "create":
            error = await self._create()
            more = {} if error else {"options": self.container.options}
        elif do in ("start", "continue"):
            if self.state != "started":
                error = await self._start(fresh)
        elif do == "fail" and self.state == "started":
            code = what.get("code") if what.get("code") in WORDS[1:] else "internal"
            await self._fail(Error(code, str(what.get("message", ""))))
            more = {"message": str(self._error)}
        elif do in ("stop", "destroy") and (do == "destroy" or self.state in ("started", "failed")):
            await self._leave(do, "stopped" if do == "stop" else "destroyed")
        if error:
            more = {"message": str(error)}
        self.write(Frame(Kind.STATE, frame.id, error.number if error else 0,
                         payload=json.dumps({"state": self.state, **more}).encode()))
        if self.state == "started" and self._broken:
            self._broken = False
            self._done += 1
            self.write(Frame(Kind.ACK, self._done, 0))
        if self.state == "destroyed":
            self._close(None)

    async def _create(self) -> Optional[Error]:
        k = self.container
        k.options = dict(k.options)
        try:
            await _call(k.hook, "create", "before")
            await _call(k.config)
            await _call(k.boot)
            self._kept = dict(vars(k))
            await _call(k.construct)
            await _call(k.hook, "create", "on")
            json.dumps(k.options)
        except Exception as e:
            traceback.print_exc()
            return _error_of(e)
        self.state = "created"
        await self._hook_only("create", "after")
        return None

    async def _start(self, fresh: bool) -> Optional[Error]:
        k = self.container
        try:
            await _call(k.hook, "start", "before")
            if fresh:
                self._cancel_tasks()
                vars(k).clear()
                vars(k).update(self._kept)
                self.behaviours.clear()
                await _call(k.construct)
            await _call(k.hook, "start", "on")
        except Exception as e:
            return await self._fail(e)
        self.state = "started"
        await self._hook_only("start", "after")
        return None

    async def _leave(self, operation: str, state: str) -> None:
        await self._hook_only(operation, "before")
        await self._hook_only(operation, "on")
        self._cancel_tasks()
        self.state = state
        await self._hook_only(operation, "after")

    async def _fail(self, e: BaseException) -> Error:
        if not isinstance(e, Error):
            traceback.print_exception(type(e), e, e.__traceback__)
        self._error = _error_of(e)
        await self._leave("fail", "failed")
        return self._error

    def _tell_failed(self, id_: int) -> None:
        text = str(self._error)[:4096]
        self.write(Frame(Kind.STATE, id_, self._error.number,
                         payload=json.dumps({"state": "failed", "message": text}).encode()))

    async def _hook_only(self, operation: str, phase: str) -> None:
        """A hook that cannot hold anything up."""
        try:
            await _call(self.container.hook, operation, phase)
        except Exception as e:
            self.container.log("%s: hook of %s: %s" % (self.container.alias, operation, _error_of(e)))


async def _serve(cls: Type[Container], sock: socket.socket) -> None:
    channel = Channel(cls)
    loop = asyncio.get_running_loop()
    await loop.create_unix_connection(lambda: channel, sock=sock)
    worker = loop.create_task(channel.work())
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
    print("davit: %s: %s" % (channel.container.alias or cls.__name__, why), file=sys.stderr, flush=True)
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
