"""Steps that wait for somebody, as they are written: `wait: {signal: …}` and `approve`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from reflux.core.flow.durations import LONGEST_WAIT, SHORTEST_WAIT
from reflux.core.flow.model import ApproveAction, OnTimeout, SignalAction
from reflux.core.flow.problems import Place, ProblemCode
from reflux.core.flow.reading import NOTHING
from reflux.core.flow.schema import Schema
from reflux.core.names import NAME_RULE, is_name

if TYPE_CHECKING:
    from datetime import timedelta

    from reflux.core.expression import Template
    from reflux.core.flow.reading import Reader
    from reflux.core.flow.steps import Draft, StepReader

SIGNAL_KEYS: Final = ("signal", "key", "timeout", "on_timeout")
APPROVE_KEYS: Final = ("form", "message", "who", "timeout", "on_timeout")


def read_signal(steps: StepReader, place: Place, draft: Draft) -> SignalAction:
    """`{signal: shipment, key: "{{ input.order }}", timeout: 7d, on_timeout: continue}`."""
    reader = steps.reader
    reader.known_keys(place, SIGNAL_KEYS)
    where = place.at("signal")
    name = reader.text(where)
    if name is not None and not is_name(name):
        message = f"{name[:100]!r} cannot be the name of a signal"
        reader.problems.add(ProblemCode.BAD_NAME, where, message, f"write {NAME_RULE}")
    key = reader.optional(place, "key")
    if key is not None and not isinstance(key.value, str | int):
        reader.wrong_type(key, "a text, or a template that gives one")
    timeout, on_timeout = _timeout(reader, place, (OnTimeout.FAIL, OnTimeout.CONTINUE))
    return SignalAction(name or "", None if key is None else steps.template(key, draft), timeout, on_timeout)


def read_approve(steps: StepReader, place: Place, draft: Draft) -> ApproveAction:
    """`{form: {type: object}, message: "Pay {{ … }}?", who: [ada], timeout: 24h, on_timeout: reject}`."""
    reader = steps.reader
    reader.known_keys(place, APPROVE_KEYS)
    form = reader.schema(reader.optional(place, "form")) or Schema.compile(True)
    message = reader.optional(place, "message")
    asks: Template | None = None
    if message is not None:
        asks = NOTHING if reader.text(message) is None else steps.template(message, draft)
    who = reader.optional(place, "who")
    if who is not None and not isinstance(who.value, str | list):
        reader.wrong_type(who, "a list of texts")
    choices = (OnTimeout.FAIL, OnTimeout.APPROVE, OnTimeout.REJECT)
    timeout, on_timeout = _timeout(reader, place, choices)
    return ApproveAction(form, asks, None if who is None else steps.template(who, draft), timeout, on_timeout)


def _timeout(
    reader: Reader, place: Place, choices: tuple[OnTimeout, ...]
) -> tuple[timedelta | None, OnTimeout]:
    """How long, and what then; `fail` unless something else is written."""
    limit = reader.optional(place, "timeout")
    timeout = None if limit is None else reader.duration(limit, SHORTEST_WAIT, LONGEST_WAIT)
    then = reader.optional(place, "on_timeout")
    text = reader.text(then)
    if then is None or text is None:
        return timeout, OnTimeout.FAIL
    if text not in choices:
        reader.bad_choice(then, text, choices)
        return timeout, OnTimeout.FAIL
    if limit is None:
        message = "on_timeout without timeout never happens: the step waits for ever"
        reader.problems.add(ProblemCode.MISSING_KEY, place, message, "write a timeout, such as 24h")
    return timeout, OnTimeout(text)
