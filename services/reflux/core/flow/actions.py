"""What steps do, as it is written: one function per action, each making a value of `model`.

A new action is a function here, its line in `READERS`, and the keys that go with it beside the action's own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from reflux.core.expression import compile_template
from reflux.core.flow import hookstep
from reflux.core.flow.asking import read_approve, read_signal
from reflux.core.flow.durations import LONGEST_WAIT, SHORTEST_WAIT, parse_moment
from reflux.core.flow.model import (
    Action,
    FailAction,
    ForeachAction,
    IfAction,
    ItemError,
    NodeAction,
    ParallelAction,
    ReturnAction,
    Scope,
    SetAction,
    SwitchAction,
    TryAction,
    WaitAction,
    WhileAction,
)
from reflux.core.flow.policies import CODES
from reflux.core.flow.problems import Place, ProblemCode
from reflux.core.flow.reading import NOTHING, only_expression
from reflux.core.flow.roots import INDEX, RESERVED_ROOTS
from reflux.core.flow.subflows import read_flow
from reflux.core.names import NAME_RULE, split_node

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from reflux.core.expression import Expression, Template
    from reflux.core.flow.steps import Draft, StepReader

    ReadAction = Callable[[StepReader, Place, Draft], Action]

MAX_BRANCHES: Final = 64
"""Of one container."""
MAX_ITERATIONS: Final = 10_000
"""Of one `while`; `foreach` is bounded by the steps of a run."""
MAX_PARALLEL: Final = 1_000
"""Iterations at once."""


def _node(steps: StepReader, place: Place, draft: Draft) -> Action:
    reader = steps.reader
    text = reader.text(place)
    name, version = "", None
    try:
        name, version = ("", None) if text is None else split_node(text)
    except ValueError as error:
        reader.problems.add(ProblemCode.BAD_NAME, place, str(error), f"a name is {NAME_RULE}")
    if name == hookstep.NODE:
        message = f"{hookstep.NODE} is no step: what starts runs is a trigger of the flow"
        hint = "write it in spec.triggers; only a first step of id, node and with is moved there"
        reader.problems.add(ProblemCode.BAD_VALUE, place, message, hint)
    given = reader.optional(draft.place, "with")
    if given is None:
        return NodeAction(name, version, compile_template({}))
    template = steps.template(given, draft)
    one = isinstance(given.value, str) and (only_expression(given.value) or template is NOTHING)
    if not isinstance(given.value, dict) and not one:
        reader.wrong_type(given, "an object, or one template that gives an object")
    return NodeAction(name, version, template)


def _if(steps: StepReader, place: Place, draft: Draft) -> Action:
    reader = steps.reader
    reader.known_keys(place, ("when", "then", "else"))
    condition = steps.condition(reader.required(place, "when"), draft)
    then = steps.scope(reader.required(place, "then"), draft.step.path, 0)
    return IfAction(condition, (then, steps.scope(reader.optional(place, "else"), draft.step.path, 1)))


def _switch(steps: StepReader, place: Place, draft: Draft) -> Action:
    reader = steps.reader
    cases = reader.items(place, "a list of cases")
    _check_count(steps, place, len(cases))
    conditions: list[Expression | None] = []
    branches: list[Scope] = []
    for number, case in enumerate(cases[:MAX_BRANCHES]):
        is_else = "else" in reader.mapping(case, "a case: {when, steps} or {else}")
        reader.known_keys(case, ("else",) if is_else else ("when", "steps"))
        if is_else and number < len(cases) - 1:
            message = "nothing comes after else"
            reader.problems.add(ProblemCode.BAD_VALUE, case, message, "make it the last case")
        when = None if is_else else reader.required(case, "when")
        conditions.append(None if is_else else steps.condition(when, draft))
        inner = reader.required(case, "else" if is_else else "steps")
        branches.append(steps.scope(inner, draft.step.path, number))
    return SwitchAction(tuple(conditions), tuple(branches))


def _parallel(steps: StepReader, place: Place, draft: Draft) -> Action:
    reader = steps.reader
    reader.known_keys(place, ("branches", "join"))
    inner = reader.required(place, "branches")
    named = {} if inner is None else reader.mapping(inner, "an object {name: list of steps}")
    branches: list[Scope] = []
    if inner is not None:
        _check_count(steps, inner, len(named))
        for number, name in enumerate(list(named)[:MAX_BRANCHES]):
            branch = inner.at(name)
            reader.identifier(Place(name, branch.path), "the name of a branch")
            branches.append(steps.scope(branch, draft.step.path, number))
    return ParallelAction(tuple(named), tuple(branches), _needed(steps, place, len(branches)))


def _needed(steps: StepReader, place: Place, count: int) -> int:
    """Branches that must succeed."""
    join = steps.reader.optional(place, "join")
    if join is None or join.value == "all":
        return count
    if join.value == "any":
        return 1
    if type(join.value) is int:
        return int(steps.reader.number(join, 1, max(1, count), count))
    steps.reader.bad_choice(join, str(join.value), ("all", "any", "a number of branches"))
    return count


def _check_count(steps: StepReader, place: Place, count: int) -> None:
    if not 1 <= count <= MAX_BRANCHES:
        message = f"{count} branches: there are between 1 and {MAX_BRANCHES}"
        steps.reader.problems.add(ProblemCode.LIMIT_EXCEEDED, place, message)


def _foreach(steps: StepReader, place: Place, draft: Draft) -> Action:
    reader = steps.reader
    reader.known_keys(place, ("in", "as", "parallel", "on_item_error"))
    given = reader.required(place, "in")
    items = NOTHING
    if given is not None:
        items = steps.template(given, draft)
        one = isinstance(given.value, str) and (only_expression(given.value) or items is NOTHING)
        if not isinstance(given.value, list) and not one:
            reader.wrong_type(given, "a list, or one template that gives a list")
    where = reader.required(place, "as")
    name = reader.identifier(where, "the name of an item") or "item"
    if where is not None and name in RESERVED_ROOTS:
        message = f"{name} means something else in expressions"
        reader.problems.add(ProblemCode.BAD_NAME, where, message, "call the item otherwise")
    body = _body(steps, reader.required(draft.place, "steps"), draft)
    result = reader.optional(draft.place, "result")
    return ForeachAction(
        items,
        name,
        int(reader.number(reader.optional(place, "parallel"), 1, MAX_PARALLEL, 1)),
        reader.choice(reader.optional(place, "on_item_error"), ItemError, ItemError.FAIL),
        None if result is None else steps.template(result, draft, roots=(name, INDEX), inside=True),
        body,
    )


def _while(steps: StepReader, place: Place, draft: Draft) -> Action:
    reader = steps.reader
    reader.known_keys(place, ("when", "max", "steps"))
    condition = steps.condition(reader.required(place, "when"), draft, roots=(INDEX,), inside=True)
    most = reader.required(place, "max")
    limit = int(reader.number(most, 1, MAX_ITERATIONS, MAX_ITERATIONS))
    body = _body(steps, reader.required(place, "steps"), draft)
    result = reader.optional(draft.place, "result")
    given = None if result is None else steps.template(result, draft, roots=(INDEX,), inside=True)
    return WhileAction(condition, limit, given, body)


def _body(steps: StepReader, place: Place | None, draft: Draft) -> Scope:
    if place is not None and place.value == []:
        steps.reader.problems.add(ProblemCode.MISSING_KEY, place, "a loop has at least one step")
    return steps.scope(place, draft.step.path, 0)


def _try(steps: StepReader, place: Place, draft: Draft) -> Action:
    reader = steps.reader
    reader.known_keys(place, ("steps", "catch", "finally"))
    body = steps.scope(reader.required(place, "steps"), draft.step.path, 0)
    caught, last = reader.optional(place, "catch"), reader.optional(place, "finally")
    if caught is None and last is None:
        message = "try without catch and finally does nothing"
        reader.problems.add(ProblemCode.MISSING_KEY, place, message, "give it one of them")
    conditions: list[Expression | None] = []
    handlers: list[Scope] = []
    cases = [] if caught is None else reader.items(caught, "a list of {when, steps}")
    if len(cases) > MAX_BRANCHES:
        _check_count(steps, place, len(cases))
    for number, case in enumerate(cases[:MAX_BRANCHES], start=1):
        reader.known_keys(case, ("when", "steps"))
        when = reader.optional(case, "when")
        asked = None if when is None else steps.condition(when, draft, roots=("error",), inside=True)
        conditions.append(asked)
        handlers.append(steps.scope(reader.required(case, "steps"), draft.step.path, number))
    final = None if last is None else steps.scope(last, draft.step.path, len(handlers) + 1)
    return TryAction(body, tuple(conditions), tuple(handlers), final)


def _wait(steps: StepReader, place: Place, draft: Draft) -> Action:
    reader = steps.reader
    if "signal" in reader.mapping(place):
        return read_signal(steps, place, draft)
    reader.known_keys(place, ("for", "until"))
    given = {key: reader.optional(place, key) for key in ("for", "until")}
    written = [key for key, found in given.items() if found is not None]
    if len(written) != 1:
        code = ProblemCode.SEVERAL_ACTIONS if written else ProblemCode.MISSING_KEY
        reader.problems.add(code, place, "wait has exactly one of for, until and signal")
    duration, until = (_time(steps, found, draft) for found in given.values())
    return WaitAction(duration, until if duration is None else None)


def _time(steps: StepReader, place: Place | None, draft: Draft) -> Template | None:
    """A time, checked at once when nothing is to be worked out."""
    if place is None:
        return None
    constant = not (isinstance(place.value, str) and "{{" in place.value)
    if constant and place.path[-1] == "for":
        steps.reader.duration(place, SHORTEST_WAIT, LONGEST_WAIT)
    elif steps.reader.text(place) is None:
        return NOTHING
    elif constant:
        try:
            parse_moment(place.value)
        except ValueError as error:
            steps.reader.problems.add(ProblemCode.BAD_VALUE, place, str(error))
    return steps.template(place, draft)


def _set(steps: StepReader, place: Place, draft: Draft) -> Action:
    steps.reader.mapping(place)
    return SetAction(steps.template(place, draft))


def _return(steps: StepReader, place: Place, draft: Draft) -> Action:
    return ReturnAction(steps.template(place, draft))


def _fail(steps: StepReader, place: Place, draft: Draft) -> Action:
    reader = steps.reader
    reader.known_keys(place, ("message", "code"))
    message = reader.required(place, "message")
    code = reader.text(reader.optional(place, "code"))
    if code is not None and code not in CODES:
        reader.bad_choice(place.at("code"), code, CODES)
    if message is None or reader.text(message) is None:
        return FailAction(NOTHING, code or "ABORTED")
    return FailAction(steps.template(message, draft), code or "ABORTED")


READERS: Final[Mapping[str, ReadAction]] = {
    "node": _node,
    "if": _if,
    "switch": _switch,
    "foreach": _foreach,
    "while": _while,
    "parallel": _parallel,
    "try": _try,
    "wait": _wait,
    "flow": read_flow,
    "approve": read_approve,
    "set": _set,
    "return": _return,
    "fail": _fail,
}
"""Every action, and who reads it."""
KEYS_OF: Final[Mapping[str, tuple[str, ...]]] = {
    "node": ("with", "retry", "timeout", "result", "effect", "compensate", "cache", "route", "credentials"),
    "if": ("result", "timeout", "compensate"),
    "switch": ("result", "timeout", "compensate"),
    "foreach": ("steps", "result", "timeout", "compensate"),
    "while": ("result", "timeout", "compensate"),
    "parallel": ("result", "timeout", "compensate"),
    "try": ("result", "timeout", "compensate"),
    "set": ("result",),
    "flow": ("with", "timeout", "result", "compensate"),
}
"""The keys of a step that go with its action."""
