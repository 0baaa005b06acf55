"""From a document to a `Flow`, or to everything that is wrong with it.

The stages: limits, spelling, shape (`steps`, `policies`, `schema`), order, references, assembly. Every stage
runs even if a former one found problems, on what could be read; only the assembly needs a clean document.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from reflux.core.document import MAX_DEPTH, MAX_DOCUMENT_BYTES
from reflux.core.flow.limits import read_limits
from reflux.core.flow.model import Flow, FlowAction, ForeachAction, NodeAction, ScopeId, WhileAction
from reflux.core.flow.order import order_steps
from reflux.core.flow.outputreads import output_reads
from reflux.core.flow.policies import read_policies
from reflux.core.flow.problems import Path, Place, Problem, ProblemCode, Problems
from reflux.core.flow.reading import Reader
from reflux.core.flow.references import check_references
from reflux.core.flow.searchkey import read_search_key
from reflux.core.flow.spelling import rewrite
from reflux.core.flow.steps import Read, StepReader
from reflux.core.flow.subflows import read_on_failure, subflows_of
from reflux.core.flow.triggers import read_triggers
from reflux.core.names import NAME_RULE, UNDO, StepPath, is_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from reflux.core.document import JsonValue
    from reflux.core.expression import Template
    from reflux.core.flow.model import Step, Subflow
    from reflux.core.flow.order import Order
    from reflux.core.flow.outputreads import OutputRead
    from reflux.core.flow.steps import Draftbook
    from reflux.core.flow.triggers import Trigger

MAX_EXPRESSIONS: Final = 10_000
"""Of one document: compiling takes about 50 µs for each."""

MAX_DESCRIPTION: Final = 10_000
"""Characters."""

DOCUMENT_KEYS: Final = ("name", "description", "spec", "ui")
"""What a person writes of a flow."""
SERVER_KEYS: Final = ("id", "version", "digest", "etag", "create_time", "update_time")
"""What the server adds; a document that was read may be sent back as it is."""
_SPEC_KEYS: Final = ("input", "vars", "search_key", "triggers", "policies", "steps", "output")


@dataclass(frozen=True, slots=True)
class CompileResult:
    """What came of a document."""

    flow: Flow | None
    """None when there is a problem."""
    problems: tuple[Problem, ...]
    """Every problem, in document order."""
    spec: JsonValue
    """The spec in present spelling: what is saved. As it was sent where it could not be read."""
    calls: tuple[Step, ...] = ()
    """The steps that call a node, also when there are problems, as far as they could be read: for `plan`."""
    inputs: Mapping[StepPath, JsonValue] = field(default_factory=dict)
    """What was written as `with` of each of them, and of what begins a flow; absent without one."""
    triggers: tuple[Trigger, ...] = ()
    """The triggers, also when there are problems, as far as they could be read: for `plan`."""
    subflows: tuple[Subflow, ...] = ()
    """The flows it names, likewise."""
    reads: tuple[OutputRead, ...] = ()
    """What is read of the outputs of steps, likewise."""


def compile_flow(document: JsonValue) -> CompileResult:
    """Compile a document `{name, description?, spec, ui?}`. Never raises, whatever the document."""
    spec = document.get("spec") if isinstance(document, dict) else None
    origins: dict[Path, Path] = {}
    problems = Problems(document, origins)
    if _exceeds_limits(spec, problems):
        return CompileResult(None, problems.in_order(), spec)
    reader = Reader(problems)
    name, place = _read_document(reader, Place(document))
    if place is None:
        return CompileResult(None, problems.in_order(), spec)
    spec = rewrite(place, problems, origins)
    if _exceeds_limits(spec, problems):  # what is saved must be readable again
        return CompileResult(None, problems.in_order(), spec)
    return _compile_spec(reader, name, Place(spec, place.path))


def canonical(value: JsonValue) -> bytes:
    """JSON that is equal for equal values: sorted keys, no blanks, UTF-8."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode(errors="surrogatepass")


def digest(spec: JsonValue) -> str:
    """sha256 of the canonical spec, hexadecimal: what makes two versions the same."""
    return hashlib.sha256(canonical(spec)).hexdigest()


def _exceeds_limits(spec: JsonValue, problems: Problems) -> bool:
    """Whether a spec is too deep, too large, or has too many expressions to go on with it."""
    if _is_deeper(spec, MAX_DEPTH - 1):
        message = f"the flow has more than {MAX_DEPTH} levels"
    elif len(text := canonical(spec)) > MAX_DOCUMENT_BYTES:
        message = f"the spec has more than {MAX_DOCUMENT_BYTES:,} bytes"
    elif text.count(b"{{") > MAX_EXPRESSIONS:
        message = f"the spec has more than {MAX_EXPRESSIONS:,} expressions"
    else:
        return False
    problems.add(ProblemCode.LIMIT_EXCEEDED, ("spec",), message)
    return True


def _is_deeper(value: JsonValue, limit: int) -> bool:
    """Whether more than `limit` containers are nested; without recursion, which might not come back."""
    level = [value]
    for _ in range(limit + 1):
        containers = [item for item in level if isinstance(item, dict | list)]
        if not containers:
            return False
        level = [
            inner for item in containers for inner in (item.values() if isinstance(item, dict) else item)
        ]
    return True


def _read_document(reader: Reader, document: Place) -> tuple[str, Place | None]:
    """The flow's name and the place of its spec."""
    if not isinstance(document.value, dict):
        reader.wrong_type(document, "a flow: an object with name and spec")
        return "", None
    reader.known_keys(document, DOCUMENT_KEYS, ignored=SERVER_KEYS)
    where = reader.required(document, "name")
    name = reader.text(where) or ""
    if where is not None and isinstance(where.value, str) and not is_name(name):
        message = f"{name[:100]!r} cannot be the name of a flow"
        reader.problems.add(ProblemCode.BAD_NAME, where, message, f"write {NAME_RULE}; ids are no names")
    described = reader.optional(document, "description")
    if len(text := reader.text(described) or "") > MAX_DESCRIPTION or "\0" in text:
        message = f"a description has at most {MAX_DESCRIPTION:,} characters, none of them NUL"
        reader.problems.add(ProblemCode.BAD_VALUE, described or document, message)
    return name, reader.required(document, "spec")


def _compile_spec(reader: Reader, name: str, spec: Place) -> CompileResult:
    """What comes of a spec in present spelling."""
    reader.known_keys(spec, _SPEC_KEYS)
    schema = reader.schema(reader.optional(spec, "input"))
    constants = reader.optional(spec, "vars")
    variables = {} if constants is None else reader.constants(constants)
    triggers = read_triggers(reader, reader.optional(spec, "triggers"), variables)
    search_key = read_search_key(reader, reader.optional(spec, "search_key"))
    policies = reader.optional(spec, "policies")
    timeout, on_error = read_policies(reader, policies)
    limits = read_limits(reader, policies, variables)
    on_failure = read_on_failure(reader, policies)
    listed = reader.required(spec, "steps")
    if listed is not None and listed.value == []:
        reader.problems.add(ProblemCode.MISSING_KEY, listed, "a flow has at least one step")
    steps = StepReader(reader, on_error)
    steps.scope(listed)
    order = order_steps(steps.book, reader.problems)
    output, reads = _read_output(reader, reader.optional(spec, "output"))
    check_references(steps.book, order, variables, reader.problems, reads)
    assembled = _assemble(steps.book, order)
    calls = tuple(_calls(assembled.values()))
    inputs = _written_inputs(steps.book, calls, assembled.values())
    read = output_reads(steps.book, reads, reader.problems)
    subflows = (
        *subflows_of(assembled.values(), inputs),
        *([on_failure] if on_failure and on_failure.flow else []),
    )
    if reader.problems:
        found = reader.problems.in_order()
        return CompileResult(None, found, spec.value, calls, inputs, triggers, subflows, read)
    flow = Flow(
        name=name,
        digest=digest(spec.value),
        vars=variables,
        input_schema=schema,
        timeout=timeout,
        root=steps.book.scopes[ScopeId("")],
        scopes=steps.book.scopes,
        steps=assembled,
        triggers=triggers,
        limits=limits,
        output=output,
        on_failure=on_failure,
        search_key=search_key,
    )
    return CompileResult(flow, (), spec.value, calls, inputs, triggers, subflows, read)


def _calls(steps: Iterable[Step]) -> Iterator[Step]:
    """Everything that calls a node, what undoes a step after that step."""
    for step in steps:
        for each in (step, *([step.compensation] if step.compensation else [])):
            if isinstance(each.action, NodeAction) and each.action.node:
                yield each


def _written_inputs(
    book: Draftbook, calls: Iterable[Step], steps: Iterable[Step]
) -> dict[StepPath, JsonValue]:
    """What is written as `with` of the calls, and of the steps that begin a flow."""
    flows = (step for step in steps if isinstance(step.action, FlowAction))
    written = ((step, _written_input(book, step)) for step in (*calls, *flows))
    return {step.path: given.value for step, given in written if given is not None}


def _written_input(book: Draftbook, step: Step) -> Place | None:
    undone = step.path.removesuffix(UNDO)
    place = book.drafts[StepPath(undone)].place
    place = place if undone == step.path else place.at("compensate")
    return place.at("with") if isinstance(place.value, dict) and "with" in place.value else None


def _read_output(reader: Reader, place: Place | None) -> tuple[Template | None, list[Read]]:
    """What a run gives that ends without `return`, and what that reads."""
    if place is None:
        return None, []
    template = reader.template(place).placed("/output")
    return template, [Read(place.inside(each.pointer).path, each) for each in template.references]


def _assemble(book: Draftbook, order: Order) -> dict[StepPath, Step]:
    outside = _read_in_loops(book)
    for path, names in outside.items():
        step = book.drafts[path].step
        assert isinstance(step.action, ForeachAction | WhileAction)
        book.drafts[path].step = replace(step, action=replace(step.action, outside=frozenset(names)))
    dependants: dict[StepPath, list[StepPath]] = {path: [] for path in book.drafts}
    for path in book.drafts:
        for former in order.after[path]:
            dependants[former].append(path)
    return {
        path: replace(
            draft.step, after=order.after[path], join=order.join[path], dependants=tuple(dependants[path])
        )
        for path, draft in book.drafts.items()
    }


def _read_in_loops(book: Draftbook) -> dict[StepPath, set[str]]:
    """For each loop: the ids of all steps that are read by it and inside it."""
    found: dict[StepPath, set[str]] = {}
    for path, draft in book.drafts.items():
        around = [path]
        while (parent := book.drafts[around[-1]].step.parent) is not None:
            around.append(parent)
        loops = [
            each for each in around if isinstance(book.drafts[each].step.action, ForeachAction | WhileAction)
        ]
        names = {str(read.reference.path[1]) for read in draft.reads if len(read.reference.path) > 1}
        for loop in loops:
            found.setdefault(loop, set()).update(names)
    return found
