"""What becomes visible of an attempt that is not over at once: that it waits, and for what; that it has left.

Most attempts are over before anybody could look, and write nothing on the way. One that is not is shown once
after `SLOW_SECONDS`: what it waits for, or that it is under way. After that it is shown when it waits for
something else, and `SLOW_SECONDS` after it has left. So what is journaled is a quarter of a second late at
most, and costs three rows at most.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

SLOW_SECONDS: Final = 0.25
"""An attempt that is not over by then is shown."""


class Showing:
    """Of one attempt.

    Args:
        slow: called when it has been under way for long; None for one that is shown as under way anyway.
        held: called with what it waits for, and with an empty text when it has left after all.
    """

    def __init__(self, slow: Callable[[], None] | None, held: Callable[[str], None]) -> None:
        self._slow = slow
        self._held = held
        self._why = ""
        self._shown = ""
        self._timer: asyncio.TimerHandle | None = None
        self._again()

    def waits(self, why: str) -> None:
        """It waits for this."""
        self._why = why
        if self._shown:
            self._show()

    def leaves(self) -> None:
        """It waits for nothing any more."""
        self._why = ""
        if self._shown:
            self._again()

    def over(self) -> None:
        """It has an outcome, or nobody wants to know."""
        if self._timer is not None:
            self._timer.cancel()

    def _again(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(SLOW_SECONDS, self._show)

    def _show(self) -> None:
        before, self._shown = self._shown, self._why
        if self._why:
            if self._why != before:
                self._held(self._why)
        elif self._slow is not None:
            self._slow()
        elif before:
            self._held("")
