"""Failures that are the same have one fingerprint, and no others do."""

from __future__ import annotations

import pytest

from reflux.core.event import Failure
from reflux.core.fingerprint import fingerprint, is_fingerprint


def failure(message: str, *, step: str = "pay", reason: str = "TARGET_STATUS") -> Failure:
    return Failure("NOT_FOUND", reason, message, step=step)


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("order 17 is gone", "order 4711 is gone"),
        ("run 0197a000-0000-7000-8000-000000000001 left", "run 0197A000-0000-7000-8000-0000000000FF left"),
        ("key 3f9ac0de12345678 twice", "key 0a0b0c0d0e0f1011 twice"),
        ("after 1.5 s", "after  30.25 s"),
    ],
)
def test_what_changes_from_run_to_run_does_not_count(one, two):
    """Numbers, ids, digests and blanks."""
    assert fingerprint("f", failure(one)) == fingerprint("f", failure(two))


def test_iterations_do_not_count():
    """The same step of a loop fails in the same way, whichever item it was."""
    first, last = (failure("no", step=f"lines[{number}]/inner[2]/pay") for number in (0, 17))
    assert fingerprint("f", first) == fingerprint("f", last) == fingerprint("f", failure("no"))


def test_everything_else_counts():
    """Flow, step, reason and every word."""
    same = failure("card declined")
    others = [
        fingerprint("g", same),
        fingerprint("f", failure("card declined", step="book")),
        fingerprint("f", failure("card declined", reason="NODE_FAULT")),
        fingerprint("f", failure("card deadface")),
        fingerprint("f", failure("card refused")),
    ]
    assert len({fingerprint("f", same), *others}) == 6
    assert all(is_fingerprint(each) for each in others)
