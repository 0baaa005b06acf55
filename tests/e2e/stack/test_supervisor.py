"""What the supervisor promises about any parts, shown with small ones in the test's own process."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING

import pytest

from reflux.cli.stack.child import Launch, base_environment, spawn
from reflux.cli.stack.errors import StartError
from reflux.cli.stack.logfiles import LogFiles
from reflux.cli.stack.part import Backoff, Once, Part, PartState, PartStatus
from reflux.cli.stack.supervisor import supervise
from tests.e2e.stack.running import alive, eventually

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Sequence
    from pathlib import Path

ANNOUNCES = "echo >&$READY; exec sleep 600"
SILENT = "exec sleep 600"
ENDS = "echo the reason; exit 3"


class Witness:
    """Writes down what happened, in order; `up` when everything is."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str]] = []
        self.pids: set[int] = set()
        self.up = asyncio.Event()

    def part_changed(self, status: PartStatus) -> None:
        if status.pid is not None:
            self.pids.add(status.pid)
        if not self.events or self.events[-1] != (status.name, status.state):
            self.events.append((status.name, status.state))

    def step_done(self, name: str, seconds: float) -> None:
        assert seconds >= 0
        self.events.append((name, "done"))

    def stack_up(self) -> None:
        self.up.set()


def shell(folder: Path, name: str, script: str, *, start: float = 20, stop: float = 20) -> Part:
    """A part that runs a shell script; `$READY` is the descriptor to announce itself on."""

    async def launch(ready_fd: int | None) -> subprocess.Popen[bytes]:
        env = base_environment() | {"READY": str(ready_fd)}
        fds = (ready_fd,) if ready_fd is not None else ()
        return spawn(Launch(("/bin/bash", "-c", script), folder / f"{name}.log", env, pass_fds=fds))

    return Part(name, launch, ready=None, start_seconds=start, stop_seconds=stop)


async def run_until_up(steps: Sequence[Part | Once], folder: Path) -> Witness:
    """Bring the steps up, then end them again; every wait is bounded."""
    witness = Witness()
    async with asyncio.timeout(60):
        stack = asyncio.ensure_future(supervise(steps, logs=LogFiles(folder), observer=witness))
        up = asyncio.ensure_future(witness.up.wait())
        await asyncio.wait((stack, up), return_when=asyncio.FIRST_COMPLETED)
        up.cancel()
        stack.cancel()
        try:
            await stack
        except asyncio.CancelledError:
            assert witness.up.is_set()
    assert not any(map(alive, witness.pids))
    return witness


async def test_each_step_waits_for_the_one_before_and_the_drain_runs_backwards(tmp_path: Path) -> None:
    """Forwards: ready, done, ready. Backwards: stopping, stopped, stopping, stopped."""

    async def work() -> None:
        await asyncio.sleep(0)

    steps = [
        shell(tmp_path, "store", ANNOUNCES),
        Once("migrations", work),
        shell(tmp_path, "service", ANNOUNCES),
    ]
    witness = await run_until_up(steps, tmp_path)
    assert witness.events == [
        ("store", PartState.STARTING),
        ("store", PartState.READY),
        ("migrations", "done"),
        ("service", PartState.STARTING),
        ("service", PartState.READY),
        ("service", PartState.STOPPING),
        ("service", PartState.STOPPED),
        ("store", PartState.STOPPING),
        ("store", PartState.STOPPED),
    ]


async def test_a_part_that_ends_at_its_start_is_named_and_the_rest_is_stopped(tmp_path: Path) -> None:
    """No retry while the stack comes up: a mistake should be seen. Its words are in its log."""
    steps = [shell(tmp_path, "store", ANNOUNCES), shell(tmp_path, "service", ENDS)]
    with pytest.raises(StartError, match="service ended at its start with status 3") as failure:
        await run_until_up(steps, tmp_path)
    assert failure.value.part == "service"
    assert LogFiles(tmp_path).tail("service", 1) == ["the reason"]


async def test_a_part_that_is_not_ready_in_time_is_named_and_ended(tmp_path: Path) -> None:
    """Every start has its bound."""
    with pytest.raises(StartError, match="service was not ready within 0 s"):
        await run_until_up([shell(tmp_path, "service", SILENT, start=0.2)], tmp_path)


async def test_a_program_that_does_not_exist_is_named(tmp_path: Path) -> None:
    """What the system says about it is passed on."""

    async def launch(_: int | None) -> subprocess.Popen[bytes]:
        return spawn(Launch(("/no/such/program",), tmp_path / "x.log"))

    with pytest.raises(StartError, match=r"x cannot be started: .*No such file"):
        await run_until_up([Part("x", launch, ready=None)], tmp_path)


async def test_a_step_that_fails_is_named_and_the_rest_is_stopped(tmp_path: Path) -> None:
    """The reason is shown, passwords in it are not."""

    async def work() -> None:
        raise ConnectionError("no answer from postgresql://u:hunter2@h/d")

    steps = [shell(tmp_path, "store", ANNOUNCES), Once("migrations", work)]
    with pytest.raises(StartError, match="migrations failed: no answer from") as failure:
        await run_until_up(steps, tmp_path)
    assert "hunter2" not in str(failure.value)


async def test_a_step_that_hangs_is_named(tmp_path: Path) -> None:
    """Every step has its bound."""

    async def work() -> None:
        await asyncio.sleep(600)

    with pytest.raises(StartError, match="migrations did not end within 0 s"):
        await run_until_up([Once("migrations", work, seconds=0.1)], tmp_path)


async def test_a_part_that_does_not_drain_in_time_is_killed_with_its_children(tmp_path: Path) -> None:
    """The bound of the drain is the part's own; then its whole group ends."""
    script = "trap '' TERM; sleep 600 & echo $!; echo >&$READY; while :; do wait; done"
    await run_until_up([shell(tmp_path, "service", script, stop=0.2)], tmp_path)
    child = int(LogFiles(tmp_path).tail("service", 1)[0])
    eventually(lambda: not alive(child), "the part's own child has ended")


async def test_a_crash_is_answered_while_other_parts_still_start(tmp_path: Path) -> None:
    """A part is under care from the moment it is ready, not from the end of the start."""
    witness = Witness()
    gate = asyncio.Event()
    steps = [shell(tmp_path, "store", ANNOUNCES), Once("waits", gate.wait)]
    stack = asyncio.ensure_future(
        supervise(steps, logs=LogFiles(tmp_path), observer=witness, backoff=Backoff(first=0.01))
    )
    try:
        async with asyncio.timeout(30):
            while ("store", PartState.READY) not in witness.events:
                await asyncio.sleep(0.01)
            os.kill(next(iter(witness.pids)), signal.SIGKILL)
            while witness.events.count(("store", PartState.READY)) < 2:
                await asyncio.sleep(0.01)
            gate.set()
            await witness.up.wait()
    finally:
        stack.cancel()
        await asyncio.wait((stack,))
    assert not any(map(alive, witness.pids))


async def test_children_are_refused_outside_the_main_thread(tmp_path: Path) -> None:
    """A child of a worker thread would be killed when that thread ends."""
    with pytest.raises(RuntimeError, match="main thread"):
        await asyncio.to_thread(spawn, Launch(("/bin/true",), tmp_path / "x.log"))


def test_the_delay_before_a_restart_doubles_up_to_its_bound() -> None:
    """From `first` to `most`, however many crashes there are."""
    backoff = Backoff(first=0.5, most=30)
    assert [backoff.delay(crashes) for crashes in (1, 2, 3, 7, 8, 10_000)] == [0.5, 1, 2, 30, 30, 30]


async def test_a_crash_after_a_stable_time_counts_as_the_first(tmp_path: Path) -> None:
    """Old crashes are forgiven: with no stable time needed, the delay never grows."""
    witness = Witness()
    backoff = Backoff(first=0.01, most=600, stable=0)
    steps = [shell(tmp_path, "store", ANNOUNCES)]
    stack = asyncio.ensure_future(
        supervise(steps, logs=LogFiles(tmp_path), observer=witness, backoff=backoff)
    )
    try:
        async with asyncio.timeout(60):
            await witness.up.wait()
            for crashes in range(1, 18):  # doubling would end at 655 s
                pid = max(witness.pids, key=lambda pid: (alive(pid), pid))
                os.kill(pid, signal.SIGKILL)
                while witness.events.count(("store", PartState.READY)) <= crashes:
                    await asyncio.sleep(0.005)
    finally:
        stack.cancel()
        await asyncio.wait((stack,))
