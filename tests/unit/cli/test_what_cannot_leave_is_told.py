"""Who follows a run hears what an attempt waits for, and that it has left."""

from reflux.cli.commands.run_watch import tell, waits_for


def _held(why: str) -> dict:
    return {"kind": "AttemptHeld", "step": "a", "data": {"attempt": 2, "why": why, "until": None}}


def test_it_waits_and_says_for_what() -> None:
    """In the line of the event, and in the line that stands below it."""
    assert tell(_held("the retry budget of x@1 is empty"))[0] == (
        "a: attempt 2 has not left: the retry budget of x@1 is empty"
    )
    assert waits_for(_held("the retry budget of x@1 is empty")) == (
        "step a: attempt 2 has not left: the retry budget of x@1 is empty"
    )


def test_it_has_left() -> None:
    """What it waited for is over."""
    assert tell(_held(""))[0] == "a: attempt 2 has left"
    assert waits_for(_held("")) == "step a: attempt 2 is in flight"
