"""Loops that end with their task, also when a library has lost the cancel.

`asyncio.wait_for` of Python 3.11 drops a cancel that comes in the very moment in which what it waits for is
done (python/cpython#86296; mended in 3.12). psycopg waits for its socket that way, and redis has ways of its
own, so a task that is cancelled once may go on for ever, and a drain with it. What is not lost is the task's
count of cancels, so a loop asks for it once a turn.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


def forever() -> Iterator[None]:
    """Turns without end, until the task that takes them is cancelled.

    >>> for _ in forever():
    ...     await look(connection)
    ...     await asyncio.sleep(1)

    Raises:
        asyncio.CancelledError: the task was cancelled in a former turn, and something has swallowed it.
    """
    while True:
        heed_cancel()
        yield


def heed_cancel() -> None:
    """Go no further when this task was cancelled and something has swallowed it.

    Raises:
        asyncio.CancelledError: so it is.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
