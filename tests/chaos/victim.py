"""Orchestrators that die, or stop, at a chosen point of their work.

A process of its own that imports everything once and then forks an orchestrator whenever it is told to, which
is up within a fraction of a second. Orders come as lines of JSON on its standard input:

    {"settings": {…}, "log": path, "point": "journal:after", "number": 3, "signal": 9}

Each is answered with the pid of the new orchestrator. The production code runs unchanged; around the acts
that leave a trace outside of the process a **point** is passed, before and after each:

    start     the statement that begins runs
    journal   the statement that records events
    claim     a node's claim, from when it arrives until its answer is sent
    call      the call of a node, from when it is sent until its answer is there

Every point that is passed is written to `<log>.points`, so that a run without a death says which points there
are. At its own point, when it passes it for the `number`th time, the orchestrator sends itself the signal.
"""

import asyncio
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from reflux.orchestrator import __main__ as orchestrator
from reflux.orchestrator.caller import NodeCaller
from reflux.orchestrator.effect_servicer import EffectServicer
from reflux.orchestrator.store.journal import Writer
from reflux.orchestrator.store.start import Starter
from reflux.runtime.settings import Settings


class Points:
    """What was passed, and where to end."""

    def __init__(self, log: str, point: str, number: int, signal_number: int) -> None:
        self._passed: Counter[str] = Counter()
        self._log = os.open(f"{log}.points", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._last = (point, number)
        self._signal = signal_number

    def here(self, point: str) -> None:
        """The process is at this point now."""
        self._passed[point] += 1
        os.write(self._log, f"{point}\n".encode())
        if (point, self._passed[point]) == self._last:
            os.kill(os.getpid(), self._signal)

    def around(self, name: str, act: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        """`act` between two points."""

        async def passed(*arguments: Any, **named: Any) -> Any:
            self.here(f"{name}:before")
            answer = await act(*arguments, **named)
            self.here(f"{name}:after")
            return answer

        return passed


def install(points: Points) -> None:
    """Puts the points into this process."""
    EffectServicer.ClaimEffect = points.around("claim", EffectServicer.ClaimEffect)  # type: ignore[method-assign]
    NodeCaller.call = points.around("call", NodeCaller.call)  # type: ignore[method-assign]
    for owner, name in ((Writer, "journal"), (Starter, "start")):
        _around_lane(points, owner, name)


def _around_lane(points: Points, owner: type[Writer] | type[Starter], name: str) -> None:
    """The statement of a lane is a value that the lane is made with."""
    make = owner.__init__

    def made(self: Any, *arguments: Any, **named: Any) -> None:
        make(self, *arguments, **named)
        self._lane._write = points.around(name, self._lane._write)

    owner.__init__ = made  # type: ignore[assignment,method-assign]


def _become(order: dict[str, Any]) -> None:
    """An orchestrator, in a child that has just been forked; never returns."""
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for descriptor in (1, 2):
        os.dup2(log, descriptor)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    install(Points(order["log"], order.get("point", ""), order.get("number", 0), order.get("signal", 0)))
    status = 1
    try:
        asyncio.run(orchestrator.serve(Settings.load(**order["settings"])))
        status = 0
    finally:
        os._exit(status)


def main() -> None:
    """Forks until its input ends, then ends what it has forked."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the dead are buried at once: a pid that is gone is dead
    children = []
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            _become(json.loads(line))
        children.append(pid)
        print(pid, flush=True)
    for pid in children:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


if __name__ == "__main__":
    main()
