"""Plays many scenarios, a few at a time, each over a database and a mesh of its own."""

import asyncio
import os
import random
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.corpus import Case
from tests.chaos.crashing import Moment, Nursery, Scenario, Verdict, world
from tests.support.ledger import Ledger
from tests.support.orchestrators import store_settings
from tests.support.scripted_mesh import running_mesh

AT_ONCE = 10
"""Scenarios mostly wait: for a lease, for a process to come up."""
SAMPLE = 3
"""Moments of a case that are tried, unless all are."""

Databases = Callable[[], AbstractContextManager[str]]
"""Gives the DSN of a fresh, migrated database."""
Sweep = dict[tuple[str, Moment], Verdict]
"""By the name of the case and the moment."""


def chosen(moments: Sequence[Moment], seed: str) -> Sequence[Moment]:
    """All moments with TEST_CHAOS=all; else a sample in which each kind of point comes as often as it can."""
    if os.environ.get("TEST_CHAOS") == "all":
        return moments
    draw = random.Random(seed)
    kinds = {moment.point for moment in moments}
    piles = [[moment for moment in moments if moment.point == kind] for kind in sorted(kinds)]
    for pile in piles:
        draw.shuffle(pile)
    dealt = [pile[place] for place in range(len(moments)) for pile in piles if place < len(pile)]
    return dealt[:SAMPLE]


@dataclass(frozen=True, slots=True)
class Arena:
    """What scenarios need."""

    forks: Nursery
    databases: Databases
    valkey_url: str
    ledger: Ledger
    folder: Path

    async def sweep(self, cases: Sequence[Case], signal_number: signal.Signals) -> Sweep:
        """The verdict on each chosen moment of each case."""
        gate = asyncio.Semaphore(AT_ONCE)

        async def moments(case: Case) -> Sequence[Moment]:
            async with gate, self._scenario(case) as scenario:
                return chosen(await scenario.points(), f"{case.name} {signal_number.name}")

        async def play(case: Case, moment: Moment) -> Verdict:
            async with gate, self._scenario(case) as scenario:
                return await scenario.play(moment, signal_number, self.ledger)

        found = await asyncio.gather(*map(moments, cases))
        plays = [(case, moment) for case, some in zip(cases, found, strict=True) for moment in some]
        verdicts = await asyncio.gather(*(play(*one) for one in plays))
        return {(case.name, moment): verdict for (case, moment), verdict in zip(plays, verdicts, strict=True)}

    @asynccontextmanager
    async def _scenario(self, case: Case) -> AsyncIterator[Scenario]:
        async with _aside(self.databases()) as dsn, running_mesh() as mesh, world(self.ledger, mesh):
            settings = store_settings(dsn, self.valkey_url, mesh.address)
            yield Scenario(self.forks, settings, self.folder, case)


@asynccontextmanager
async def _aside(database: AbstractContextManager[str]) -> AsyncIterator[str]:
    """The database, made and dropped in other threads.

    Dropping one waits for all who are just connecting to any, and a process that is stopped in the midst of
    that goes on only when the loop, which plays the nodes of every scenario too, lets it go.
    """
    dsn = await asyncio.to_thread(database.__enter__)
    try:
        yield dsn
    finally:
        await asyncio.to_thread(database.__exit__, None, None, None)
