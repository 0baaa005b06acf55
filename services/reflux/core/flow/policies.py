"""How often and how long: `retry`, `timeout` and the flow's `policies`."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from reflux.core.flow.model import Jitter, OnError, Retry, Timeouts
from reflux.core.flow.problems import ProblemCode

if TYPE_CHECKING:
    from reflux.core.flow.problems import Place
    from reflux.core.flow.reading import Reader

CODES: Final = (
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
)
"""The canonical codes of gRPC, without OK."""

MAX_ATTEMPTS: Final = 100
MAX_DELAYS: Final = 20
LONGEST_DELAY: Final = timedelta(days=1)
LONGEST_ATTEMPT: Final = timedelta(days=1)
LONGEST: Final = timedelta(days=366)

_DEFAULT: Final = Retry()
_SHORTEST: Final = timedelta(milliseconds=1)
_RETRY_KEYS: Final = ("attempts", "delay", "factor", "cap", "jitter", "on")


def read_retry(reader: Reader, place: Place | None) -> Retry:
    """`retry: {attempts: 4, delay: 1s, factor: 2, cap: 30s, jitter: full, on: [UNAVAILABLE]}`.

    `delay` may be a list, one for each retry, of which the last is repeated; `factor` does not go with it.
    """
    if place is None:
        return _DEFAULT
    reader.known_keys(place, _RETRY_KEYS)
    attempts = reader.number(reader.required(place, "attempts"), 1, MAX_ATTEMPTS, _DEFAULT.attempts)
    delay, factor = reader.optional(place, "delay"), reader.optional(place, "factor")
    listed = delay is not None and isinstance(delay.value, list)
    if listed and factor is not None:
        message = "factor does not go with a list of delays"
        reader.problems.add(ProblemCode.BAD_VALUE, factor, message, "remove one of them")
    delays = _DEFAULT.delays if delay is None else _read_delays(reader, delay)
    longest = max(delays)
    cap_place = reader.optional(place, "cap")
    cap = None if cap_place is None else reader.duration(cap_place, longest, LONGEST_DELAY)
    return Retry(
        attempts=int(attempts),
        delays=delays,
        factor=1.0 if listed else reader.number(factor, 1.0, 10.0, _DEFAULT.factor),
        cap=cap or max(_DEFAULT.cap, longest),
        jitter=reader.choice(reader.optional(place, "jitter"), Jitter, _DEFAULT.jitter),
        on=_read_codes(reader, reader.optional(place, "on")),
    )


def _read_delays(reader: Reader, place: Place) -> tuple[timedelta, ...]:
    places = reader.items(place) if isinstance(place.value, list) else [place]
    if not 1 <= len(places) <= MAX_DELAYS:
        message = f"write between 1 and {MAX_DELAYS} delays"
        reader.problems.add(ProblemCode.BAD_VALUE, place, message)
    read = [reader.duration(item, timedelta(0), LONGEST_DELAY) for item in places[:MAX_DELAYS]]
    return tuple(delay for delay in read if delay is not None) or _DEFAULT.delays


def _read_codes(reader: Reader, place: Place | None) -> frozenset[str]:
    if place is None:
        return _DEFAULT.on
    codes = [(item, reader.text(item)) for item in reader.items(place, "a list of gRPC codes")]
    for item, code in codes:
        if code is not None and code not in CODES:
            reader.bad_choice(item, code, CODES)
    return frozenset(code for _, code in codes if code is not None)


def read_timeouts(reader: Reader, place: Place | None, *, container: bool) -> Timeouts:
    """`timeout: {attempt: 5s, total: 1m}`; a container has no attempts."""
    if place is None:
        return Timeouts()
    known = ("total",) if container else ("attempt", "total")
    reader.known_keys(place, known)
    limits = {}
    for key, longest in (("attempt", LONGEST_ATTEMPT), ("total", LONGEST)):
        inner = reader.optional(place, key) if key in known else None
        limits[key] = None if inner is None else reader.duration(inner, _SHORTEST, longest)
    return Timeouts(**limits)


def read_policies(reader: Reader, place: Place | None) -> tuple[timedelta | None, OnError]:
    """`policies: {timeout: 2h, on_error: continue}`: the run's limit, and what steps do by default.

    What is said of concurrency, rate and priority is read by `limits`, `on_failure` by `subflows`.
    """
    if place is None:
        return None, OnError.FAIL
    reader.known_keys(place, ("timeout", "on_error", "on_failure", "concurrency", "rate", "priority"))
    timeout = reader.optional(place, "timeout")
    limit = None if timeout is None else reader.duration(timeout, _SHORTEST, LONGEST)
    return limit, reader.choice(reader.optional(place, "on_error"), OnError, OnError.FAIL)
