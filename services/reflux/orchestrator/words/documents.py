"""What people send with a word, read strictly: each field with its type and bound, nothing beside them."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final

import orjson

from reflux.core.document import Json, JsonValue
from reflux.core.errors import InvalidArgument, Violation
from reflux.core.event import Choice
from reflux.core.names import NAME_RULE, RunId, StepPath, is_id, is_name, is_version
from reflux.core.reasons import Reason
from reflux.core.waits import MAX_KEY
from reflux.core.word import MAX_ID, MAX_PAYLOAD_BYTES, Overrule, WordId
from reflux.runtime import documents

if TYPE_CHECKING:
    from collections.abc import Collection

    from google.api.httpbody_pb2 import HttpBody  # type: ignore[import-untyped]

MAX_REASON: Final = 1_000
"""Characters."""
MAX_BY: Final = 100
MAX_STEP: Final = 1_000


class Fields:
    """The fields of one document. What is wrong raises InvalidArgument with the place."""

    def __init__(self, body: HttpBody, what: str, known: Collection[str]) -> None:
        """An empty body is an object without fields."""
        value = documents.parse(body, what=what)
        document = {} if value is None else value
        if not isinstance(document, dict):
            raise InvalidArgument(Reason.ARGUMENT_INVALID, f"{what} is an object")
        if unknown := [key for key in document if key not in known]:
            message = f"{what} has no field {unknown[0][:100]!r}; it has {', '.join(known)}"
            raise InvalidArgument(
                Reason.ARGUMENT_INVALID, message, violations=[Violation(f"/{unknown[0][:100]}", message)]
            )
        self._document: dict[str, JsonValue] = document

    def text(self, name: str, limit: int) -> str:
        """A text; empty when absent."""
        value = self._document.get(name, "")
        if not isinstance(value, str) or len(value) > limit or "\0" in value:
            raise _wrong(name, f"a text of at most {limit} characters")
        return value

    def boolean(self, name: str) -> bool:
        """True or false, which must be there."""
        value = self._document.get(name)
        if not isinstance(value, bool):
            raise _wrong(name, "true or false, and must be there")
        return value

    def json(self, name: str, limit: int = MAX_PAYLOAD_BYTES) -> Json | None:
        """Any value; None when absent."""
        if name not in self._document:
            return None
        document = Json(orjson.dumps(self._document[name]))
        if len(document.raw) > limit:
            message = f"{name} is {len(document.raw)} bytes; the limit is {limit}"
            raise InvalidArgument(
                Reason.DOCUMENT_TOO_LARGE, message, violations=[Violation(f"/{name}", message)]
            )
        return document

    def id(self, name: str) -> WordId:
        """The sender's handle; one of ours when absent."""
        return WordId(self.text(name, MAX_ID) or secrets.token_hex(16))


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


def run_id_of(text: str) -> RunId:
    """The id of a run.

    Raises:
        InvalidArgument: it is none.
    """
    if not is_id(text):
        raise _wrong("run_id", "the id of a run (a UUID)")
    return RunId(text)


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
    given = Fields(body, "the completion", known)
    text = given.text("choice", MAX_ID)
    choices = [choice.value for choice in Choice if choice is not Choice.SKIP]
    if text not in choices:
        raise _wrong("choice", f"one of {', '.join(choices)}")
    choice, output = Choice(text), given.json("output", 1 << 20)
    version = given.text("version", MAX_ID)
    if output is not None and choice is not Choice.CONFIRM:
        raise _wrong("output", "given with confirm only")
    if (choice is Choice.FALL_BACK) != is_version(version) or (version and choice is not Choice.FALL_BACK):
        raise _wrong("version", "the version that fall_back asks, such as 2.0.0, and given with it only")
    reason = given.text("reason", MAX_REASON)
    return Overrule(given.id("request_id"), actor, step, choice, reason, output=output, version=version)


def _wrong(name: str, wanted: str) -> InvalidArgument:
    message = f"{name}: this should be {wanted}"
    return InvalidArgument(Reason.ARGUMENT_INVALID, message, violations=[Violation(f"/{name}", message)])


def decision(body: HttpBody) -> tuple[WordId, str]:
    """The handle and the reason of what somebody decides.

    Raises:
        InvalidArgument: it is no Decision.
    """
    given = Fields(body, "the decision", ("reason", "request_id"))
    return given.id("request_id"), given.text("reason", MAX_REASON)
