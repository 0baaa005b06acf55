"""Reading the rules of `reflux.core.faults` as people write them."""

from __future__ import annotations

from typing import Final

from reflux.core.faults import CODES, MAX_DELAY_MS, Fault, FaultKind
from reflux.core.flow.durations import parse_duration
from reflux.core.names import is_version

_KEYS: Final = ("step", "version", "abort", "delay", "drop", "percent")


def parse(text: str) -> Fault:
    """A rule as it is written.

    Raises:
        ValueError: it is none; the message says what is wrong with it.
    """
    given: dict[str, str] = {}
    for part in text.split(","):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or key not in _KEYS:
            raise ValueError(f"{part.strip()!r}: write KEY=VALUE with {', '.join(_KEYS)}")
        if key in given:
            raise ValueError(f"{key} is given twice")
        given[key] = value
    kinds = [kind for kind in FaultKind if kind in given]
    if not given.get("step") or len(kinds) != 1:
        raise ValueError("give step, and one of abort, delay and drop")
    version = given.get("version", "")
    if "version" in given and not is_version(version):
        raise ValueError(f"version {version!r} cannot be the version of a node")
    return Fault(
        step=given["step"],
        kind=kinds[0],
        version=version,
        code=_code(given),
        delay_ms=_delay(given),
        percent=_percent(given),
    )


def _code(given: dict[str, str]) -> str:
    code = given.get("abort", "")
    if "abort" in given and code not in CODES:
        raise ValueError(f"abort {code!r} is no status of a gRPC call; they are {', '.join(CODES)}")
    if given.get("drop", "reply") != "reply":
        raise ValueError(f"drop {given['drop']!r}: only the reply can be dropped, drop=reply")
    return code


def _delay(given: dict[str, str]) -> int:
    if "delay" not in given:
        return 0
    try:
        milliseconds = round(parse_duration(given["delay"]).total_seconds() * 1000)
    except ValueError as error:
        raise ValueError(f"delay: {error}") from None
    if not 0 < milliseconds <= MAX_DELAY_MS:
        raise ValueError(f"delay {given['delay']!r}: 1 to {MAX_DELAY_MS} ms")
    return milliseconds


def _percent(given: dict[str, str]) -> int:
    text = given.get("percent", "100")
    if not (text.isascii() and text.isdecimal() and 1 <= int(text) <= 100):
        raise ValueError(f"percent {text!r}: a whole number from 1 to 100")
    return int(text)
