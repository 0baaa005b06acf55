"""The supervisor: starts the steps in order, keeps the parts alive, stops them in reverse order.

Invariants:
- A part starts when everything before it is ready, and stops when everything after it has ended: reading
  the list forwards is the start, backwards the drain.
- Every wait is bounded: a start by `start_seconds`, a drain by `stop_seconds`.
- However `run` ends, no part is left running. If the process itself is killed, the kernel ends the parts
  (`reflux.cli.stack.child`).
- It must run in the main thread, on asyncio's own loop: children are tied to the thread that starts them.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, assert_never

from reflux.cli.stack.errors import StartError
from reflux.cli.stack.keeper import Keeper
from reflux.cli.stack.part import Backoff, Observer, Once, Part
from reflux.cli.stack.replicas import ReplicaKeeper, Replicas
from reflux.runtime.logs import get_logger, redact

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reflux.cli.stack.logfiles import LogFiles

_LOG_CHECK_SECONDS: Final = 5.0

log = get_logger("supervisor")


async def supervise(
    steps: Sequence[Part | Replicas | Once],
    *,
    logs: LogFiles,
    observer: Observer,
    backoff: Backoff | None = None,
) -> None:
    """Start `steps` and keep the parts alive until cancelled; then stop them in reverse order.

    Raises:
        StartError: a step failed while the stack came up; what had been started is stopped again.
    """
    keepers: list[Keeper | ReplicaKeeper] = []
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(_bound_logs(logs))
            for step in steps:
                match step:
                    case Once():
                        observer.step_done(step.name, await _do_once(step))
                    case Part():
                        logs.rotate(step.name)
                        one = Keeper(step, backoff or Backoff(), observer)
                        keepers.append(one)
                        await one.bring_up()
                        group.create_task(one.keep())
                    case Replicas():
                        several = ReplicaKeeper(step, backoff or Backoff(), observer, logs)
                        keepers.append(several)
                        await several.bring_up()
                        group.create_task(several.keep())
                    case _:
                        assert_never(step)
            observer.stack_up()
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
    finally:
        for keeper in reversed(keepers):
            await keeper.stop()


async def _do_once(step: Once) -> float:
    loop = asyncio.get_running_loop()
    began = loop.time()
    try:
        async with asyncio.timeout(step.seconds):
            await step.run()
    except TimeoutError:
        raise StartError(step.name, f"did not end within {step.seconds:.0f} s") from None
    except Exception as error:
        raise StartError(step.name, f"failed: {redact(str(error))}") from error
    return loop.time() - began


async def _bound_logs(logs: LogFiles) -> None:
    """Keep the log files bounded while the parts write them; runs until cancelled."""
    while True:
        await asyncio.sleep(_LOG_CHECK_SECONDS)
        try:
            logs.cut_large()
        except OSError as error:  # a full disk: the parts decide what it means to them
            log.warning("logs_not_cut", error=str(error))
