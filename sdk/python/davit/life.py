# SPDX-License-Identifier: MIT
"""The life of a container: its states, its mailbox, one thing after the other; and those that it has within this
process, which it supervises."""
import asyncio
import collections
import inspect
import json
import secrets
import traceback
from typing import Any, Awaitable, Callable, Deque, Dict, List, Optional, Set, Tuple, Type

from .container import Container, Message, Refusal
from .frames import TYPE_COMMAND, WORDS, Error, Frame, Kind
from .supervise import Standing, Supervisor, check

OPERATIONS = {  # what is done, from which states it can be
    "create": ("destroyed",),
    "start": ("created", "started", "stopped", "failed"),
    "continue": ("failed",),
    "stop": ("created", "started", "stopped", "failed"),
    "fail": ("started", "failed"),
    "destroy": ("created", "started", "stopped", "failed"),
}
SOLUTIONS = {"continue": "continue", "restart": "start", "stop": "stop"}
SHUTDOWN = 5000  # milliseconds; as the options of C
LIMIT = 65536

Done = Callable[[Optional[Error], dict], None]


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


def _not_handled(message: Message, why: str) -> None:
    message.refuse("closed", "the request was not handled: " + why)


class Life:
    """Of the container that the process is, whose `above` is None and whose parent is behind the channel; or of
    one within it."""

    def __init__(self, channel: Any, cls: Type[Container], above: "Optional[Life]" = None) -> None:
        self.channel = channel
        self.above = above
        self.below: "Dict[str, Life]" = {}  # by alias, in the order of their creation
        self.brood = Supervisor(self)  # of those
        self.standing = Standing()  # with the one above
        self.container = cls()
        self.container._life = self
        self.state = "destroyed"
        self.behaviours: List[Callable] = []
        self.failure = ""  # the hash of the last one
        self.restarts = 0
        self.over = False
        self._loop = channel.loop
        self._operations: Deque[Tuple[str, dict, Done]] = collections.deque()
        self._mailbox: Deque[Any] = collections.deque()  # messages, and frames GONE
        self._urgent: Deque[Message] = collections.deque()  # for a failed container
        self._done = 0  # messages, since this process began
        self._broken = False  # the one that was begun last has failed
        self._error = Error("internal")  # of the last failure
        self._ready = asyncio.Event()
        self._tasks: Set[asyncio.Task] = set()
        self._background: Deque[BaseException] = collections.deque()
        self._kept: dict = {}  # attributes that survive a restart
        self._worker: Optional[asyncio.Task] = None
        self._current: Optional[Message] = None  # the one that is being handled

    # --- what comes ---

    def take(self, message: Message, urgent: bool) -> None:
        if urgent:
            self._urgent.append(message)
        elif not self.above or self._has_room(message):
            self._mailbox.append(message)
        self._ready.set()

    def _has_room(self, message: Message) -> bool:
        """As the options say: for the process's own its parent does so."""
        options = self.container.options
        if options.get("keep_nothing") and self.state in ("created", "stopped"):
            self._drop(message, "the receiver is not started")
            return False
        if len(self._mailbox) < (options.get("limit") or LIMIT):
            return True
        if options.get("overflow") == "drop-oldest":
            oldest = next(m for m in self._mailbox if isinstance(m, Message))
            self._mailbox.remove(oldest)
            self._drop(oldest, "the mailbox is full")
            return True
        if message.is_request and options.get("overflow") != "drop-newest":
            message.refuse("unavailable", "the mailbox is full")
        else:
            self._drop(message, "the mailbox is full")
        return False

    def _drop(self, message: Message, why: str) -> None:
        if message.is_request:
            _not_handled(message, why)
        else:
            self.container.log("%s: a message of type %d: %s" % (self.alias, message.type, why))

    def tell_gone(self, frame: Frame) -> None:
        self._mailbox.append(frame)
        self._ready.set()

    def operate(self, do: str, what: dict, done: Done) -> None:
        """done is called when that is over, with an error or what there is to tell."""
        if self.over:
            done(None if do == "destroy" else Error("wrong-state", "it was destroyed"), {})
            return
        self._operations.append((do, what, done))
        self._ready.set()

    @property
    def alias(self) -> str:
        return self.container.alias

    # --- one thing after the other ---

    def begin(self) -> "asyncio.Task":
        self._worker = self._loop.create_task(self._work())
        return self._worker

    async def _work(self) -> None:
        while not self.over and not self.channel.closed.done():
            if self._operations:
                await self._operate(*self._operations.popleft())
            elif self._urgent:
                await self._handle_urgent(self._urgent.popleft())
            elif self.state == "started" and self._background:
                await self._fail(self._background.popleft())
                self._tell_failed()
            elif self.state == "started" and self._mailbox:
                await self._handle(self._mailbox.popleft())
            else:
                self._ready.clear()
                await self._ready.wait()

    def _ack(self, begun: int) -> None:
        if not self.above:  # the parent counts what it sends to the process's own
            self.channel.write(Frame(Kind.ACK, self._done, begun))

    async def _handle(self, message: Any) -> None:
        if isinstance(message, Frame):
            error = Error.of(message.type, message.payload.decode(errors="replace")) if message.type else None
            if not await self._try(self.container.gone, message.to, error):
                self._tell_failed()
            return
        if not message.canceled:
            self._ack(1)
            self._current = message
            well = await self._try(self._deliver, message)
            self._current = None
            if not well:
                self._broken = True
                if self.above:
                    _not_handled(message, "its handler failed")
                else:
                    message._forget()  # the parent refuses it
                self._tell_failed()
                return
        self._done += 1
        if self.state != "started" or not self._mailbox or self._operations:
            self._ack(0)
        await self.channel.writable.wait()

    async def _handle_urgent(self, message: Message) -> None:
        """One for a failure: while that lasts, whatever waits. It is not counted."""
        if message.canceled:
            return
        if self.state != "failed":
            message.refuse("wrong-state", "that failure is over")
            return
        try:
            await self._deliver(message)
        except Exception as e:
            error = _error_of(e)
            message.refuse(error.code, str(error))

    async def _deliver(self, message: Message) -> None:
        try:
            if message.type == TYPE_COMMAND:
                answer = await _call(self._command(message), message)
            else:
                answer = await _call(self.behaviours[-1] if self.behaviours else self.container.behave, message)
            if not message._kept:
                message.reply(answer)
        except Refusal as e:
            if message.is_request:
                message.refuse(e.code, str(e))
            else:
                self.container.log("%s: a message of type %d: %s" % (self.alias, message.type, e))

    def _command(self, message: Message) -> Callable:
        name = message.data.partition(b"\0")[0].decode(errors="replace")
        method = getattr(self.container, name, None)
        if not getattr(method, "davit_command", False):
            raise Refusal("not-found", '%s has no command "%s"' % (self.alias, name))
        return method  # type: ignore[return-value]

    async def _try(self, function: Callable, *args: Any) -> bool:
        """False: it has failed, and the container with it."""
        try:
            await _call(function, *args)
            return True
        except asyncio.CancelledError as e:
            if self.channel.closed.done() or self.over:
                raise
            await self._fail(e)
        except Exception as e:
            await self._fail(e)
        return False

    # --- beside the messages ---

    def spawn(self, work: Awaitable) -> asyncio.Task:
        task = self._loop.create_task(work)  # type: ignore[arg-type]
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

    # --- states ---

    async def _operate(self, do: str, what: dict, done: Done) -> None:
        error, more = None, {}
        if self.state not in OPERATIONS[do]:
            error = Error("wrong-state", "cannot %s a %s container" % (do, self.state))
        elif do == "create":
            error = await self._create()
            more = {} if error else {"options": self.container.options}
        elif do in ("start", "continue"):
            if self.state != "started":
                error = await self._start(what.get("fresh") is True)
        elif do == "fail" and self.state == "started":
            code = what.get("code") if what.get("code") in WORDS[1:] else "internal"
            await self._fail(Error(code, str(what.get("message") or "")))
            more = {"message": str(self._error)}
        elif do == "stop" and self.state in ("started", "failed"):
            await self._leave("stop", "stopped")
        elif do == "destroy":
            await self._end()
        done(error, {"message": str(error)} if error else more)
        if self.state == "started" and self._broken:
            self._broken = False
            self._done += 1
            self._ack(0)
        if self.above and self.state == "failed" and (error or do == "fail"):
            self._supervised()

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
            check(k.options)
        except Exception as e:
            traceback.print_exc()
            return _error_of(e)
        self._is("created")
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
        self._is("started")
        await self._hook_only("start", "after")
        self.brood.above_started()
        return None

    async def _leave(self, operation: str, state: str) -> None:
        await self._hook_only(operation, "before")
        await self._hook_only(operation, "on")
        self._cancel_tasks()
        self._is(state)
        await self._hook_only(operation, "after")

    async def _fail(self, e: BaseException) -> Error:
        if not isinstance(e, Error):
            traceback.print_exception(type(e), e, e.__traceback__)
        self._error = _error_of(e)
        self.failure = secrets.token_hex(8)
        await self._leave("fail", "failed")
        return self._error

    async def _end(self) -> None:
        """Those below first, the last and deepest before the others."""
        for alias in reversed(list(self.below)):
            if alias in self.below:
                await self.below[alias].destroy("both")
        await self._leave("destroy", "destroyed")

    async def _hook_only(self, operation: str, phase: str) -> None:
        """A hook that cannot hold anything up."""
        try:
            await _call(self.container.hook, operation, phase)
        except Exception as e:
            self.container.log("%s: hook of %s: %s" % (self.alias, operation, _error_of(e)))

    # --- what others hear of it ---

    def _is(self, state: str) -> None:
        self.state = state
        if not self.above:
            return
        if state == "started":
            self.standing.started(self._loop.time())
        elif state == "destroyed":
            self._refuse_all()
        elif state == "stopped" and self.container.options.get("keep_nothing"):
            waiting, self._mailbox = self._mailbox, collections.deque()
            for message in waiting:
                self.take(message, False) if isinstance(message, Message) else self.tell_gone(message)
        known = {"alias": self.alias, "name": self.container.name, "parent": self.above.alias, "state": state,
                 "restarts": self.restarts, "strategy": self.container.options.get("strategy", "one-for-one")}
        if state == "failed":
            known.update(failure=self.failure, code=self._error.code, message=str(self._error)[:1024])
        self.channel.write(Frame(Kind.ANNOUNCE, payload=json.dumps(known).encode()))
        if state == "destroyed":
            self._over()

    def _refuse_all(self) -> None:
        for message in [self._current, *self._urgent, *self._mailbox]:
            if isinstance(message, Message):
                _not_handled(message, "the receiver has ended")

    def _over(self) -> None:
        self.over = True
        self.standing.told("stop")
        self.brood.abort()
        assert self.above
        self.above.below.pop(self.alias, None)
        self.channel.lives.pop(self.alias, None)
        while self._operations:
            do, _, done = self._operations.popleft()
            done(None if do == "destroy" else Error("wrong-state", "it was destroyed"), {})

    def _tell_failed(self) -> None:
        if self.above:
            self._supervised()
            return
        known = {"state": "failed", "message": str(self._error)[:4096]}
        self.channel.write(Frame(Kind.STATE, 0, self._error.number, payload=json.dumps(known).encode()))

    # --- those below ---

    async def make(self, cls: Type[Container], alias: str, name: str, args: str, start: bool) -> None:
        """A container within this process."""
        if not self.brood.may_have(cls):
            raise Error("invalid", "by simple-one-for-one all children of %s are of one class" % self.alias)
        life = Life(self.channel, cls, self)
        k = life.container
        k.alias, k.name, k.args, k.parent = alias, name, args, self.alias
        k.path = "%s/%s" % (self.container.path, alias)
        self.channel.lives[alias] = self.below[alias] = life
        life.begin()
        try:
            await life.ask("create")
        except Error:
            life._over()
            raise
        if start:
            await life.manage("start", {})

    async def ask(self, do: str, **what: Any) -> None:
        future = self._loop.create_future()

        def done(error: Optional[Error], more: dict) -> None:
            if future.done():
                pass
            elif error:
                future.set_exception(Error(error.code, str(error)))
            else:
                future.set_result(None)
        self.operate(do, what, done)
        await future

    async def manage(self, do: str, what: dict) -> None:
        """What others want of it: the words of MANAGE."""
        if do == "destroy":
            if self.state == "started" and not what.get("force"):
                raise Error("wrong-state", "it runs, and is to be kept")
            await self.destroy(what.get("force"))
        elif do == "solve":
            if self.state != "failed":
                raise Error("wrong-state", "%s has not failed" % self.alias)
            if str(what.get("failure")).zfill(16) != self.failure:
                raise Error("wrong-state", "that failure is over")
            if what.get("solution") not in SOLUTIONS:
                raise Error("invalid", "that is no solution for others to give")
            self.standing.told(what["solution"])
            await self.ask(SOLUTIONS[what["solution"]], fresh=True)
        else:
            self.standing.told(do)
            await self.ask(do, fresh=self.state == "failed", code=what.get("code"), message=what.get("message"))

    async def destroy(self, force: Optional[str]) -> None:
        """Soft: when it is done with its message. Hard: cut off. Both, and without a word: the one, then the other."""
        if self.over:
            return
        if force != "hard":
            asked = self._loop.create_task(self.ask("destroy"))
            assert self.above
            time = (self.above.container.options.get("shutdown_time") or SHUTDOWN) / 1000
            await asyncio.wait({asked}, timeout=None if force == "soft" else time)
            if asked.done():
                asked.result()
                return
        for life in reversed(list(self.below.values())):
            await life.destroy("hard")
        if not self.over:
            self._cancel_tasks()
            self._is("destroyed")
            if self._worker:
                self._worker.cancel()

    # --- supervision ---

    def _supervised(self) -> None:
        """It has failed: what is done is for the one above to decide."""
        assert self.above
        self.container.log("%s: failed: %s" % (self.alias, self._error))
        self.above.brood.child_failed(self)

    def fail_beside(self, error: Error) -> None:
        """Those below have failed it."""
        if self.state == "started":
            self._background.append(error)
            self._ready.set()

    def stop_itself(self) -> None:
        def done(error: Optional[Error], more: dict) -> None:
            if not self.above and not error:
                self.channel.write(Frame(Kind.STATE, payload=b'{"state": "stopped"}'))
        self.standing.told("stop")
        self.operate("stop", {}, done)
