"""Virtual time, and event loops that live in it.

A `World` is one heap of things that will happen, at a time and in an order that the seed decides among those
of the same time. Nothing waits: time jumps to whatever comes next. A `ProcessLoop` is the asyncio loop of one
process in it: the production code runs on it unchanged, with its own monotonic clock, and each process can
be paused (SIGSTOP: nothing of it runs, what arrives waits in its sockets) or killed (what it had in mind is
gone, what it has sent is not).

Within one process callbacks run in the order in which they were called soon, as asyncio promises; between
processes the seed decides. `ProcessLoop` is what the production code uses of an event loop and no more:
anything else fails loudly.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from heapq import heappop, heappush
from random import Random
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

MOST_EVENTS: Final = 20_000
"""Of one world, which has some hundreds; a queue of ten runs has ten thousand."""
MOST_AT_ONCE: Final = 100_000
"""Callbacks of one process without any time between them."""

_LATELY: Final = 1.0
"""Seconds in which a process has done what it has just decided."""

EPOCH: Final = datetime(2026, 3, 1, tzinfo=UTC)
"""The database's time when a world begins."""

_set_running = asyncio._set_running_loop


class Entry:
    """Something that will happen, unless it is cancelled. Also asyncio's `TimerHandle` and `Handle`."""

    __slots__ = ("args", "at", "callback", "loop")

    def __init__(
        self, at: float, loop: ProcessLoop | None, callback: Callable[..., object], args: Any
    ) -> None:
        self.at = at
        self.loop = loop
        self.callback: Callable[..., object] | None = callback
        self.args = args

    def cancel(self) -> None:
        self.callback = None
        self.args = ()

    def cancelled(self) -> bool:
        return self.callback is None

    def when(self) -> float:
        return self.at + (self.loop.offset if self.loop else 0.0)


class World:
    """The only thing that moves: `run` takes what comes next until nobody wants more."""

    def __init__(self, seed: int | str, *, traced: bool = False) -> None:
        self.rng = Random(seed)
        self._random = self.rng.random
        self.now = 0.0
        self.events = 0
        self.problems: list[str] = []
        """What no process may ever do, such as a callback that raises."""
        self.trace: list[str] | None = [] if traced else None
        self._heap: list[tuple[float, float, Entry]] = []
        """Time, and a number that the seed draws: the order among those of the same time."""

    def time(self) -> datetime:
        """What the database's clock shows."""
        return EPOCH + timedelta(seconds=self.now)

    def after(
        self, seconds: float, callback: Callable[..., object], *args: Any, loop: ProcessLoop | None = None
    ) -> Entry:
        """Has something happen, in a process or nowhere in particular."""
        at = self.now + seconds if seconds > 0.0 else self.now
        entry = Entry(at, loop, callback, args)
        heappush(self._heap, (at, self._random(), entry))
        return entry

    def note(self, kind: str, *facts: object) -> None:
        """One line of the trace."""
        if self.trace is not None:
            self.trace.append(f"{self.now:10.4f} {kind} {' '.join(map(str, facts))}")

    def run(self, done: Callable[[], bool], until: float) -> bool:
        """Whether `done` came true before the time `until`."""
        heap = self._heap
        while heap:
            at, place, entry = heappop(heap)
            callback = entry.callback
            if callback is None:
                continue
            loop = entry.loop
            if at > self.now:
                if at > until:
                    heappush(heap, (at, place, entry))  # the world may go on
                    return False
                self.now = at
            self.events += 1
            if self.events > MOST_EVENTS:
                self.problems.append(f"more than {MOST_EVENTS} events: somebody goes round in circles")
                return False
            if loop is None:
                callback(*entry.args)
                if done():
                    return True
            elif loop.paused:
                loop.missed.append((at, place, entry))
            elif not loop.dead:
                loop.execute(callback, *entry.args)
        return done()

    def resume(self, loop: ProcessLoop) -> None:
        """Everything that a paused process has missed happens to it now, in order."""
        loop.paused = False
        loop.is_late(0.0)
        for missed in loop.missed:
            heappush(self._heap, missed)
        loop.missed.clear()


class ProcessLoop(asyncio.AbstractEventLoop):
    """The event loop of one life of one process."""

    def __init__(self, world: World, name: str, offset: float) -> None:
        """`offset`: what its monotonic clock is ahead of the world."""
        self.world = world
        self.name = name
        self.offset = offset
        self.paused = False
        self.stops = 0
        """How often it was paused."""
        self.late_until = 0.0
        """What it does before that may follow from what it knew before a pause or a slow statement."""
        self.dead = False
        self.missed: list[tuple[float, float, Entry]] = []
        self.tasks: set[asyncio.Task[Any]] = set()
        self._soon: deque[Entry] = deque()

    def execute(self, callback: Callable[..., object], *args: Any) -> None:
        """Runs a callback, and everything that follows from it at once."""
        soon = self._soon
        _set_running(self)
        try:
            callback(*args)
            for _ in range(MOST_AT_ONCE):
                if not soon or self.dead:
                    return
                entry = soon.popleft()
                if entry.callback is not None:
                    entry.callback(*entry.args)
            raise RuntimeError(f"{self.name} goes round in circles and lets no time pass")
        finally:
            _set_running(None)

    def is_late(self, seconds: float) -> None:
        """Something that it waits for comes so much later than usual."""
        self.late_until = max(self.late_until, self.world.now + seconds + _LATELY)

    def kill(self) -> None:
        """SIGKILL. No `finally` of the process is seen by the world: it is dead to everybody."""
        self.dead = True
        self._soon.clear()
        self.missed.clear()

    def bury(self) -> None:
        """Unwinds what is left of a dead process, so that the next seed finds nothing of it."""
        self.dead = True
        _set_running(self)
        try:
            for task in list(self.tasks):
                task._log_destroy_pending = False  # type: ignore[attr-defined]
                with suppress(BaseException):
                    task.get_coro().close()  # type: ignore[union-attr]
        finally:
            _set_running(None)
        self.tasks.clear()
        self._soon.clear()
        self.missed.clear()

    # What asyncio asks of a loop.

    def time(self) -> float:
        return self.world.now + self.offset

    def call_soon(self, callback: Callable[..., object], *args: Any, context: Any = None) -> Any:
        entry = Entry(0.0, self, callback, args)
        if not self.dead:
            self._soon.append(entry)
        return entry

    def call_later(
        self, delay: float, callback: Callable[..., object], *args: Any, context: Any = None
    ) -> Any:
        return self.world.after(delay, callback, *args, loop=self)

    def call_at(self, when: float, callback: Callable[..., object], *args: Any, context: Any = None) -> Any:
        return self.world.after(when - self.offset - self.world.now, callback, *args, loop=self)

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(
        self, coro: Coroutine[Any, Any, Any], *, name: str | None = None, context: Any = None
    ) -> Any:
        task = asyncio.Task(coro, loop=self, name=name or "task")
        if self.dead:
            task.cancel()
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    def create_task_of(self, make: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        """Begins a task here: for what arrives from outside."""
        self.create_task(make())

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if not self.dead:
            self.world.problems.append(f"{self.name}: {context.get('message')}: {context.get('exception')!r}")

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False
