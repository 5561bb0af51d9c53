# SPDX-License-Identifier: MIT
"""What a container in Python is made of: the class to derive from, and its messages."""
import asyncio
import json
import re
from typing import Any, Awaitable, Callable, Optional, Type

from .frames import KEEP, TYPE_COMMAND, TYPE_MAX, Error, Frame, Kind

NOT_IN_ALIAS = re.compile(r"[/:\x00-\x1f\x7f]")


def to_bytes(value: Any) -> bytes:
    """Bytes as they are, text as UTF-8, None as nothing, everything else as JSON."""
    if value is None:
        return b""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    return (value if isinstance(value, str) else json.dumps(value)).encode()


class Refusal(Error):
    """Raised in a handler: the request is refused, and the container goes on."""


class Data(bytes):
    """Bytes that came, with the two ways to read them. A NUL at the end, as C has it, is not of the text."""

    @property
    def text(self) -> str:
        return (self[:-1] if self.endswith(b"\0") else self).decode()

    def json(self) -> Any:
        return json.loads(self.text)


class Message:
    """What a behaviour or a command is given. `sender` is an alias, "" for nobody."""

    def __init__(self, channel: Any, frame: Frame) -> None:
        self.type = frame.type
        self.data = Data(frame.payload)
        self.sender = frame.sender
        self.is_request = frame.kind == Kind.REQUEST
        self.timeout = frame.time / 1000 if frame.time else None  # seconds that an answer is awaited
        self._id = frame.id
        self._channel = channel
        self._open = self.is_request
        self._kept = False
        self._canceled: Optional[asyncio.Event] = None
        self.canceled = False  # nobody awaits the answer any more
        if self._open:
            channel.asked[frame.id] = self

    @property
    def text(self) -> str:
        return self.data.text

    def json(self) -> Any:
        return self.data.json()

    @property
    def parameters(self) -> Any:
        """Of a command: what its parameters are in JSON; None if there are none."""
        text = self.data.partition(b"\0")[2].rstrip(b"\0")
        try:
            return json.loads(text) if text else None
        except ValueError:
            raise Refusal("invalid", "the parameters are not JSON") from None

    def later(self) -> None:
        """The answer is not what the handler returns, but comes by reply or refuse."""
        self._kept = True

    def reply(self, value: Any = None) -> None:
        """Answers a request. Nothing for one that is answered already, and for other messages."""
        if self._open:
            self._channel.write(Frame(Kind.REPLY, self._id, payload=to_bytes(value)))
            self._forget()

    def refuse(self, code: str, text: str) -> None:
        if self._open:
            self._channel.write(Frame(Kind.REFUSE, self._id, Error(code).number, payload=text.encode()[:1024]))
            self._forget()

    def progress(self) -> None:
        """It takes longer: the time for the answer begins anew."""
        if self._open:
            self._channel.write(Frame(Kind.PROGRESS, self._id))

    async def until_canceled(self) -> None:
        """Waits until nobody awaits the answer any more: who asked has cancelled it, has ended, or did not
        want to wait that long. For ever, if it is answered."""
        self._canceled = self._canceled or asyncio.Event()
        if not self.canceled:
            await self._canceled.wait()

    def _cancel(self) -> None:
        self.canceled = True
        self._forget()
        if self._canceled:
            self._canceled.set()

    def _forget(self) -> None:
        self._open = False
        if self._channel.asked.get(self._id) is self:
            del self._channel.asked[self._id]


def command(function: Callable) -> Callable:
    """Marks a method that is a command of that name. It is given the message; what it
    returns is the answer."""
    function.davit_command = True  # type: ignore[attr-defined]
    return function


class Container:
    """Derive from it and give the class to davit.run. All methods that are overridden may be
    coroutines or plain functions; an exception in one of them fails the container, and its
    supervisor decides. One message is handled at a time."""

    options: dict = {}  # restart, limit, strategy, ...: docs/channel.md
    alias = name = path = parent = args = ""  # who this is: set before config

    # --- to be overridden ---

    def config(self) -> Any:
        """First of all: may change self.options."""

    def boot(self) -> Any:
        """What is done once in its life. Attributes that it sets survive restarts."""

    def construct(self) -> Any:
        """What a restart does again: all other attributes are gone then."""

    def behave(self, message: Message) -> Any:
        """The initial behaviour. What it returns is the answer to a request."""
        raise Refusal("unsupported", "%s handles no messages" % self.name)

    def gone(self, alias: str, error: Optional[Error]) -> Any:
        """One that is watched has ended; None: as it should."""

    def hook(self, operation: str, phase: str) -> Any:
        """"before", "on" and "after" each "create", "start", "stop", "fail" and "destroy"."""

    # --- itself ---

    _life: Any = None

    @property
    def state(self) -> str:
        return self._life.state

    def become(self, behaviour: Callable[[Message], Any]) -> None:
        """Puts another behaviour on top."""
        self._life.behaviours.append(behaviour)

    def unbecome(self) -> None:
        """Takes the topmost away; never the initial one."""
        if not self._life.behaviours:
            raise Error("wrong-state", "this is the initial behaviour")
        self._life.behaviours.pop()

    def log(self, text: str) -> None:
        """A line in the log of the parent."""
        for line in str(text).splitlines():
            self._life.channel.write(Frame(Kind.LOG, payload=line.encode(errors="replace")[:4096]))

    def spawn(self, work: Awaitable) -> Any:
        """Runs a coroutine beside the messages, until this stops, fails or is started again. An
        exception in it fails the container. Returns the asyncio.Task."""
        return self._life.spawn(work)

    # --- others. `to` and `address`: an alias, a path "Main/A/B", "name:Hello"; "" is the parent ---

    async def send(self, to: str, data: Any = None, type: int = 0, keep: bool = False) -> None:
        """A message without an answer. keep: if nobody has that alias, it waits until somebody has."""
        await self._life.channel.send(Frame(Kind.MESSAGE, type=_user(type), payload=to_bytes(data), to=to,
                                            sender=self.alias, flags=KEEP if keep else 0))

    async def request(self, to: str, data: Any = None, type: int = 0, timeout: Optional[float] = 10) -> Data:
        """A message and its answer. Error: it was refused, its receiver has failed, or there was no
        answer in `timeout` seconds (None: whenever)."""
        return await self._life.channel.request(self.alias, to, to_bytes(data), _user(type), timeout)

    async def command(self, to: str, name: str, parameters: Any = None, timeout: Optional[float] = 10) -> Data:
        """A request for a command. Parameters are sent as JSON."""
        text = b"" if parameters is None else json.dumps(parameters).encode()
        return await self._life.channel.request(self.alias, to, name.encode() + b"\0" + text + b"\0", TYPE_COMMAND, timeout)

    async def broadcast(self, data: Any = None, type: int = 0) -> int:
        """A message to all children. Returns their number."""
        children = await self.children(self.alias)
        for child in children:
            await self.send(child, data, type)
        return len(children)

    async def create(self, alias: str, name: Optional[str] = None, command: Optional[list] = None, args: str = "",
                     parent: Optional[str] = None, start: bool = True, force: Optional[str] = None,
                     type: "Optional[Type[Container]]" = None) -> None:
        """A container beneath this one: of a definition by its name; by a command, a program and its arguments;
        or within this process, of a class, `type`. One of that alias that is alive is left alone, unless by
        force: "soft", "hard", "both"."""
        if type:
            await self._make(alias, name or type.__name__, args, parent, start, force, type)
        else:
            await self._manage("create", alias=alias, name=name, command=command, args=args, parent=parent,
                               start=start, force=force)

    async def _make(self, alias: str, name: str, args: str, parent: Optional[str], start: bool, force: Optional[str],
                    cls: "Type[Container]") -> None:
        above = self._life if parent is None else self._beneath(parent, True)
        if not above or not 0 < len(alias.encode()) < 64 or NOT_IN_ALIAS.search(alias) or alias in (".", ".."):
            raise Error("invalid", "that is no %s" % ("alias" if above else "container of this process"))
        there = self._life.channel.within(alias)
        if there and force:
            await there.destroy(force)
        elif there:
            if start and there.state != "started":
                await there.manage("start", {})
            return
        elif await self.exists(alias):
            raise Error("exists", "another process has a container %s" % alias)
        await above.make(cls, alias, name, args, start)

    def _beneath(self, address: str, itself: bool = False) -> Any:
        """The life of that one, if it is within this process; None: it is not."""
        life = self._life.channel.within(address)
        if address in (self.alias, self.path):
            life = self._life
        above = life if itself or not life else life.above
        while above and above is not self._life:
            above = above.above
        if life and not above:
            raise Error("forbidden", "it does not stand beneath you")
        return life

    async def _operate(self, do: str, address: str, **members: Any) -> None:
        life = self._beneath(address)
        if life:
            await life.manage(do, members)
        else:
            await self._manage(do, address=address, **members)

    async def start(self, address: str) -> None:
        await self._operate("start", address)

    async def stop(self, address: str) -> None:
        await self._operate("stop", address)

    async def destroy(self, address: str, force: Optional[str] = None) -> None:
        """With all beneath it. Without force, one that runs is refused."""
        await self._operate("destroy", address, force=force)

    async def fail(self, address: str, code: str, message: str) -> None:
        await self._operate("fail", address, code=code, message=message)

    async def solve(self, address: str, failure: str, solution: str) -> None:
        """Solves the failure of that hash: "continue", "restart", "stop"."""
        await self._operate("solve", address, failure=failure, solution=solution)

    async def flush(self, force: Optional[str] = None) -> None:
        """Destroys all that this has created."""
        for life in reversed(list(self._life.below.values())):
            await life.manage("destroy", {"force": force})
        if not self._life.above:
            await self._manage("flush", force=force)

    async def get(self, address: str) -> dict:
        """What there is to know of it: "state", "restarts", "failure", ... (docs/channel.md)."""
        return await self._manage("get", address=address)

    async def exists(self, address: str) -> bool:
        try:
            await self.get(address)
        except Error as e:
            if e.code != "not-found":
                raise
            return False
        return True

    async def children(self, address: str) -> list:
        """Their aliases, in the order in which they came."""
        answer = await self._manage("children", address=address)
        aliases = answer["children"]
        while answer["children"] and len(aliases) < answer.get("total", 0):
            answer = await self._manage("children", **{"address": address, "from": len(aliases)})
            aliases = aliases + answer["children"]
        return aliases

    async def watch(self, address: str) -> None:
        """When it ends, `gone` is called, once."""
        await self._life.channel.watch(self._life, address)

    async def _manage(self, do: str, **members: Any) -> dict:
        return await self._life.channel.manage({"do": do, **{k: v for k, v in members.items() if v is not None}})


def _user(type: int) -> int:
    if not 0 <= type < TYPE_MAX:
        raise Error("invalid", "a message's type is at least 0 and below 0xffffff00")
    return type
