"""How a saved flow changes: from the document of a request to the content of a version.

A flow with problems is never saved: the refusal has every one of them as a violation. An equal content makes
no new version. Changes are made to the version that was read; when somebody else was faster they are worked
out again on theirs, unless the caller said what it saw (`etag`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

import orjson

from reflux.core.errors import Conflict, InvalidArgument, Violation
from reflux.core.flow import DOCUMENT_KEYS, canonical, digest
from reflux.core.reasons import Reason
from reflux.orchestrator.flows.cache import flow_not_found
from reflux.orchestrator.flows.compiling import compile_document
from reflux.orchestrator.flows.store import Content
from reflux.runtime import documents

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from google.api.httpbody_pb2 import HttpBody  # type: ignore[import-untyped]

    from reflux.core.document import JsonValue
    from reflux.core.flow import CompileResult, Problem
    from reflux.core.flow.limits import Limits
    from reflux.core.flow.triggers import Trigger
    from reflux.orchestrator.flows.store import FlowStore, FlowSummary, StoredFlow

MAX_TRIES: Final = 3
"""Of a change that others get ahead of."""


@dataclass(frozen=True, slots=True)
class Saved:
    """A document that may be saved."""

    name: str
    content: Content
    triggers: tuple[Trigger, ...]
    """What the content declares."""
    limits: Limits
    """Those of the content."""
    request_digest: str = ""
    """Of everything that was asked to be saved."""


Change: TypeAlias = "Callable[[StoredFlow], Awaitable[Saved]]"
"""From a flow with its current version to what it is afterwards."""


def etag_of(flow: StoredFlow | FlowSummary) -> str:
    """Of a flow with its current version: another text after each change, and of each flow.

    More than the number of the version: a new name makes none, and a flow that is made anew begins at 1.
    """
    return digest([flow.id, flow.version, flow.name])[:32]


def read_document(body: HttpBody) -> JsonValue:
    """The document of a request.

    Raises:
        InvalidArgument: it cannot be read, or there is none.
    """
    document = documents.parse(body, what="the flow")
    if document is None:
        message = "there is no flow in this request: send it as the body"
        raise InvalidArgument(Reason.DOCUMENT_UNREADABLE, message)
    return document


async def judge(document: JsonValue, size: int) -> Saved:
    """What `document`, of `size` bytes, means as a version.

    Raises:
        InvalidArgument: FLOW_INVALID with every problem.
    """
    result = await compile_document(document, size)
    if result.flow is None or not isinstance(document, dict):
        raise _invalid(result)
    description = document.get("description", "")
    assert isinstance(description, str), "compiled"
    name, ui = result.flow.name, document.get("ui")
    content = Content(result.flow.digest, description, documents.dump(result.spec), documents.dump(ui))
    asked: JsonValue = {"name": name, "description": description, "spec": result.spec, "ui": ui}
    return Saved(name, content, result.flow.triggers, result.flow.limits, digest(asked))


async def apply_change(store: FlowStore, key: str, change: Change, *, etag: str, author: str) -> StoredFlow:
    """Make a change to the flow with this id or name, and return it as it is then.

    Raises:
        NotFound: there is no such flow.
        Conflict: `etag` is given and stale, or others were faster `MAX_TRIES` times.
        AlreadyExists: the new name, or a webhook's path, is taken.
        psycopg.Error: the database is away.
        RefluxError: whatever `change` raises.
    """
    for _ in range(MAX_TRIES):
        flow = await store.find(key)
        if flow is None:
            raise flow_not_found(key)
        if etag and etag != etag_of(flow):
            message = f"flow {flow.name} is not as you saw it any more: read it again"
            raise Conflict(Reason.ETAG_STALE, message, metadata={"etag": etag_of(flow)})
        saved = await change(flow)
        content = None if _equal(saved.content, flow.content) else saved.content
        if content is None and saved.name == flow.name:
            return flow
        if await store.save(flow, saved.name, content, author, triggers=saved.triggers, limits=saved.limits):
            return await _read_back(store, flow.id)
    raise Conflict(Reason.ETAG_STALE, "others change this flow at the same time: try again")


async def _read_back(store: FlowStore, flow_id: str) -> StoredFlow:
    flow = await store.find(flow_id)
    if flow is None:
        raise flow_not_found(flow_id)
    return flow


def merge(flow: StoredFlow, document: JsonValue, mask: str) -> JsonValue:
    """The flow's document with the fields of `mask` (default: those present) taken from `document`.

    A field that is named and not there is cleared. Keys that no flow has stay in, to be refused.

    Raises:
        InvalidArgument: `mask` names something else, or `document` is no object.
    """
    if not isinstance(document, dict):
        message = "a change of a flow is an object with the fields to change"
        raise InvalidArgument(Reason.FLOW_INVALID, message, violations=[Violation("", message)])
    fields = [part.strip() for part in mask.split(",")] if mask else [*document]
    unknown = [part for part in fields if part not in DOCUMENT_KEYS] if mask else []
    if unknown:
        message = f"update_mask names {unknown[0][:100]!r}: it may name {', '.join(DOCUMENT_KEYS)}"
        violation = Violation("update_mask", message)
        raise InvalidArgument(Reason.ARGUMENT_INVALID, message, violations=[violation])
    merged: dict[str, JsonValue] = {
        "name": flow.name,
        "description": flow.content.description,
        "spec": orjson.loads(flow.content.spec),
        "ui": orjson.loads(flow.content.ui),
    }
    for part in fields:
        if part in document:
            merged[part] = document[part]
        else:
            merged.pop(part, None)
    merged |= {key: value for key, value in document.items() if key not in DOCUMENT_KEYS}
    return merged


def size_of(document: JsonValue) -> int:
    """Bytes of a document that was put together here."""
    return len(canonical(document))


def _equal(one: Content, other: Content) -> bool:
    return (one.digest, one.description, one.ui) == (other.digest, other.description, other.ui)


def _invalid(result: CompileResult) -> InvalidArgument:
    first = result.problems[0]
    count = len(result.problems)
    problems = "a problem" if count == 1 else f"{count} problems, the first one"
    message = f"the flow has {problems} at {first.pointer or 'the top'}: {first.message}"
    metadata = {"problems": str(count), "code": first.code.value}
    violations = [_violation(problem) for problem in result.problems]
    return InvalidArgument(Reason.FLOW_INVALID, message, metadata=metadata, violations=violations)


def _violation(problem: Problem) -> Violation:
    hint = f" ({problem.hint})" if problem.hint else ""
    return Violation(problem.pointer, f"{problem.code}: {problem.message}{hint}")
