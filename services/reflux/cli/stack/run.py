"""Running a plan: supervise it, and let others see what runs (`run/stack.json`)."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from reflux.cli.stack.errors import StackNotRunningError
from reflux.cli.stack.folder import StackState
from reflux.cli.stack.part import PartState
from reflux.cli.stack.supervisor import supervise
from reflux.runtime.logs import get_logger
from reflux.runtime.process import cancel_on_signal

if TYPE_CHECKING:
    from reflux.cli.stack.folder import DataFolder
    from reflux.cli.stack.part import Backoff, Observer, PartStatus
    from reflux.cli.stack.plan import Plan

_STOP_SECONDS: Final = 120.0

log = get_logger("supervisor")


def run_until_signal(
    plan: Plan, folder: DataFolder, observer: Observer, *, backoff: Backoff | None = None
) -> None:
    """Run `plan` on the held `folder` until SIGINT or SIGTERM, then drain it; a second one ends it at once.

    Runs on asyncio's own loop in the calling thread, which must be the main one: children hang on it.

    Raises:
        StartError: a step failed; everything is stopped again.
    """

    async def life() -> None:
        recorder = _Recorder(folder, StackState(os.getpid(), plan.urls, plan.ports), observer)
        stack = asyncio.ensure_future(
            supervise(plan.steps, logs=folder.logs, observer=recorder, backoff=backoff)
        )
        with cancel_on_signal(stack):
            await asyncio.wait((stack,))
        if not stack.cancelled():
            stack.result()

    asyncio.run(life())


def stop_stack(folder: DataFolder) -> int:
    """Ask the running stack to drain, wait for its end, return its pid.

    One that drains already is not asked again: a second signal would end it at once.

    Raises:
        StackNotRunningError: none runs on `folder`.
        TimeoutError: it has not ended within 120 s.
    """
    pid = folder.holder()
    if not pid:
        raise StackNotRunningError(f"no stack runs on {folder.root}")
    if not _drains(folder):
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + _STOP_SECONDS
    while folder.holder() == pid:
        if time.monotonic() > deadline:
            raise TimeoutError(f"process {pid} has not ended within {_STOP_SECONDS:.0f} s")
        time.sleep(0.1)
    return pid


def _drains(folder: DataFolder) -> bool:
    state = folder.read_state() or {}
    parts = state.get("parts")
    ending = {PartState.STOPPING, PartState.STOPPED}
    return isinstance(parts, dict) and any(part["state"] in ending for part in parts.values())


def _with(state: StackState, status: PartStatus) -> StackState:
    """The state after what happened to a part; one that is gone leaves no trace."""
    url = f"metrics.{status.name}"
    if status.state is PartState.GONE:
        urls = {name: each for name, each in state.urls.items() if name != url}
        parts = {name: each for name, each in state.parts.items() if name != status.name}
        return replace(state, parts=parts, urls=urls)
    known = {url: status.metrics} if status.metrics else {}
    return replace(state, parts={**state.parts, status.name: status}, urls={**state.urls, **known})


class _Recorder:
    """Writes every change to the state file before it tells the observer.

    A state that cannot be written, as on a full disk, is a warning: it must not end the stack or its drain.
    """

    def __init__(self, folder: DataFolder, state: StackState, observer: Observer) -> None:
        self._folder = folder
        self._state = state
        self._observer = observer

    def part_changed(self, status: PartStatus) -> None:
        self._write(_with(self._state, status))
        self._observer.part_changed(status)

    def step_done(self, name: str, seconds: float) -> None:
        self._observer.step_done(name, seconds)

    def stack_up(self) -> None:
        self._write(replace(self._state, up=True))
        self._observer.stack_up()

    def _write(self, state: StackState) -> None:
        self._state = state
        try:
            self._folder.write_state(state)
        except OSError as error:
            log.warning("state_not_written", error=str(error))
