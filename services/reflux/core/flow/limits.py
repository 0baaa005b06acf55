"""`policies.concurrency`, `policies.rate` and `policies.priority`: how many runs, how often, and who first.

    policies:
      concurrency: { key: "{{ input.order.shop }}", limit: 10, overflow: queue }
      rate:        { key: "{{ input.order.shop }}", limit: 100, per: 1m, overflow: reject }
      priority:    "{{ input.order.express ? 9 : 5 }}"

- **concurrency**: at most `limit` runs of the flow that have begun and not ended, for each value of `key`.
- **rate**: at most `limit` runs begin at once, and then one each `per / limit`, for each value of `key`.
- **priority**: 0 to 9; the higher one is first among those of its flow that wait for the same thing.

All three are worked out once, when a run is accepted, from its `input` and the flow's `vars`: there are no
steps yet. What comes out is a `Claim`, plain values that the store can act on. A flow with none of the three
has no claims, and pays for none.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Final, TypeVar

from reflux.core.errors import InvalidArgument
from reflux.core.event import DEFAULT_PRIORITY
from reflux.core.expression import ExpressionError
from reflux.core.expression.values import scalar_text
from reflux.core.flow.problems import ProblemCode
from reflux.core.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from reflux.core.document import JsonValue
    from reflux.core.expression import Reference, Template
    from reflux.core.flow.problems import Path, Place
    from reflux.core.flow.reading import Reader

MAX_SLOTS: Final = 10_000
MAX_PER_PERIOD: Final = 1_000_000
SHORTEST_PERIOD: Final = timedelta(milliseconds=10)
LONGEST_PERIOD: Final = timedelta(days=31)
SHORTEST_STEP: Final = timedelta(microseconds=1)
"""Between two runs: a shorter one would be none for the database."""
MAX_KEY: Final = 200
"""Characters of a key's value."""
PRIORITIES: Final = range(10)

_ROOTS: Final = ("input", "vars")
_NUMBER: Final = "a whole number from 0 to 9"


class Overflow(StrEnum):
    """What becomes of a run that is over the limit of concurrency."""

    QUEUE = "queue"  # it is accepted, and waits
    REJECT = "reject"  # it is refused: RESOURCE_EXHAUSTED
    CANCEL_OLDEST = "cancel_oldest"  # it is accepted, and the oldest run of the key is cancelled for it


class RateOverflow(StrEnum):
    """What becomes of a run that comes too early for the rate."""

    QUEUE = "queue"
    REJECT = "reject"


@dataclass(frozen=True, slots=True)
class Concurrency:
    """How many runs of a flow go on at once."""

    limit: int
    key: Template | None = None
    """Runs with the same value share the limit; None: all runs of the flow do."""
    overflow: Overflow = Overflow.QUEUE


@dataclass(frozen=True, slots=True)
class Rate:
    """How often runs of a flow begin."""

    limit: int
    per: timedelta
    key: Template | None = None
    overflow: RateOverflow = RateOverflow.QUEUE


@dataclass(frozen=True, slots=True)
class Limits:
    """What a flow says about when its runs may begin."""

    concurrency: Concurrency | None = None
    rate: Rate | None = None
    priority: Template | int = DEFAULT_PRIORITY


NO_LIMITS: Final = Limits()


@dataclass(frozen=True, slots=True)
class SlotClaim:
    """One of `limit` slots, shared by all runs of the flow with this key."""

    key: str
    limit: int
    overflow: Overflow


@dataclass(frozen=True, slots=True)
class RateClaim:
    """A place in time: `limit` at once, then one each `per / limit`."""

    key: str
    limit: int
    per: timedelta
    overflow: RateOverflow


@dataclass(frozen=True, slots=True)
class Claim:
    """What a run asks for before it may begin."""

    priority: int = DEFAULT_PRIORITY
    slot: SlotClaim | None = None
    rate: RateClaim | None = None
    version: int = 0
    """Of the flow, that says so: an older one changes nothing of what a newer one has said."""


NO_CLAIM: Final = Claim()


@dataclass(frozen=True, slots=True)
class Said:
    """What a version of a flow says."""

    limits: Limits
    variables: Mapping[str, JsonValue]
    version: int = 0


def claim_of(value: JsonValue, newest: Said, own: Said | None = None) -> Claim:
    """What a run with this input asks for, by the newest version of its flow.

    An input of before may not give all that the newest version works out of it: for that limit, or the
    priority, and no other, what the run's `own` version says holds.

    Raises:
        InvalidArgument: a key or the priority cannot be worked out of this input, or is not one.
    """
    if newest.limits is NO_LIMITS:
        return NO_CLAIM
    priority, _ = _worked_out(_priority, value, newest, own)
    slot, of_slot = _worked_out(_slot, value, newest, own)
    rate, of_rate = _worked_out(_rate, value, newest, own)
    return Claim(priority, slot, rate, min(of_slot, of_rate))


WorkedOutT = TypeVar("WorkedOutT")


def _worked_out(
    part: Callable[[Limits, Mapping[str, JsonValue]], WorkedOutT],
    value: JsonValue,
    newest: Said,
    own: Said | None,
) -> tuple[WorkedOutT, int]:
    """A part of a claim, and the version that it is of."""
    try:
        return part(newest.limits, {"input": value, "vars": dict(newest.variables)}), newest.version
    except InvalidArgument:
        if own is None:
            raise
    return _worked_out(part, value, own, None)


def _slot(limits: Limits, scope: Mapping[str, JsonValue]) -> SlotClaim | None:
    said = limits.concurrency
    if said is None:
        return None
    return SlotClaim(_key(said.key, scope, "concurrency"), said.limit, said.overflow)


def _rate(limits: Limits, scope: Mapping[str, JsonValue]) -> RateClaim | None:
    said = limits.rate
    return (
        None
        if said is None
        else RateClaim(_key(said.key, scope, "rate"), said.limit, said.per, said.overflow)
    )


def _key(template: Template | None, scope: Mapping[str, JsonValue], policy: str) -> str:
    """The value of a key as text; empty when the flow names none."""
    if template is None:
        return ""
    place = f"the key of policies.{policy}"
    value = _evaluate(template, scope, place)
    text = scalar_text(value)  # the same for 7 and 7.0, which are equal
    if text is None:
        raise InvalidArgument(Reason.ARGUMENT_INVALID, f"{place} is a text, a number or a bool")
    if not text or len(text) > MAX_KEY or "\0" in text:
        message = f"{place} has 1 to {MAX_KEY} characters, none of them NUL; of this input it has {len(text)}"
        raise InvalidArgument(Reason.ARGUMENT_INVALID, message)
    return text


def _priority(limits: Limits, scope: Mapping[str, JsonValue]) -> int:
    given = limits.priority
    if isinstance(given, int):
        return given
    value = _evaluate(given, scope, "policies.priority")
    if isinstance(value, bool) or not isinstance(value, int | float) or value not in PRIORITIES:
        message = f"policies.priority is {_NUMBER}; of this input it is {str(value)[:100]}"
        raise InvalidArgument(Reason.ARGUMENT_INVALID, message)
    return int(value)


def _evaluate(template: Template, scope: Mapping[str, JsonValue], place: str) -> JsonValue:
    try:
        return template.evaluate(scope)
    except ExpressionError as error:
        message = f"{place} cannot be worked out of this input: {error.render()}"
        raise InvalidArgument(Reason.EXPRESSION_FAILED, message) from None


# -- reading ---------------------------------------------------------------------------------------


def read_limits(reader: Reader, policies: Place | None, variables: Mapping[str, JsonValue]) -> Limits:
    """The limits among a flow's policies, whose constants are `variables`."""
    if policies is None or not isinstance(policies.value, dict):
        return NO_LIMITS
    limits = _Limits(reader, variables)
    found = Limits(
        concurrency=limits.concurrency(reader.optional(policies, "concurrency")),
        rate=limits.rate(reader.optional(policies, "rate")),
        priority=limits.priority(reader.optional(policies, "priority")),
    )
    return NO_LIMITS if found == NO_LIMITS else found


OverflowT = TypeVar("OverflowT", Overflow, RateOverflow)


class _Limits:
    def __init__(self, reader: Reader, variables: Mapping[str, JsonValue]) -> None:
        self._reader = reader
        self._variables = variables

    def concurrency(self, place: Place | None) -> Concurrency | None:
        reader = self._reader
        if place is None:
            return None
        if not isinstance(place.value, dict):
            reader.wrong_type(place, "an object", "such as {limit: 10}")
            return None
        reader.known_keys(place, ("key", "limit", "overflow"))
        limit = self._limit(place, MAX_SLOTS)
        key = self._key(reader.optional(place, "key"))
        overflow = reader.choice(reader.optional(place, "overflow"), Overflow, Overflow.QUEUE)
        return Concurrency(limit, key, overflow)

    def rate(self, place: Place | None) -> Rate | None:
        reader = self._reader
        if place is None:
            return None
        if not isinstance(place.value, dict):
            reader.wrong_type(place, "an object", "such as {limit: 100, per: 1m}")
            return None
        reader.known_keys(place, ("key", "limit", "per", "overflow"))
        limit = self._limit(place, MAX_PER_PERIOD)
        per = reader.required(place, "per")
        period = None if per is None else reader.duration(per, SHORTEST_PERIOD, LONGEST_PERIOD)
        if period is not None and period / limit < SHORTEST_STEP:
            message = "this is more often than once in a microsecond"
            reader.problems.add(ProblemCode.BAD_VALUE, place, message, "write a lower limit or a longer per")
        key = self._key(reader.optional(place, "key"))
        overflow = reader.choice(reader.optional(place, "overflow"), RateOverflow, RateOverflow.QUEUE)
        return Rate(limit, period or SHORTEST_PERIOD, key, overflow)

    def priority(self, place: Place | None) -> Template | int:
        reader = self._reader
        if place is None:
            return DEFAULT_PRIORITY
        if isinstance(place.value, str) and "{{" in place.value:
            return self._template(place)
        if isinstance(place.value, bool) or not isinstance(place.value, int):
            reader.wrong_type(
                place, _NUMBER, 'or one expression that gives it, such as "{{ input.urgency }}"'
            )
            return DEFAULT_PRIORITY
        return int(reader.number(place, PRIORITIES[0], PRIORITIES[-1], DEFAULT_PRIORITY))

    def _limit(self, place: Place, most: int) -> int:
        return int(self._reader.number(self._reader.required(place, "limit"), 1, most, 1))

    def _key(self, place: Place | None) -> Template | None:
        if place is None:
            return None
        if self._reader.text(place) is None:
            return None
        if "{{" not in str(place.value):
            message = "this key is the same for every run"
            hint = 'write an expression, such as "{{ input.shop }}", or leave the key out'
            self._reader.problems.add(ProblemCode.BAD_VALUE, place, message, hint)
        return self._template(place)

    def _template(self, place: Place) -> Template:
        template = self._reader.template(place)
        for reference in template.references:
            self._check(place.inside(reference.pointer).path, reference)
        return template

    def _check(self, path: Path, reference: Reference) -> None:
        """Judge one read: there is an input, and no run yet."""
        root, *fields = reference.path
        field = str(fields[0]) if fields else None
        problems = self._reader.problems
        if root not in _ROOTS:
            message = f"{str(root)[:100]!r} cannot be read here: there is no run yet"
            problems.add_unknown(ProblemCode.UNKNOWN_ROOT, path, message, str(root), _ROOTS)
        elif root == "vars" and field is not None and reference.required > 1 and field not in self._variables:
            message = f"vars has no {field[:100]!r}"
            problems.add_unknown(ProblemCode.UNKNOWN_FIELD, path, message, field, self._variables)
