# SPDX-License-Identifier: MIT
"""What follows when a container within the process fails: the rules of C (docs/supervision.md), decided by the one
above it."""
import asyncio
import collections
import random
from typing import Any, Awaitable, Callable, Deque, List, Optional

from .frames import Error

MAX_RESTARTS, PERIOD = 10, 60000  # as struct davit_options; times in milliseconds
BACKOFF = {"initial": 100, "max": 30000, "factor": 2, "jitter": 0.1, "reset": 60000}  # as struct davit_backoff

WORDS = {"overflow": ("fail", "drop-newest", "drop-oldest", "block"), "restart": ("always", "on-failure", "never"),
         "strategy": ("one-for-one", "one-for-all", "rest-for-one", "simple-one-for-one")}
FLAGS = ("keep_nothing", "significant", "auto_shutdown", "isolate")
NUMBERS = {"limit": 0, "block_time": 0, "retries": -1, "max_restarts": -1, "period": 0, "shutdown_time": 0,
           "keepalive": -1}  # the least that each may be


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _check_backoff(backoff: Any) -> None:
    if not isinstance(backoff, dict):
        raise Error("invalid", "option backoff is not an object")
    for key, value in backoff.items():
        if key not in BACKOFF:
            raise Error("invalid", "option backoff has no %s" % key)
        if not _is_number(value) or value < 0 or not value < float("inf"):
            raise Error("invalid", "option backoff.%s is not a number of at least 0" % key)


def check(options: dict) -> None:
    """Raises Error for what is no option, or cannot be one."""
    for key, value in options.items():
        if key in WORDS:
            well, what = value in WORDS[key], "one of " + ", ".join(WORDS[key])
        elif key in FLAGS:
            well, what = isinstance(value, bool), "true or false"
        elif key in NUMBERS:
            well = isinstance(value, int) and not isinstance(value, bool) and value >= NUMBERS[key]
            what = "a whole number of at least %d" % NUMBERS[key]
        elif key == "backoff":
            _check_backoff(value)
            continue
        else:
            raise Error("invalid", "there is no option %s" % key)
        if not well:
            raise Error("invalid", "option %s is not %s" % (key, what))
    if options.get("significant") and options.get("restart", "always") == "always" and options.get("retries", -1) < 0:
        raise Error("invalid", "a significant container that is always restarted never ends")


def delay(backoff: Optional[dict], attempt: int, chance: float) -> float:
    """Milliseconds before restart number `attempt`, from 0; chance is from 0 to 1. Without a backoff: at once."""
    if backoff is None:
        return 0
    b = {**BACKOFF, **backoff}
    try:
        time = min(b["initial"] * float(max(b["factor"], 1)) ** attempt, b["max"])
    except OverflowError:
        time = b["max"] if b["initial"] else 0
    return time - time * min(b["jitter"], 1) * chance


class Standing:
    """How one stands with the one above it."""
    _last = 0

    def __init__(self) -> None:
        Standing._last += 1
        self.order = Standing._last  # of its creation
        self.wanted = False  # somebody has started it, and not stopped
        self.left = False  # it has failed, and is left so
        self.ran = False  # since then
        self.tries = 0  # restarts since somebody has started it
        self.attempt = 0  # failures in a row, for the backoff
        self.since = float("inf")  # when it began to run
        self.timer: Optional[asyncio.TimerHandle] = None  # its backoff

    def afresh(self) -> None:
        self.wanted, self.left, self.ran = True, False, False
        self.tries = self.attempt = 0
        self.rest()

    def started(self, now: float) -> None:
        self.ran, self.since = True, now

    def told(self, what: str) -> None:
        """Somebody's word holds against the supervisor's."""
        if what in ("start", "restart"):
            self.afresh()
        elif what == "continue":
            self.wanted, self.left = True, False
            self.rest()
        elif what == "stop":
            self.wanted = False
            self.rest()

    def rest(self) -> None:
        if self.timer:
            self.timer.cancel()
        self.timer = None


class Supervisor:
    """Of those below one, whose life that is."""

    def __init__(self, life: Any) -> None:
        self._life = life
        self._recent: Deque[float] = collections.deque()  # when they were restarted
        self._given_up = False  # the one above fails for it, and all are started when it is again
        self._turn = asyncio.Lock()  # one stops and starts several at a time
        # A group that is to be restarted:
        self._asked = False
        self._first = float("inf")  # the order of its first
        self._due = 0.0
        self._hurry = asyncio.Event()

    @property
    def _options(self) -> dict:
        return self._life.container.options

    @property
    def _each_alone(self) -> bool:
        return self._options.get("strategy", "one-for-one") in ("one-for-one", "simple-one-for-one")

    def may_have(self, cls: type) -> bool:
        """By simple-one-for-one all are of one class."""
        return self._options.get("strategy") != "simple-one-for-one" or all(
            type(life.container) is cls for life in self._life.below.values())

    def _now(self) -> float:
        return self._life.channel.loop.time()

    def _beside(self, work: Callable[..., Awaitable], *args: Any) -> None:
        async def in_turn() -> None:
            async with self._turn:
                await work(*args)
        self._life.channel.run_beside(in_turn())

    # --- what has happened ---

    def child_failed(self, child: Any) -> None:
        standing, options, now = child.standing, child.container.options, self._now()
        backoff = options.get("backoff")
        if now - standing.since >= {**BACKOFF, **(backoff or {})}["reset"] / 1000:
            standing.attempt = 0
        standing.since = float("inf")
        if not standing.wanted or child.over:
            return
        if options.get("restart") == "never":
            self._leave(child)
        elif self._given_up:
            pass  # it is started with the others
        elif 0 <= options.get("retries", -1) <= standing.tries:
            if self._options.get("isolate"):
                self._leave(child)
            else:
                self._give_up("escalation", child)
        elif self._too_many(now):
            self._give_up("intensity", child)
        else:
            time = delay(backoff, standing.attempt, random.random()) / 1000
            standing.tries += 1
            standing.attempt += 1
            child.restarts += 1
            self._restart(child, time)

    def above_started(self) -> None:
        if self._given_up:
            self._beside(self._relaunch)

    def abort(self) -> None:
        """No group is restarted any more."""
        self._asked, self._first, self._due = False, float("inf"), 0.0
        self._hurry.set()

    # --- what follows ---

    def _too_many(self, now: float) -> bool:
        most = self._options.get("max_restarts") or MAX_RESTARTS
        period = (self._options.get("period") or PERIOD) / 1000
        while self._recent and now - self._recent[0] >= period:
            self._recent.popleft()
        if 0 <= most <= len(self._recent):
            return True
        if most > 0:
            self._recent.append(now)
        return False

    def _leave(self, child: Any) -> None:
        """It stays failed: it is done."""
        child.standing.left = True
        if child.container.options.get("significant") and self._options.get("auto_shutdown"):
            self._beside(self._shut_down)

    async def _shut_down(self) -> None:
        await self._quell()
        self._life.stop_itself()

    def _give_up(self, rule: str, child: Any) -> None:
        self._given_up = True
        self.abort()
        error = Error("unavailable", "its children fail: %s, by %s" % (rule, child.alias))
        self._beside(self._fail, error)

    async def _fail(self, error: Error) -> None:
        await self._quell()
        self._life.fail_beside(error)

    async def _relaunch(self) -> None:
        if self._given_up and self._life.state == "started":
            self._given_up = False
            self._afresh()
            await self._rise()

    def _afresh(self) -> None:
        self._recent.clear()
        for life in self._life.below.values():
            if life.standing.wanted:
                life.standing.afresh()
            life.brood._given_up = False
            life.brood._afresh()

    def _restart(self, child: Any, time: float) -> None:
        if self._each_alone:
            child.standing.timer = self._life.channel.loop.call_later(time, self._beside, self._start, child)
            return
        first = 0 if self._options["strategy"] == "one-for-all" else child.standing.order
        self._first = min(self._first, first)
        self._due = max(self._due, self._now() + time)
        if not self._asked:
            self._asked = True
            self._hurry.clear()
            self._beside(self._restart_group)

    async def _restart_group(self) -> None:
        """Stops those concerned, waits for the backoff, starts them; the group may grow meanwhile."""
        while self._asked:
            first = self._first
            await self._quell(first)
            await self._wait(self._due - self._now())
            if first == self._first and self._due <= self._now():
                self._asked, self._due = False, 0.0
                await self._rise(first)
                if not self._asked:
                    self._first = float("inf")

    async def _wait(self, time: float) -> None:
        try:
            await asyncio.wait_for(self._hurry.wait(), max(time, 0))
        except asyncio.TimeoutError:
            pass

    # --- several ---

    def _those(self, first: float = 0) -> List[Any]:
        return [life for life in self._life.below.values() if life.standing.order >= first]

    async def _quell(self, first: float = 0) -> None:
        """Stops them, with all beneath: the last and deepest first, one after the other, or under one-for-one all
        at once."""
        async def stop(life: Any) -> None:
            life.standing.rest()
            await life.brood._hush()
            if life.state == "started":
                await _quietly(life.ask("stop"))
        those = self._those(first)[::-1]
        if self._each_alone:
            await asyncio.gather(*(stop(life) for life in those))
        else:
            for life in those:
                await stop(life)

    async def _hush(self) -> None:
        """For the sake of others: what is under way here is over first."""
        self.abort()
        async with self._turn:
            await self._quell()

    async def _rise(self, first: float = 0) -> None:
        """Starts them again, with all beneath; but what was stopped by others, or was left as it is, stays so."""
        for life in self._those(first):
            await self._start(life)
            if life.state == "started":
                await life.brood._rise()

    async def _start(self, life: Any) -> None:
        standing, never = life.standing, life.container.options.get("restart") == "never"
        standing.rest()
        if standing.wanted and not standing.left and not self._given_up and (
                life.state == "failed" or life.state == "stopped" and (not never or not standing.ran)):
            await _quietly(life.ask("start", fresh=True))


async def _quietly(work: Awaitable) -> None:
    try:
        await work
    except Error:
        pass  # it has failed again, which is decided about by itself, or has ended meanwhile
