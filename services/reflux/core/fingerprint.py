"""The fingerprint of a failure: equal for failures that are the same one, whatever they name.

It is a hash of the flow, the step (without its iterations), code, reason, and the message with all that
changes from run to run taken out: ids, long hexadecimal words, numbers. Two failures with one fingerprint are
shown as one group and can be retried together, so it is better to keep two groups apart than to mix them:
words are left as they are.
"""

from __future__ import annotations

import re
from hashlib import sha256
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from reflux.core.event import Failure
    from reflux.core.names import FlowId

LENGTH: Final = 16
"""Hexadecimal digits of a fingerprint."""
MAX_MESSAGE: Final = 1_000
"""Characters of a message that count."""

_ITERATION: Final = re.compile(r"[^/]*/")
_CHANGING: Final = re.compile(
    r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}"  # UUIDs
    r"|\b(?=[a-f]*[0-9])[0-9a-f]{8,}\b"  # digests, ids of other systems
    r"|[0-9]+",
    re.IGNORECASE,
)


def fingerprint(flow_id: FlowId | str, failure: Failure) -> str:
    """16 hexadecimal digits.

    >>> from reflux.core.event import Failure
    >>> one = Failure("NOT_FOUND", "TARGET_STATUS", "order 17 is gone", step="lines[3]/price")
    >>> two = Failure("NOT_FOUND", "TARGET_STATUS", "order 4711 is gone", step="lines[0]/price")
    >>> fingerprint("f", one) == fingerprint("f", two)
    True
    """
    step = _ITERATION.sub("", failure.step)
    said = (str(flow_id), step, failure.code, str(failure.reason), normal(failure.message))
    return sha256("\0".join(said).encode(errors="replace")).hexdigest()[:LENGTH]


def normal(message: str) -> str:
    """A message without what changes from run to run.

    >>> normal("GET https://api.example/orders/17 gave 503 after 12.5 s")
    'GET https://api.example/orders/# gave # after #.# s'
    """
    return " ".join(_CHANGING.sub("#", message[:MAX_MESSAGE]).split())


def is_fingerprint(text: str) -> bool:
    """Whether it may be one."""
    return len(text) == LENGTH and all(digit in "0123456789abcdef" for digit in text)
