"""Steps as they are written: lists of steps to scopes and drafts, before anything is known of their order.

A draft with a problem is still a draft: what could not be read is replaced by something harmless, so that the
checks that follow see every step. Nothing of it is used once there is a problem.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from reflux.core.expression import compile_template
from reflux.core.flow import hookstep
from reflux.core.flow.model import (
    Action,
    FailAction,
    IfAction,
    Join,
    NodeAction,
    OnError,
    ParallelAction,
    ReturnAction,
    Scope,
    ScopeId,
    SetAction,
    Step,
    SwitchAction,
)
from reflux.core.flow.policies import CODES, read_retry, read_timeouts
from reflux.core.flow.problems import Path, Place, ProblemCode
from reflux.core.flow.reading import NEVER, NOTHING, Reader, only_expression
from reflux.core.names import NAME_RULE, StepPath, split_node

if TYPE_CHECKING:
    from collections.abc import Callable

    from reflux.core.expression import Expression, Reference, Template

MAX_STEPS: Final = 1_000
"""Of one flow, those in branches included."""
MAX_BRANCHES: Final = 64
"""Of one container."""

CONTAINERS: Final = ("if", "switch", "parallel")
ACTIONS: Final = ("node", *CONTAINERS, "set", "return", "fail")
UNBUILT_ACTIONS: Final = ("foreach", "while", "try", "wait", "approve", "flow")
COMMON_KEYS: Final = ("id", "name", "needs", "join", "when", "on_error", "disabled", "notes")
UNBUILT_KEYS: Final = ("effect", "compensate", "route", "credentials", "cache", "result")
_KEYS_OF: Final = {"node": ("with", "retry", "timeout"), **dict.fromkeys(CONTAINERS, ("timeout",))}
_PARTIAL_KEYS: Final = ("with", "retry", "timeout")  # go with some actions only

_UNREAD: Final = NodeAction("", None, NOTHING)  # stands for an action that could not be read


@dataclass(slots=True)
class Draft:
    """A step that was read, and what is needed to find its place in the order."""

    step: Step
    """Complete but for `after`, `dependants` and `join`."""
    place: Place
    needs: list[tuple[Place, str]] | None
    """None: not written."""
    join: Join | None
    """None: not written."""
    reads: list[tuple[Path, Reference]] = field(default_factory=list)
    """What its own expressions read, each with the place of the text."""


@dataclass(slots=True)
class Draftbook:
    """Everything that was read; scopes and drafts in document order."""

    scopes: dict[ScopeId, Scope] = field(default_factory=dict)
    drafts: dict[StepPath, Draft] = field(default_factory=dict)


class StepReader:
    """Reads the steps of one flow into a `Draftbook`."""

    def __init__(self, reader: Reader, on_error: OnError) -> None:
        """`on_error` is the flow's default."""
        self.book = Draftbook()
        self._reader = reader
        self._problems = reader.problems
        self._on_error = on_error
        self._taken: dict[StepPath, Path] = {}
        self._full = False
        self._actions: dict[str, Callable[[Place, Draft], Action]] = {
            "node": self._node,
            "if": self._if,
            "switch": self._switch,
            "parallel": self._parallel,
            "set": self._set,
            "return": self._return,
            "fail": self._fail,
        }

    def scope(self, place: Place | None, container: StepPath | None = None, branch: int = 0) -> Scope:
        """Read a list of steps; without a place the scope is empty."""
        scope = Scope(ScopeId("" if container is None else f"{container}/{branch}"), container, branch, ())
        self.book.scopes[scope.id] = scope  # keeps its turn in the order
        steps = [] if place is None else self._reader.items(place, "a list of steps")
        paths = [self._step(step, scope) for step in steps if self._has_room(step)]
        full = replace(scope, steps=tuple(path for path in paths if path is not None))
        self.book.scopes[scope.id] = full
        return full

    def _has_room(self, step: Place) -> bool:
        if len(self._taken) < MAX_STEPS:
            return True
        if not self._full:
            message = f"a flow has at most {MAX_STEPS:,} steps"
            self._problems.add(ProblemCode.LIMIT_EXCEEDED, step, message)
        self._full = True
        return False

    def _step(self, place: Place, scope: Scope) -> StepPath | None:
        if not isinstance(place.value, dict):
            self._reader.wrong_type(place, "a step: an object with an id and an action")
            return None
        reader = self._reader
        path = self._claim(place)
        kind = self._kind(place)
        timeout = reader.optional(place, "timeout") if kind in {"node", *CONTAINERS} else None
        step = Step(
            path=path,
            pointer=self._problems.pointer(place.path),
            name=reader.text(reader.optional(place, "name")),
            action=_UNREAD,
            scope=scope.id,
            parent=scope.container,
            branch=scope.branch,
            after=(),
            dependants=(),
            join=Join.ALL_DONE,
            when=None,
            retry=read_retry(reader, reader.optional(place, "retry") if kind == "node" else None),
            timeout=read_timeouts(reader, timeout, container=kind != "node"),
            on_error=reader.choice(reader.optional(place, "on_error"), OnError, self._on_error),
            disabled=reader.boolean(reader.optional(place, "disabled")),
        )
        reader.text(reader.optional(place, "notes"))
        join = reader.optional(place, "join")
        draft = Draft(
            step,
            place,
            needs=self._needs(reader.optional(place, "needs")),
            join=None if join is None else reader.choice(join, Join, Join.ALL_SUCCESS),
        )
        self.book.drafts[path] = draft
        when = reader.optional(place, "when")
        condition = None if when is None else self._condition(when, draft)
        action = self._actions[kind](place.at(kind), draft) if kind else _UNREAD
        draft.step = replace(step, when=condition, action=action)
        return path

    def _claim(self, place: Place) -> StepPath:
        """The step's id; for one without a usable id a path that nothing can name."""
        where = self._reader.required(place, "id")
        name = self._reader.identifier(where, "the id of a step")
        path = StepPath(f"?{len(self._taken)}" if name is None else name)
        if path in self._taken:
            first = self._problems.pointer(self._taken[path])
            message = f"the id {path} is taken by {first}"
            self._problems.add(
                ProblemCode.DUPLICATE_ID, (*place.path, "id"), message, "ids are unique in a flow"
            )
            path = StepPath(f"?{len(self._taken)}")
        self._taken[path] = place.path
        return path

    def _kind(self, place: Place) -> str | None:
        """The step's action, when it has exactly one and that is built; judges the keys of the step."""
        keys = self._reader.mapping(place)
        actions = [key for key in keys if key in ACTIONS or key in UNBUILT_ACTIONS]
        unbuilt = [key for key in actions if key in UNBUILT_ACTIONS]
        for key in unbuilt:
            self._reader.unbuilt((*place.path, key), key)
        kind = actions[0] if actions and not unbuilt else None
        fitting = _KEYS_OF.get(kind or "", () if kind else _PARTIAL_KEYS)
        known = (*COMMON_KEYS, *ACTIONS, *_PARTIAL_KEYS)
        inner = ("steps",) if unbuilt else ()  # belongs to the unbuilt action
        self._reader.known_keys(place, known, UNBUILT_KEYS, ignored=(*UNBUILT_ACTIONS, *inner))
        for key in _PARTIAL_KEYS:
            if key in keys and key not in fitting:
                message = f"{key} does not go with {kind}"
                self._problems.add(ProblemCode.MISPLACED_KEY, (*place.path, key), message)
        for key in actions[1:]:
            message = f"a step has one action, and this one has {actions[0]} already"
            self._problems.add(ProblemCode.SEVERAL_ACTIONS, (*place.path, key), message, "make it two steps")
        if not actions:
            hint = f"give it one of: {', '.join(ACTIONS)}"
            self._problems.add(ProblemCode.NO_ACTION, place, "this step has no action", hint)
        return kind

    def _needs(self, place: Place | None) -> list[tuple[Place, str]] | None:
        if place is None:
            return None
        named = [(item, self._reader.text(item)) for item in self._reader.items(place, "a list of step ids")]
        return [(item, name) for item, name in named if name is not None]

    # -- expressions -------------------------------------------------------------------------------

    def _condition(self, place: Place | None, draft: Draft) -> Expression:
        if place is None:
            return NEVER
        condition = self._reader.condition(place)
        draft.reads += [(place.path, reference) for reference in condition.references]
        return condition

    def _template(self, place: Place, draft: Draft) -> Template:
        template = self._reader.template(place)
        for reference in template.references:
            draft.reads.append((place.inside(reference.pointer).path, reference))
        return template

    # -- actions -----------------------------------------------------------------------------------

    def _node(self, place: Place, draft: Draft) -> Action:
        text = self._reader.text(place)
        name, version = "", None
        try:
            name, version = ("", None) if text is None else split_node(text)
        except ValueError as error:
            self._problems.add(ProblemCode.BAD_NAME, place, str(error), f"a name is {NAME_RULE}")
        if name == hookstep.NODE:
            message = f"{hookstep.NODE} is no step: what starts runs is a trigger of the flow"
            hint = "write it in spec.triggers; only a first step of id, node and with is moved there"
            self._problems.add(ProblemCode.BAD_VALUE, place, message, hint)
        given = self._reader.optional(draft.place, "with")
        if given is None:
            return NodeAction(name, version, compile_template({}))
        template = self._template(given, draft)
        one = isinstance(given.value, str) and (only_expression(given.value) or template is NOTHING)
        if not isinstance(given.value, dict) and not one:
            self._reader.wrong_type(given, "an object, or one template that gives an object")
        return NodeAction(name, version, template)

    def _if(self, place: Place, draft: Draft) -> Action:
        self._reader.known_keys(place, ("when", "then", "else"))
        condition = self._condition(self._reader.required(place, "when"), draft)
        then = self.scope(self._reader.required(place, "then"), draft.step.path, 0)
        return IfAction(
            condition, (then, self.scope(self._reader.optional(place, "else"), draft.step.path, 1))
        )

    def _switch(self, place: Place, draft: Draft) -> Action:
        cases = self._reader.items(place, "a list of cases")
        self._check_count(place, len(cases))
        conditions: list[Expression | None] = []
        branches: list[Scope] = []
        for number, case in enumerate(cases[:MAX_BRANCHES]):
            is_else = "else" in self._reader.mapping(case, "a case: {when, steps} or {else}")
            self._reader.known_keys(case, ("else",) if is_else else ("when", "steps"))
            if is_else and number < len(cases) - 1:
                message = "nothing comes after else"
                self._problems.add(ProblemCode.BAD_VALUE, case, message, "make it the last case")
            when = None if is_else else self._reader.required(case, "when")
            conditions.append(None if is_else else self._condition(when, draft))
            steps = self._reader.required(case, "else" if is_else else "steps")
            branches.append(self.scope(steps, draft.step.path, number))
        return SwitchAction(tuple(conditions), tuple(branches))

    def _parallel(self, place: Place, draft: Draft) -> Action:
        self._reader.known_keys(place, ("branches", "join"))
        join = self._reader.optional(place, "join")
        if join is not None and (join.value == "any" or type(join.value) is int):
            self._reader.unbuilt(join.path, f"parallel with join: {join.value}")
        elif join is not None and join.value != "all":
            self._reader.bad_choice(join, str(join.value), ("all",))
        inner = self._reader.required(place, "branches")
        named = {} if inner is None else self._reader.mapping(inner, "an object {name: list of steps}")
        branches: list[Scope] = []
        if inner is not None:
            self._check_count(inner, len(named))
            for number, name in enumerate(list(named)[:MAX_BRANCHES]):
                branch = inner.at(name)
                self._reader.identifier(Place(name, branch.path), "the name of a branch")
                branches.append(self.scope(branch, draft.step.path, number))
        return ParallelAction(tuple(named), tuple(branches))

    def _check_count(self, place: Place, count: int) -> None:
        if not 1 <= count <= MAX_BRANCHES:
            message = f"{count} branches: there are between 1 and {MAX_BRANCHES}"
            self._problems.add(ProblemCode.LIMIT_EXCEEDED, place, message)

    def _set(self, place: Place, draft: Draft) -> Action:
        self._reader.mapping(place)
        return SetAction(self._template(place, draft))

    def _return(self, place: Place, draft: Draft) -> Action:
        return ReturnAction(self._template(place, draft))

    def _fail(self, place: Place, draft: Draft) -> Action:
        self._reader.known_keys(place, ("message", "code"))
        message = self._reader.required(place, "message")
        code = self._reader.text(self._reader.optional(place, "code"))
        if code is not None and code not in CODES:
            self._reader.bad_choice(place.at("code"), code, CODES)
        if message is None or self._reader.text(message) is None:
            return FailAction(NOTHING, code or "ABORTED")
        return FailAction(self._template(message, draft), code or "ABORTED")
