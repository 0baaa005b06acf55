"""What people send with a word, read strictly by `reflux.orchestrator.bodies`."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final

from reflux.core.document import MAX_DOCUMENT_BYTES
from reflux.core.errors import InvalidArgument, Violation
from reflux.core.event import Choice
from reflux.core.names import NAME_RULE, RunId, StepPath, is_id, is_name, is_version
from reflux.core.reasons import Reason
from reflux.core.waits import MAX_KEY
from reflux.core.word import MAX_ID, Overrule, WordId
from reflux.orchestrator.bodies import Fields

if TYPE_CHECKING:
    from google.api.httpbody_pb2 import HttpBody  # type: ignore[import-untyped]

MAX_BY: Final = 100
"""Characters."""
MAX_STEP: Final = 1_000
RUN_ID_RULE: Final = "the id of a run (a UUID)"


def handle(given: Fields, name: str) -> WordId:
    """The sender's handle; one of ours when absent."""
    return WordId(given.text(name, most=MAX_ID) or secrets.token_hex(16))


def signal_name(text: str) -> str:
    """The name of a signal.

    Raises:
        InvalidArgument: it can be none.
    """
    if not is_name(text):
        raise _wrong("name", f"the name of a signal: {NAME_RULE}")
    return text


def signal_key(text: str) -> str:
    """A correlation key.

    Raises:
        InvalidArgument: it is empty.
    """
    if not text:
        raise _wrong("key", f"a text of 1 to {MAX_KEY} characters: what the waiting step's key gives")
    return text


def run_id_of(text: str, name: str = "run_id") -> RunId:
    """The id of a run, from the field of this name.

    Raises:
        InvalidArgument: it is none.
    """
    if not is_id(text):
        raise _wrong(name, RUN_ID_RULE)
    return RunId(text.lower())


def step_of(text: str) -> StepPath:
    """The path of a step.

    Raises:
        InvalidArgument: it can be none.
    """
    if not 0 < len(text) <= MAX_STEP or "\0" in text:
        raise _wrong("step", "the path of a step, such as pay or lines[3]/pay")
    return StepPath(text)


def completion(body: HttpBody, actor: str, step: StepPath) -> Overrule:
    """What becomes of a PARKED step.

    Raises:
        InvalidArgument: no such choice, or a field that does not go with it.
    """
    known = ("choice", "output", "version", "reason", "request_id")
    given = Fields.of(body, what="the completion", known=known)
    text, reason, word_id = given.text("choice"), given.text("reason"), handle(given, "request_id")
    output, version = given.anything("output", MAX_DOCUMENT_BYTES), given.text("version", most=MAX_ID)
    choices = [choice.value for choice in Choice if choice is not Choice.SKIP]
    if text not in choices:
        given.wrong("choice", f"one of {', '.join(choices)}")
    if output is not None and text != Choice.CONFIRM:
        given.wrong("output", "given with confirm only")
    if (text == Choice.FALL_BACK) != is_version(version) or (version and text != Choice.FALL_BACK):
        given.wrong("version", "the version that fall_back asks, such as 2.0.0, and given with it only")
    given.check()
    return Overrule(word_id, actor, step, Choice(text), reason, output=output, version=version)


def _wrong(name: str, wanted: str) -> InvalidArgument:
    message = f"{name}: this should be {wanted}"
    return InvalidArgument(Reason.ARGUMENT_INVALID, message, violations=[Violation(f"/{name}", message)])


def decision(body: HttpBody) -> tuple[WordId, str]:
    """The handle and the reason of what somebody decides.

    Raises:
        InvalidArgument: it is no Decision.
    """
    given = Fields.of(body, what="the decision", known=("reason", "request_id"))
    word_id, reason = handle(given, "request_id"), given.text("reason")
    given.check()
    return word_id, reason
