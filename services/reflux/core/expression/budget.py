"""The budget of one evaluation: every loop, every value and all work are bounded.

An expression is written by anyone and runs inside the orchestrator, next to other people's runs. So
it may never take more than about 50 ms or 64 MB. A wall clock would break determinism; counters do
not. Two rules keep them honest:

- Pay first. What is about to be visited or built is charged before it is touched, so a refusal
  costs nothing.
- Pay for everything that can be large: macro iterations (and the nodes of their bodies), elements
  visited by functions and comparisons, characters read and written. A program without any of these
  is bounded by the length of its source.

A unit of work is about 0.1 µs on an ordinary machine: one syntax node evaluated in a loop, one value
visited, 32 characters built, 256 characters scanned. Characters built are dear on purpose:
MAX_WORK also bounds the memory of all intermediate values together.
"""

from __future__ import annotations

from dataclasses import dataclass

from reflux.core.expression.errors import FINAL, ErrorCode, Fault

MAX_SOURCE = 4_096  # characters of one expression
MAX_ITERATIONS = 10_000  # of all macros of one evaluation together
MAX_WORK = 250_000  # units, see above
MAX_SIZE = 1 << 20  # of one value, as weighed below, near its length as JSON

# A character of a string or of a key weighs 1. The depth of values is bounded for all documents, in
# `core.document`.
VALUE_WEIGHT = 8  # of null, a bool, a number, and of a string besides its characters
CONTAINER_WEIGHT = 24  # of a list or a map besides its parts
TIME_WEIGHT = 64  # of a time, which becomes text of about half of that: what a result holds is not work

TIME_WORK = 12  # units for making a time, or its text

_WRITE = 5  # 2**5 characters built are one unit
_READ = 8  # 2**8 characters scanned are one unit
_FAULT = 12  # units for an error that is passed over: it was made, and came up to who does that


@dataclass(slots=True)
class Room:
    """What the results of several evaluations may still weigh, when they stand in one document.

    Small values weigh a few times what they are as JSON. So this only keeps the evaluations short; whether
    the document is too large is found when it is written.
    """

    left: int = 4 * MAX_SIZE


class Budget:
    """What an evaluation may still spend. Each method raises `Fault` instead of overspending.

    `room` is what its results may still weigh: all those of one document together.
    """

    __slots__ = ("iterations", "room", "work")

    def __init__(self) -> None:
        self.iterations = MAX_ITERATIONS
        self.work = MAX_WORK
        self.room = MAX_SIZE

    def keep(self, weight: int) -> None:
        """Take the room for a result, or for a part of one.

        Raises:
            Fault: BUDGET_SIZE.
        """
        self.room -= weight
        if self.room < 0:
            raise too_large()

    def spend(self, units: int) -> None:
        """Pay for `units` of work.

        Raises:
            Fault: BUDGET_WORK.
        """
        self.work -= units
        if self.work < 0:
            raise Fault(
                ErrorCode.BUDGET_WORK,
                f"this expression takes too much work: more than {MAX_WORK:,} values visited or built; "
                "move it into a step",
            )

    def iterate(self, count: int, cost: int) -> None:
        """Pay for `count` iterations of a macro whose body has `cost` nodes.

        Raises:
            Fault: BUDGET_ITERATIONS, BUDGET_WORK.
        """
        self.iterations -= count
        if self.iterations < 0:
            raise Fault(
                ErrorCode.BUDGET_ITERATIONS,
                f"the macros of this expression iterate more than {MAX_ITERATIONS:,} times in total; "
                "move lists of this length into a step",
            )
        self.spend(count * cost)

    def absorb(self, fault: Fault) -> None:
        """Pay for an error that is passed over.

        Raises:
            Fault: this one, if it is final; BUDGET_WORK.
        """
        if fault.code in FINAL:
            raise fault
        self.spend(_FAULT)

    def read(self, length: int) -> None:
        """Pay for scanning `length` characters once.

        Raises:
            Fault: BUDGET_WORK.
        """
        self.spend(length >> _READ)

    def search(self, length: int, part: int) -> None:
        """Pay for looking for `part` characters in `length` characters.

        CPython's search is linear for long texts and may be O(length · part) for short ones; these
        thresholds (2,500 and 30,000 characters, parts of 100) are those of its `fastsearch.h`.

        Raises:
            Fault: BUDGET_WORK.
        """
        worst = length * part if length < 2_500 else min(length, 30_000) * min(part, 100)
        self.spend((length + worst) >> _READ)

    def build_text(self, length: int) -> None:
        """Pay for a new text of `length` characters.

        Raises:
            Fault: BUDGET_SIZE, BUDGET_WORK.
        """
        if length > MAX_SIZE:
            raise Fault(ErrorCode.BUDGET_SIZE, f"this text would be longer than {MAX_SIZE:,} characters")
        self.spend((length >> _WRITE) + 1)

    def build_items(self, count: int) -> None:
        """Pay for a new list of `count` items.

        Raises:
            Fault: BUDGET_SIZE, BUDGET_WORK.
        """
        if count * VALUE_WEIGHT > MAX_SIZE:
            limit = MAX_SIZE // VALUE_WEIGHT
            raise Fault(ErrorCode.BUDGET_SIZE, f"this list would have more than {limit:,} items")
        self.spend(count + 1)


def too_large() -> Fault:
    """There is no room for a result."""
    message = f"this result is larger than {MAX_SIZE:,} characters, together with those before it"
    return Fault(ErrorCode.BUDGET_SIZE, message)
