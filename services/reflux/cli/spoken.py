"""How values are said to people: times, durations, shares, effects, Envoy's flags."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

FLAGS: Final = {
    "DC": "the caller went away",
    "DF": "name not resolved",
    "DPE": "the caller broke the protocol",
    "DT": "the deadline was over",
    "FI": "a fault was injected",
    "LH": "failed its health check",
    "LR": "connection reset on our side",
    "NC": "no such cluster",
    "NR": "no route",
    "OM": "Envoy is overloaded",
    "RL": "rate limited",
    "UC": "the version broke the connection",
    "UF": "could not connect to the version",
    "UH": "no healthy endpoint",
    "UMSDR": "the try took too long",
    "UO": "the version was at its limit of calls",
    "UPE": "the version broke the protocol",
    "UR": "the version reset the call",
    "URX": "no try was left",
    "UT": "the try took too long",
}
"""Envoy's response flags (access log, `%RESPONSE_FLAGS%`) in words."""

_REASONS: Final = {
    "weight": "by its weight",
    "sticky": "by its weight, sticky",
    "override": "by its weight, for the step",
    "pin": "pinned by the step",
    "fallback": "as a fallback",
    "ejected": "because the chosen one had no healthy endpoint and was passed over",
}


def percent(basis_points: int) -> str:
    """9950 as `99.5 %`."""
    return f"{basis_points / 100:g} %"


def money(dollars: float | None) -> str:
    """0.0000125 as `$0.0000125`, cut at a billionth; empty for a cost that nobody told."""
    if dollars is None:
        return ""
    whole, _, rest = f"{dollars:,.9f}".partition(".")
    return f"${whole}.{rest.rstrip('0').ljust(2, '0')}"


def ejection(settings: dict[str, Any] | None) -> str:
    """When a version is ejected, for how long; empty for one with the defaults."""
    if not settings:
        return ""
    return (
        f"{settings['consecutive']} in a row, or {settings['threshold_percent']} % of "
        f"{settings['min_requests']}+ in {settings['interval']}: for {settings['base_time']}"
    )


def limits(settings: dict[str, Any] | None) -> str:
    """How many calls at once, and of them how many without a connection; empty without limits."""
    if not settings:
        return ""
    shown = [f"{settings['max_requests']}"] if settings.get("max_requests") else []
    return ", ".join(shown + [f"{settings['max_pending']} pending"] * bool(settings.get("max_pending")))


def flags(text: str) -> str:
    """`UF,URX` in words; a flag that is not known stays as it is."""
    names = [flag for flag in text.replace("|", ",").split(",") if flag and flag != "-"]
    return ", ".join(f"{FLAGS[name]} ({name})" if name in FLAGS else name for name in names)


def choice(reason: str) -> str:
    """Why a version answered."""
    return _REASONS.get(reason, reason)


def moment(text: str | None) -> datetime | None:
    """An RFC 3339 time of the API."""
    return datetime.fromisoformat(text) if text else None


def clock(text: str | None, now: datetime | None = None) -> str:
    """A time of day, local, to the millisecond; with its date when that is not today's."""
    at = moment(text)
    if at is None:
        return ""
    at = at.astimezone()
    today = at.date() == (now or datetime.now(UTC)).astimezone().date()
    return at.strftime("%H:%M:%S.%f" if today else "%Y-%m-%d %H:%M:%S.%f")[:-3]


def local(text: str | None) -> str:
    """A moment in local time, to the second, with the offset."""
    at = moment(text)
    return at.astimezone().strftime("%Y-%m-%d %H:%M:%S %z") if at else ""


def waiting(of: Mapping[str, Any] | None) -> str:
    """A Waiting: why, and until when if that is known; empty for what does not wait."""
    if not of:
        return ""
    until = f", until {local(of['until'])}" if of.get("until") else ""
    return f"{of['why']}{until}"


def ago(text: str | None, now: datetime | None = None) -> str:
    """How long ago, in the largest unit: `42s`, `5m`, `3h`, `12d`."""
    at = moment(text)
    if at is None:
        return ""
    return span(max((now or datetime.now(UTC)) - at, timedelta()))


def span(length: timedelta) -> str:
    """A long time in its largest unit."""
    seconds = int(length.total_seconds())
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def took(start: str | None, finish: str | None) -> str:
    """How long something took: `12 ms`, `3.4 s`, `2m30s`; empty while it has not ended."""
    begun, ended = moment(start), moment(finish)
    if begun is None or ended is None:
        return ""
    seconds = (ended - begun).total_seconds()
    if seconds < 1:
        return f"{max(seconds, 0) * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{int(seconds) // 60}m{int(seconds) % 60:02}s"


def effect(of: Mapping[str, Any]) -> str:
    """An Effect of a node version."""
    if of.get("expression"):
        return "by input"
    name = str(of.get("class") or "CLASS_UNSPECIFIED")
    return "at_most_once" if name == "CLASS_UNSPECIFIED" else name.lower()
