"""Waiting for a run to settle: to finish, or to be parked for a person."""

import asyncio
from contextlib import suppress
from datetime import timedelta
from typing import Final

from reflux.core.errors import InvalidArgument
from reflux.core.event import FINAL, RunPhase
from reflux.core.flow.durations import parse_duration
from reflux.core.names import RunId
from reflux.core.reasons import Reason
from reflux.core.state import RunState
from reflux.orchestrator.changes import Changes
from reflux.orchestrator.journal_reader import JournalReader
from reflux.orchestrator.worker import Worker

MAX_WAIT: Final = timedelta(seconds=300)
_MAX_TEXT: Final = f"{MAX_WAIT.total_seconds():.0f}s"


def parse_wait(text: str) -> timedelta | None:
    """How long a caller wants to wait; None: not at all.

    Raises:
        InvalidArgument: it is no duration, or longer than `MAX_WAIT`.
    """
    if not text:
        return None
    try:
        wait = parse_duration(text)
    except ValueError as error:
        raise InvalidArgument(Reason.ARGUMENT_INVALID, f"wait: {error}; at most {_MAX_TEXT}") from None
    if wait > MAX_WAIT:
        raise InvalidArgument(Reason.ARGUMENT_INVALID, f"wait: at most {_MAX_TEXT}")
    return wait


class Waiter:
    """Tells how runs have settled, wherever they are walked."""

    def __init__(self, *, worker: Worker, reader: JournalReader, changes: Changes) -> None:
        self._worker = worker
        self._reader = reader
        self._changes = changes

    async def settled(self, run_id: RunId, wait: timedelta) -> RunState:
        """The run when it has finished or is parked, or as it stands when the wait is over.

        Raises:
            NotFound: there is no such run.
        """
        deadline = asyncio.get_running_loop().time() + wait.total_seconds()
        active = self._worker.runs.get(run_id)
        if active is not None:
            # The usual case costs no reading: it is walked here to its end.
            with suppress(TimeoutError):
                async with asyncio.timeout_at(deadline):
                    await active.left.wait()
            if active.settled:
                return active.state
        with self._changes.watch(run_id) as news:
            while True:
                state = await self._reader.state(run_id)
                left = deadline - asyncio.get_running_loop().time()
                if state.phase in FINAL or state.phase is RunPhase.PARKED or left <= 0:
                    return state
                await news(left)
