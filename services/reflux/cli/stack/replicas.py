"""Several processes of one node version under care: as many as are wanted at the moment.

The first ones are part of the start of the stack and must succeed, as any part must. Later ones come and go
while everything else runs: a new one that cannot be started is tried again after a growing delay, one too
many is drained like any other part (it leaves the mesh first, then finishes its calls) and is gone for others
to see. The last started is the first to leave.

The drain of the stack ends all of them side by side: they are independent, and one after the other they could
take longer than anybody waits. One that drains already is not asked again, which would end it at once.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from reflux.cli.stack.errors import StartError
from reflux.cli.stack.keeper import Keeper
from reflux.runtime.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from reflux.cli.stack.logfiles import LogFiles
    from reflux.cli.stack.part import Backoff, Observer, Part

_LOOK_SECONDS: Final = 0.25

log = get_logger("supervisor")


@dataclass(frozen=True, slots=True)
class Replicas:
    """A step of the plan.

    Attributes:
        name: of the first part.
        part: makes the part of process number 1, 2, …
        wanted: how many there shall be now, 1 or more.
    """

    name: str
    part: Callable[[int], Part]
    wanted: Callable[[], int]


class ReplicaKeeper:
    """Keeps as many processes as are wanted; has the faces of a `Keeper`."""

    def __init__(self, replicas: Replicas, backoff: Backoff, observer: Observer, logs: LogFiles) -> None:
        self._replicas = replicas
        self._backoff = backoff
        self._observer = observer
        self._logs = logs
        self._keepers: list[Keeper] = []
        self._lives: list[asyncio.Task[None]] = []
        """Of the first keepers: those whose process is kept alive."""
        self._leaving: set[asyncio.Task[None]] = set()

    async def bring_up(self) -> None:
        """Start what is wanted, one after the other.

        Raises:
            StartError: one did not start; the caller stops the others.
        """
        for _ in range(self._replicas.wanted()):
            await self._next().bring_up()

    async def keep(self) -> None:
        """Keep each alive, and as many as are wanted; runs until cancelled."""
        failures = 0
        async with asyncio.TaskGroup() as group:
            for keeper in self._keepers:
                self._lives.append(group.create_task(keeper.keep()))
            while True:
                await asyncio.sleep(_LOOK_SECONDS)
                wanted = self._replicas.wanted()
                while len(self._keepers) > wanted:
                    self._let_go()
                # A place is taken anew only when who had it is gone.
                if len(self._keepers) < wanted and not self._leaving:
                    if await self._add(group):
                        failures = 0
                        continue
                    failures += 1
                    await asyncio.sleep(self._backoff.delay(failures))

    async def stop(self) -> None:
        """Drain and end all of them, within the bound of one."""
        async with asyncio.TaskGroup() as group:
            for keeper in self._keepers:
                group.create_task(keeper.stop())
        if self._leaving:
            await asyncio.wait(self._leaving)

    def _next(self) -> Keeper:
        part = self._replicas.part(len(self._keepers) + 1)
        self._logs.rotate(part.name)
        keeper = Keeper(part, self._backoff, self._observer)
        self._keepers.append(keeper)
        return keeper

    async def _add(self, group: asyncio.TaskGroup) -> bool:
        keeper = self._next()
        try:
            await keeper.bring_up()
        except StartError as error:
            log.warning("part_not_added", part=keeper.part.name, error=str(error))
            self._keepers.remove(keeper)
            keeper.forget()
            return False
        log.info("part_added", part=keeper.part.name, pid=keeper.status.pid)
        self._lives.append(group.create_task(keeper.keep()))
        return True

    def _let_go(self) -> None:
        """Drain the last one, beside everything else."""
        keeper, life = self._keepers.pop(), self._lives.pop()
        life.cancel()
        leaving = asyncio.ensure_future(_left(keeper, life))
        self._leaving.add(leaving)
        leaving.add_done_callback(self._leaving.discard)


async def _left(keeper: Keeper, life: asyncio.Task[None]) -> None:
    await asyncio.wait((life,))
    await keeper.stop()
    keeper.forget()
    log.info("part_removed", part=keeper.part.name)
