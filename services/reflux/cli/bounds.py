"""`--since` and `--until`: runs created at or after the one time, and before the other.

Each is a time, or a duration, which means so long before now. A duration is another time at each repetition:
whoever repeats a request under one handle cannot give one.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from reflux.cli.failures import wrong

if TYPE_CHECKING:
    from datetime import timedelta

_FIELDS: Final = {"--since": "created_after", "--until": "created_before"}


def bounds(since: str | None, until: str | None, *, repeatable: bool = False) -> dict[str, datetime]:
    """The fields of a request, `created_after` and `created_before`; those that were given, in UTC.

    Args:
        since: text of the option.
        until: text of the option.
        repeatable: whether the same words must mean the same at another time.

    Raises:
        CommandError: one is neither a duration nor a time; or a duration, and must be repeatable.
    """
    now = datetime.now(UTC)
    given = {option: text for option, text in (("--since", since), ("--until", until)) if text is not None}
    times = {option: _time(option, text, now) for option, text in given.items()}
    moving = [option for option, text in given.items() if _ago(text) is not None]
    if repeatable and moving:
        said = " and ".join(f"{option} {given[option]}" for option in moving)
        instead = " ".join(f"{option} {_written(times[option])}" for option in moving)
        raise wrong(
            f"{said} is another time whenever it is said, and --request-id is for saying the same again: "
            f"give {instead}"
        )
    return {_FIELDS[option]: at for option, at in times.items()}


def _time(option: str, text: str, now: datetime) -> datetime:
    from reflux.core.flow.durations import RULE

    try:
        ago = _ago(text)
        # A time without a zone is one of this machine's.
        return datetime.fromisoformat(text).astimezone(UTC) if ago is None else now - ago
    except (ValueError, OverflowError):
        raise wrong(f"{option} {text}: a duration {RULE}, or a time such as 2026-01-31T12:00:00Z") from None


def _ago(text: str) -> timedelta | None:
    from reflux.core.flow.durations import parse_duration

    try:
        return parse_duration(text)
    except (ValueError, OverflowError):
        return None


def _written(at: datetime) -> str:
    from reflux.core.flow.durations import format_moment

    return format_moment(at.replace(microsecond=0))
