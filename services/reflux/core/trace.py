"""The trace of a run: every id is derived, so nobody has to remember or pass on any.

- The trace id of a run is its UUID. Who has the one has the other.
- The span ids of the run, its steps, their attempts and questions about these are digests of what they name.
  They are known before the span has ended, so they can be sent on as a `traceparent`, and an orchestrator
  that takes a run over goes on with the same ones.
- Whether a run is sampled follows from its id alone: the rightmost 56 bits of a UUIDv7 are random, which is
  what W3C Trace Context Level 2 asks of a trace id whose bits others may sample by. Every orchestrator with
  the same ratio decides the same, before and after a takeover, and nothing is journaled for it.

`traceparent` is `00-<trace id>-<span id>-<flags>` (W3C Trace Context §3.2); bit 0 of the flags says sampled.
"""

from __future__ import annotations

import re
from hashlib import sha256
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from reflux.core.names import RunId

_RANDOM_BITS: Final = 56
_TRACEPARENT: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")


class SpanContext(NamedTuple):
    """A span as others may refer to it."""

    trace_id: bytes
    """16 bytes, not all zero."""
    span_id: bytes
    """8 bytes, not all zero."""
    sampled: bool = True

    def __str__(self) -> str:
        """As the value of a `traceparent`."""
        return f"00-{self.trace_id.hex()}-{self.span_id.hex()}-{self.sampled:02x}"


def trace_id(run_id: RunId) -> bytes:
    """The run's UUID, 16 bytes."""
    return bytes.fromhex(run_id.replace("-", ""))


def span_id(run_id: RunId, step: str = "", attempt: int = 0) -> bytes:
    """Of the run itself, without a step; of a step, without an attempt; of an attempt, from 1."""
    digest = sha256(f"{run_id}\n{step}\n{attempt}".encode()).digest()
    return digest[:8] if any(digest[:8]) else b"\0" * 7 + b"\1"


def attempt_context(run_id: RunId, step: str, attempt: int) -> SpanContext:
    """What an attempt of a sampled run sends on."""
    return SpanContext(trace_id(run_id), span_id(run_id, step, attempt))


def question_context(run_id: RunId, step: str, attempt: int, question: str, number: int) -> SpanContext:
    """What a question about an attempt's effect sends on: verify or cancel, and how often it was asked."""
    return SpanContext(trace_id(run_id), span_id(run_id, f"{step}\n{question} {number}", attempt))


def is_sampled(run_id: RunId, ratio: float) -> bool:
    """Whether the run is one of the share `ratio`, 0 to 1, that is traced."""
    if ratio >= 1:
        return True
    return int(run_id[-15:].replace("-", ""), 16) < ratio * (1 << _RANDOM_BITS) if ratio > 0 else False


def parse_traceparent(text: str) -> SpanContext | None:
    """What a `traceparent` names; None when it is not valid, which W3C asks to treat as absent."""
    found = _TRACEPARENT.fullmatch(text)
    if found is None:
        return None
    version, trace, span, flags, more = found.groups()
    if version == "ff" or (version == "00" and more is not None):
        return None
    context = SpanContext(bytes.fromhex(trace), bytes.fromhex(span), sampled=bool(int(flags, 16) & 1))
    return context if any(context.trace_id) and any(context.span_id) else None


def valid_traceparent(text: str) -> str:
    """`text` when it names a span, else an empty text."""
    return text if parse_traceparent(text) is not None else ""
