"""Steps as they are written: lists of steps to scopes and drafts, before anything is known of their order.

A draft with a problem is still a draft: what could not be read is replaced by something harmless, so that the
checks that follow see every step. Nothing of it is used once there is a problem. What a step does is read by
`actions`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from reflux.core.flow import actions, besides
from reflux.core.flow.model import Join, NodeAction, OnError, Scope, ScopeId, Step
from reflux.core.flow.policies import read_retry, read_timeouts
from reflux.core.flow.problems import Path, Place, ProblemCode, pointer
from reflux.core.flow.reading import NEVER, NOTHING, Reader
from reflux.core.names import StepPath

if TYPE_CHECKING:
    from collections.abc import Iterable

    from reflux.core.expression import Expression, Reference, Template

MAX_STEPS: Final = 1_000
"""Of one flow, those in branches included."""

COMMON_KEYS: Final = ("id", "name", "needs", "join", "when", "on_error", "disabled", "notes")
PARTIAL_KEYS: Final = tuple(dict.fromkeys(key for keys in actions.KEYS_OF.values() for key in keys))
"""They go with some actions only."""

_UNREAD: Final = NodeAction("", None, NOTHING)  # stands for an action that could not be read


@dataclass(frozen=True, slots=True)
class Read:
    """Something that a step reads."""

    place: Path
    """Of the text."""
    reference: Reference
    roots: frozenset[str] = frozenset()
    """What may be read here beside what every step may read."""
    inside: bool = False
    """It is read when steps inside of the reader are over: those are there."""


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
    reads: list[Read] = field(default_factory=list)
    """What its own expressions read."""


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

    @property
    def reader(self) -> Reader:
        """Where values are read and problems go."""
        return self._reader

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
        timed = "timeout" in actions.KEYS_OF.get(kind or "", ())
        timeout = reader.optional(place, "timeout") if timed else None
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
        condition = None if when is None else self.condition(when, draft)
        action = actions.READERS[kind](self, place.at(kind), draft) if kind else _UNREAD
        beside = besides.read_besides(self, place, draft, kind, action)
        draft.step = replace(step, **{"when": condition, "action": action, **beside})
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
        """The step's action, when it has exactly one; judges the keys of the step."""
        keys = self._reader.mapping(place)
        named = [key for key in keys if key in actions.READERS]
        if "flow" in keys and not isinstance(keys.get("wait"), dict):
            named = [key for key in named if key != "wait"]  # here it says whether the run is waited for
        kind = named[0] if named else None
        fitting = actions.KEYS_OF.get(kind or "", () if kind else PARTIAL_KEYS)
        known = (*COMMON_KEYS, *actions.READERS, *PARTIAL_KEYS)
        self._reader.known_keys(place, known)
        for key in PARTIAL_KEYS:
            if key in keys and key not in fitting:
                message = f"{key} does not go with {kind}"
                self._problems.add(ProblemCode.MISPLACED_KEY, (*place.path, key), message)
        for key in named[1:]:
            message = f"a step has one action, and this one has {named[0]} already"
            self._problems.add(ProblemCode.SEVERAL_ACTIONS, (*place.path, key), message, "make it two steps")
        if not named:
            hint = f"give it one of: {', '.join(actions.READERS)}"
            self._problems.add(ProblemCode.NO_ACTION, place, "this step has no action", hint)
        return kind

    def _needs(self, place: Place | None) -> list[tuple[Place, str]] | None:
        if place is None:
            return None
        named = [(item, self._reader.text(item)) for item in self._reader.items(place, "a list of step ids")]
        return [(item, name) for item, name in named if name is not None]

    def condition(
        self, place: Place | None, draft: Draft, *, roots: Iterable[str] = (), inside: bool = False
    ) -> Expression:
        """A bool that the draft asks for; see `Read` for what it may read."""
        if place is None:
            return NEVER
        condition = self._reader.condition(place).placed(_within(place, draft))
        for reference in condition.references:
            draft.reads.append(Read(place.path, reference, frozenset(roots), inside))
        return condition

    def template(
        self, place: Place, draft: Draft, *, roots: Iterable[str] = (), inside: bool = False
    ) -> Template:
        """A value that the draft works out; see `Read` for what it may read."""
        template = self._reader.template(place)
        if template is not NOTHING:  # which is known by being it
            template = template.placed(_within(place, draft))
        for reference in template.references:
            where = place.inside(reference.pointer).path
            draft.reads.append(Read(where, reference, frozenset(roots), inside))
        return template


def _within(place: Place, draft: Draft) -> str:
    """Where in its step a text stands, as the errors of a run name it: `/cache/key`."""
    return pointer(place.path[len(draft.place.path) :])
