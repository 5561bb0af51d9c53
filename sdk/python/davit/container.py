# SPDX-License-Identifier: MIT
"""What a container in Python is made of: the class to derive from, and its messages."""
import json
from typing import Any, Awaitable, Callable, Optional

from .frames import KEEP, TYPE_COMMAND, TYPE_MAX, Error, Frame, Kind


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
            self._open = False

    def refuse(self, code: str, text: str) -> None:
        if self._open:
            self._channel.write(Frame(Kind.REFUSE, self._id, Error(code).number, payload=text.encode()[:1024]))
            self._open = False

    def progress(self) -> None:
        """It takes longer: the time for the answer begins anew."""
        if self._open:
            self._channel.write(Frame(Kind.PROGRESS, self._id))


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

    _channel: Any = None

    @property
    def state(self) -> str:
        return self._channel.state

    def become(self, behaviour: Callable[[Message], Any]) -> None:
        """Puts another behaviour on top."""
        self._channel.behaviours.append(behaviour)

    def unbecome(self) -> None:
        """Takes the topmost away; never the initial one."""
        if not self._channel.behaviours:
            raise Error("wrong-state", "this is the initial behaviour")
        self._channel.behaviours.pop()

    def log(self, text: str) -> None:
        """A line in the log of the parent."""
        for line in str(text).splitlines():
            self._channel.write(Frame(Kind.LOG, payload=line.encode(errors="replace")[:4096]))

    def spawn(self, work: Awaitable) -> Any:
        """Runs a coroutine beside the messages, until this stops, fails or is started again. An
        exception in it fails the container. Returns the asyncio.Task."""
        return self._channel.spawn(work)

    # --- others. `to` and `address`: an alias, a path "Main/A/B", "name:Hello"; "" is the parent ---

    async def send(self, to: str, data: Any = None, type: int = 0, keep: bool = False) -> None:
        """A message without an answer. keep: if nobody has that alias, it waits until somebody has."""
        await self._channel.send(Frame(Kind.MESSAGE, type=_user(type), payload=to_bytes(data), to=to,
                                       sender=self.alias, flags=KEEP if keep else 0))

    async def request(self, to: str, data: Any = None, type: int = 0, timeout: Optional[float] = 10) -> Data:
        """A message and its answer. Error: it was refused, its receiver has failed, or there was no
        answer in `timeout` seconds (None: whenever)."""
        return await self._channel.request(to, to_bytes(data), _user(type), timeout)

    async def command(self, to: str, name: str, parameters: Any = None, timeout: Optional[float] = 10) -> Data:
        """A request for a command. Parameters are sent as JSON."""
        text = b"" if parameters is None else json.dumps(parameters).encode()
        return await self._channel.request(to, name.encode() + b"\0" + text + b"\0", TYPE_COMMAND, timeout)

    async def broadcast(self, data: Any = None, type: int = 0) -> int:
        """A message to all children. Returns their number."""
        children = await self.children(self.alias)
        for child in children:
            await self.send(child, data, type)
        return len(children)

    async def create(self, alias: str, name: Optional[str] = None, command: Optional[list] = None, args: str = "",
                     parent: Optional[str] = None, start: bool = True, force: Optional[str] = None) -> None:
        """A container beneath this one: of a definition by its name, or by a command, a program and
        its arguments. One of that alias that is alive is left alone, unless by force: "soft", "hard", "both"."""
        await self._manage("create", alias=alias, name=name, command=command, args=args, parent=parent, start=start,
                           force=force)

    async def start(self, address: str) -> None:
        await self._manage("start", address=address)

    async def stop(self, address: str) -> None:
        await self._manage("stop", address=address)

    async def destroy(self, address: str, force: Optional[str] = None) -> None:
        """With all beneath it. Without force, one that runs is refused."""
        await self._manage("destroy", address=address, force=force)

    async def fail(self, address: str, code: str, message: str) -> None:
        await self._manage("fail", address=address, code=code, message=message)

    async def solve(self, address: str, failure: str, solution: str) -> None:
        """Solves the failure of that hash: "continue", "restart", "stop"."""
        await self._manage("solve", address=address, failure=failure, solution=solution)

    async def flush(self, force: Optional[str] = None) -> None:
        """Destroys all that this has created."""
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
        return (await self._manage("children", address=address))["children"]

    async def watch(self, address: str) -> None:
        """When it ends, `gone` is called, once."""
        await self._manage("watch", address=address)

    async def _manage(self, do: str, **members: Any) -> dict:
        return await self._channel.manage({"do": do, **{k: v for k, v in members.items() if v is not None}})


def _user(type: int) -> int:
    if not 0 <= type < TYPE_MAX:
        raise Error("invalid", "a message's type is at least 0 and below 0xffffff00")
    return type
