"""`--since` and `--until` of `run list`, `run failures` and `run bulk`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.unit.cli.conftest import Reflux
    from tests.unit.cli.fakes import FakeServer

COMMANDS = {"list": ("run", "list"), "failures": ("run", "failures"), "bulk": ("run", "bulk", "retry")}
REPEATED = ("run", "bulk", "retry", "--flow", "orders", "--request-id", "after-the-outage")


def asked(server: FakeServer, command: str) -> tuple[datetime, datetime]:
    """The bounds of the one request that came."""
    if command == "bulk":
        [(document, _)] = server.operations.said
        which: Any = document["filter"]
        return datetime.fromisoformat(which["created_after"]), datetime.fromisoformat(which["created_before"])
    [request] = server.runs.listed if command == "list" else server.operations.listed
    return request.created_after.ToDatetime(UTC), request.created_before.ToDatetime(UTC)


@pytest.mark.parametrize("command", COMMANDS)
def test_times_are_bounds(server: FakeServer, reflux: Reflux, command: str) -> None:
    """With their zone; the same of every command."""
    since, until = "2026-01-31T12:00:00+01:00", "2026-01-31T12:00:00Z"
    reflux(*COMMANDS[command], "--since", since, "--until", until, ok=True)
    assert asked(server, command) == (datetime.fromisoformat(since), datetime.fromisoformat(until))


@pytest.mark.parametrize("command", COMMANDS)
def test_durations_are_so_long_ago(server: FakeServer, reflux: Reflux, command: str) -> None:
    """Both before the same now."""
    reflux(*COMMANDS[command], "--since", "2h", "--until", "1h", ok=True)
    after, before = asked(server, command)
    assert before - after == timedelta(hours=1)
    assert timedelta(0) <= datetime.now(UTC) - before - timedelta(hours=1) < timedelta(minutes=1)


@pytest.mark.parametrize("option", ["--since", "--until"])
@pytest.mark.parametrize("text", ["yesterday", "5", "", "999999d", "9999-12-31T23:59:59-05:00"])
@pytest.mark.parametrize("command", COMMANDS)
def test_what_is_no_time_is_refused(
    server: FakeServer, reflux: Reflux, command: str, text: str, option: str
) -> None:
    """With the option that has it, and nothing is asked for."""
    ended = reflux(*COMMANDS[command], option, text)
    assert ended.status == 2
    assert f"{option} {text}: a duration such as" in ended.stderr
    assert server.asked == []


@pytest.mark.parametrize("times", [("--since", "1h"), ("--until", "15m"), ("--since", "2h", "--until", "1h")])
def test_what_is_repeated_has_no_moving_bound(
    server: FakeServer, reflux: Reflux, times: tuple[str, ...]
) -> None:
    """The refusal shows what to write, and that can be repeated as often as somebody likes."""
    ended = reflux(*REPEATED, *times, "--expect", "1")
    assert ended.status == 2
    assert f"{' '.join(times[:2])} " in ended.stderr
    assert server.asked == []

    instead = ended.stderr.rstrip().rpartition(": give ")[2].split()
    assert instead[::2] == [*times[::2]]
    assert all(text.endswith("Z") for text in instead[1::2])
    for _ in range(2):
        reflux(*REPEATED, *instead, "--expect", "1", ok=True)
    (first, _), (second, _) = server.operations.said
    assert first == second


def test_a_moving_bound_without_a_handle_is_as_good_as_ever(server: FakeServer, reflux: Reflux) -> None:
    """Such a command makes a handle of its own, which nobody repeats."""
    reflux("run", "bulk", "retry", "--since", "1h", "--expect", "1", ok=True)
    assert server.operations.said
