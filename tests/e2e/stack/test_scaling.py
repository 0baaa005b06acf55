"""What the supervisor promises about several processes of one version, shown with small ones."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from reflux.cli.stack.folder import StackState
from reflux.cli.stack.logfiles import LogFiles
from reflux.cli.stack.part import Backoff, Part, PartState, PartStatus
from reflux.cli.stack.replicas import Replicas
from reflux.cli.stack.run import _with
from reflux.cli.stack.scale import Wanted, check, part_name, version_of
from reflux.cli.stack.supervisor import supervise
from tests.e2e.stack.running import alive
from tests.e2e.stack.test_supervisor import ANNOUNCES, ENDS, shell

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

VERSION = "http.request@1.0.0"
BRIEF = "echo >&$READY; sleep 0.2; [ $READY ] && exit 1"
SLOW_DRAIN = "trap 'sleep 0.6; exit 0' TERM; echo >&$READY; while :; do sleep 0.05; done"


@dataclass
class World:
    """What runs now, and what happened to it."""

    wanted: int = 1
    state: StackState = field(default_factory=lambda: StackState(1, {}, {}))
    pids: set[int] = field(default_factory=set)
    signalled: list[str] = field(default_factory=list)
    up: asyncio.Event = field(default_factory=asyncio.Event)

    def part_changed(self, status: PartStatus) -> None:
        if status.pid:
            self.pids.add(status.pid)
        if status.state is PartState.STOPPING:
            self.signalled.append(status.name)
        self.state = _with(self.state, status)

    def step_done(self, name: str, seconds: float) -> None: ...

    def stack_up(self) -> None:
        self.up.set()

    def ready(self) -> list[str]:
        """Names of the parts that are ready, when none is in any other state."""
        parts = self.state.parts.values()
        return [each.name for each in parts] if all(each.state is PartState.READY for each in parts) else []

    async def until(self, check: Callable[[], bool]) -> None:
        async with asyncio.timeout(30):
            while not check():
                await asyncio.sleep(0.02)


async def supervised(world: World, folder: Path, make: Callable[[int], Part]) -> asyncio.Future[None]:
    """The supervisor over one version, up."""
    steps = [Replicas(part_name(VERSION, 1), make, lambda: world.wanted)]
    logs = LogFiles(folder)
    stack = asyncio.ensure_future(
        supervise(steps, logs=logs, observer=world, backoff=Backoff(first=0.05, most=0.1))
    )
    up = asyncio.ensure_future(world.up.wait())
    await asyncio.wait((stack, up), return_when=asyncio.FIRST_COMPLETED, timeout=30)
    assert world.up.is_set()
    return stack


async def end(world: World, stack: asyncio.Future[None]) -> None:
    """The drain of the stack; nothing is left."""
    stack.cancel()
    await asyncio.wait((stack,), timeout=30)
    assert stack.cancelled()
    assert not any(map(alive, world.pids))


def maker(folder: Path, script: str = ANNOUNCES) -> Callable[[int], Part]:
    return lambda number: shell(folder, part_name(VERSION, number), script)


async def test_as_many_run_as_are_wanted_and_the_last_leaves_first(tmp_path: Path) -> None:
    """Up and down while it runs; those that stay are the same processes; who left is not shown any more."""
    world = World(wanted=2)
    stack = await supervised(world, tmp_path, maker(tmp_path))
    one, two, three = (part_name(VERSION, number) for number in (1, 2, 3))
    assert world.ready() == [one, two]
    pids = {name: world.state.parts[name].pid for name in (one, two)}
    world.wanted = 3
    await world.until(lambda: world.ready() == [one, two, three])
    world.wanted = 1
    await world.until(lambda: world.ready() == [one])
    assert world.signalled == [three, two]
    assert world.state.parts[one].pid == pids[one]
    await end(world, stack)


async def test_each_of_them_is_started_again_when_it_dies(tmp_path: Path) -> None:
    """Every process is kept alive by itself."""
    world = World(wanted=2)
    stack = await supervised(world, tmp_path, maker(tmp_path, BRIEF))
    second = part_name(VERSION, 2)
    await world.until(lambda: world.state.parts[second].restarts >= 2)
    await end(world, stack)


async def test_one_that_cannot_be_added_is_tried_again_and_harms_nobody(tmp_path: Path) -> None:
    """The others go on; the number that is wanted is reached when it can be."""
    broken = True

    def make(number: int) -> Part:
        return shell(tmp_path, part_name(VERSION, number), ENDS if broken and number > 1 else ANNOUNCES)

    world = World()
    stack = await supervised(world, tmp_path, make)
    first = world.state.parts[part_name(VERSION, 1)].pid
    world.wanted = 2
    second = LogFiles(tmp_path)
    await world.until(lambda: len(second.tail(part_name(VERSION, 2), 9)) >= 2)
    broken = False
    await world.until(lambda: len(world.ready()) == 2)
    assert world.state.parts[part_name(VERSION, 1)].pid == first
    await end(world, stack)


async def test_a_place_is_taken_anew_only_when_who_had_it_is_gone(tmp_path: Path) -> None:
    """Down and up again while one drains: the drain is finished, then another process takes the place."""
    world = World(wanted=2)
    stack = await supervised(world, tmp_path, maker(tmp_path, SLOW_DRAIN))
    second = part_name(VERSION, 2)
    former = world.state.parts[second].pid
    world.wanted = 1
    await world.until(lambda: world.signalled == [second])
    world.wanted = 2
    await world.until(lambda: len(world.ready()) == 2)
    assert world.state.parts[second].pid != former
    assert world.signalled == [second]
    await end(world, stack)


async def test_the_drain_of_the_stack_does_not_ask_a_draining_one_again(tmp_path: Path) -> None:
    """A second signal ends a process at once, and its calls with it."""
    world = World(wanted=2)
    stack = await supervised(world, tmp_path, maker(tmp_path, SLOW_DRAIN))
    world.wanted = 1
    await world.until(lambda: world.signalled == [part_name(VERSION, 2)])
    await end(world, stack)
    assert world.signalled == [part_name(VERSION, 2), part_name(VERSION, 1)]


def test_the_number_outlives_the_stack(tmp_path: Path) -> None:
    """It is a file of the data folder; without it there is one process, and nonsense changes nothing."""
    wanted = Wanted.of(tmp_path, VERSION)
    assert wanted.read() == 1
    wanted.write(3)
    assert Wanted.of(tmp_path, VERSION).read() == 3
    assert wanted.read() == 3
    for nonsense in ("0", "65", "many", ""):
        wanted.file.write_text(nonsense)
        assert wanted.read() == 3
    wanted.file.unlink()
    assert wanted.read() == 1


@pytest.mark.parametrize("count", [-1, 0, 65])
def test_only_so_many_processes_can_be_asked_for(count: int) -> None:
    """A version without a process would fail its calls: that is what routes are for."""
    with pytest.raises(ValueError, match="not a number of processes from 1 to 64"):
        check(count)


@pytest.mark.parametrize("version", ["http.request@1.0.0", "ai.chat@openai", "a.b@1.0.0-rc.1"])
def test_the_name_of_a_part_tells_its_version(version: str) -> None:
    """Of every process; other parts have none."""
    assert {version_of(part_name(version, number)) for number in (1, 2, 12)} == {version}
    assert version_of("nodes") is None


def test_the_address_of_its_metrics_is_told_and_forgotten() -> None:
    """`urls` of run/stack.json has those that run."""
    name = part_name(VERSION, 2)
    status = PartStatus(name, PartState.READY, 1, metrics="http://127.0.0.1:9/metrics")
    state = _with(StackState(1, {"edge": "http://127.0.0.1:1"}, {}), status)
    assert state.urls == {"edge": "http://127.0.0.1:1", f"metrics.{name}": "http://127.0.0.1:9/metrics"}
    gone = _with(state, PartStatus(name, PartState.GONE, metrics="http://127.0.0.1:9/metrics"))
    assert (gone.urls, gone.parts) == ({"edge": "http://127.0.0.1:1"}, {})
