"""Steps that wait for somebody: for a signal, or for an answer to what they ask.

How long such a step waits, and what it waits for, is worked out once, when it begins, and journaled with it.
What ends it is one of three facts, and the first one in the journal stands: a signal or an answer that fits
(`take`, and `reflux.core.word`), its timeout (`waited`), or the end of what is around it.

A signal that nobody waits for yet is kept in the run's state, and a wait that begins later takes it at once.
A signal that came in time is taken even if the timeout is found at the same moment: what somebody was told of
is not lost to a clock.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from reflux.core import event as ev
from reflux.core.containers import gave_value
from reflux.core.document import NULL, Json, JsonValue
from reflux.core.event import StepState
from reflux.core.expression import Template
from reflux.core.flow.model import ApproveAction, OnTimeout, SignalAction
from reflux.core.names import StepPath
from reflux.core.reasons import Reason
from reflux.core.state import Awaited, RunState

MAX_KEY: Final = 200
"""Characters of a correlation key."""
MAX_ASKED: Final = 4_000
"""Characters of what an approval asks."""
MAX_WHO: Final = 20
"""People that an approval names, each of at most `MAX_KEY` characters."""
NO_ANSWER: Final = "nobody answered in time"


def listen(state: RunState, path: StepPath, action: SignalAction, now: datetime) -> ev.StepEntered:
    """The begin of a wait for a signal.

    Raises:
        ExpressionError: its key cannot be evaluated, or is no key.
    """
    key = ""
    if action.key is not None:
        value = action.key.evaluate(state.values_of(path))
        key = str(value) if isinstance(value, int) and not isinstance(value, bool) else value  # type: ignore[assignment]
        if not isinstance(key, str) or not 0 < len(key) <= MAX_KEY or "\0" in key:
            raise action.key.unfit(f"a key is a text of 1 to {MAX_KEY} characters, or a whole number", value)
    until = None if action.timeout is None else now + action.timeout
    return ev.StepEntered(path, (), now, until=until, key=key)


def ask(state: RunState, path: StepPath, action: ApproveAction, now: datetime) -> ev.StepEntered:
    """The begin of an approval.

    Raises:
        ExpressionError: its message, or who is to answer, cannot be evaluated, is no text, or too long.
    """
    until = None if action.timeout is None else now + action.timeout
    message = _message(action.message, state.values_of(path), path) if action.message else ""
    who = _who(action.who, state.values_of(path)) if action.who else ()
    return ev.StepEntered(path, (), now, until=until, message=message, who=who)


def said(message: JsonValue, path: StepPath) -> str:
    """What a step says to people; null does not hide what else it says."""
    if message is None:
        return f"step {path} gives no message: it is null; give a default with '??'"
    return message if isinstance(message, str) else Json.of(message).raw.decode()


def fits(signal: ev.SignalReceived, awaited: Awaited) -> bool:
    """Whether a wait takes a signal."""
    return signal.name == awaited.signal and signal.key in ("", awaited.key)


def take(state: RunState, now: datetime) -> ev.StepSettled | None:
    """The end of the longest wait for which a signal is there; of several signals it takes the first."""
    for path, awaited in state.awaited.items():
        for signal in state.signals.values():
            if fits(signal, awaited):
                # What the run holds does not grow: the signal leaves with the step that takes it.
                return ev.StepSettled(
                    path, StepState.SUCCEEDED, now, output=signal.payload, signal=signal.word
                )
    return None


def waited(state: RunState, path: StepPath, now: datetime) -> ev.StepSettled:
    """The end of a step whose time is over."""
    action = state.steps[path].step.action
    if not isinstance(action, SignalAction | ApproveAction):
        return ev.StepSettled(path, StepState.SUCCEEDED, now)
    match action.on_timeout:
        case OnTimeout.FAIL:
            what = f"no signal {action.name} came" if isinstance(action, SignalAction) else NO_ANSWER
            failure = ev.Failure("DEADLINE_EXCEEDED", Reason.TIMEOUT, f"{what} to {path}", step=path)
            return ev.StepSettled(path, StepState.FAILED, now, failure=failure)
        case OnTimeout.CONTINUE:
            return ev.StepSettled(path, StepState.SUCCEEDED, now, output=NULL)
        case OnTimeout.APPROVE | OnTimeout.REJECT as default:
            given = _given(default is OnTimeout.APPROVE, None, None, NO_ANSWER, now)
            return gave_value(state, path, given, now)


def answered(state: RunState, answer: ev.StepAnswered) -> ev.StepSettled:
    """The end of an approval by an answer. A rejection is an answer as good as the other: no failure."""
    output = _given(answer.approved, answer.form, answer.actor, answer.comment, answer.time)
    return gave_value(state, answer.step, output, answer.time)


def _given(approved: bool, form: Json | None, by: str | None, comment: str, at: datetime) -> JsonValue:  # noqa: FBT001
    return {
        "approved": approved,
        "form": None if form is None else form.value,
        "by": by,
        "at": at.isoformat().replace("+00:00", "Z"),
        "comment": comment,
    }


def _message(template: Template, values: Mapping[str, object], path: StepPath) -> str:
    given = template.document(values).value
    message = said(given, path)
    if len(message) > MAX_ASKED:
        raise template.unfit(f"a message has at most {MAX_ASKED} characters", given)
    return message


def _who(template: Template, values: Mapping[str, object]) -> tuple[str, ...]:
    who = template.evaluate(values)
    names = who if isinstance(who, list) else [who]
    fine = len(names) <= MAX_WHO and all(isinstance(name, str) and len(name) <= MAX_KEY for name in names)
    if not fine:
        raise template.unfit(f"who is a list of at most {MAX_WHO} texts of at most {MAX_KEY} characters", who)
    return tuple(map(str, names))
