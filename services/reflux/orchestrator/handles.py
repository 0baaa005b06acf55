"""The `request_id` of requests that begin something: whoever repeats one with the same handle begins it once.

It is part of a key in the database and of what journals hold: so it is bounded, wherever it comes in.
"""

from __future__ import annotations

from typing import Final

from reflux.core.errors import InvalidArgument, Violation
from reflux.core.reasons import Reason

MAX_REQUEST_ID: Final = 128
"""Characters."""


def request_id(text: str) -> str:
    """The handle of a request; empty when it has none.

    Raises:
        InvalidArgument: ARGUMENT_INVALID, it can be no handle.
    """
    if len(text) > MAX_REQUEST_ID or not text.isprintable():
        message = f"request_id is at most {MAX_REQUEST_ID} printable characters"
        raise InvalidArgument(Reason.ARGUMENT_INVALID, message, violations=[Violation("request_id", message)])
    return text
