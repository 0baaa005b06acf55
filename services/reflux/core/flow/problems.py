"""What is wrong with a document: every problem at once, each with a code, a place and what to do.

A place is a path of keys and indices; people and programs see it as a JSON pointer (RFC 6901) into the
document *they* sent. The compiler works on the rewritten document, so `Problems` is told where things were
before (`spelling`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final, TypeAlias

from reflux.core.flow.hints import HINTS
from reflux.core.similar import most_similar

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from reflux.core.document import JsonValue

Path: TypeAlias = tuple[str | int, ...]

MAX_PROBLEMS: Final = 200
"""More than a person reads; the last one then says that there are more."""


class ProblemCode(StrEnum):
    """The closed list of what can be wrong with a flow."""

    # The document's shape.
    UNKNOWN_KEY = "UNKNOWN_KEY"  # the language has no such key here
    MISPLACED_KEY = "MISPLACED_KEY"  # a key of the language that does not go with this action
    MISSING_KEY = "MISSING_KEY"
    TWO_SPELLINGS = "TWO_SPELLINGS"  # an older spelling beside the present one
    WRONG_TYPE = "WRONG_TYPE"
    BAD_VALUE = "BAD_VALUE"  # the right type, but not one of what is accepted
    BAD_NAME = "BAD_NAME"
    LIMIT_EXCEEDED = "LIMIT_EXCEEDED"  # too deep, too large or too many
    BAD_SCHEMA = "BAD_SCHEMA"  # `input`, or the form of a trigger, is no JSON Schema 2020-12
    BAD_SCHEDULE = "BAD_SCHEDULE"  # no cron expression, one that never fires, or no time zone

    # Steps.
    NO_ACTION = "NO_ACTION"
    SEVERAL_ACTIONS = "SEVERAL_ACTIONS"
    DUPLICATE_ID = "DUPLICATE_ID"
    PATH_TAKEN = "PATH_TAKEN"  # another webhook, here or in another flow, is served at this path
    CYCLE = "CYCLE"
    OTHER_LIST = "OTHER_LIST"  # `needs` names a step of another list
    RETURN_IN_PARALLEL = "RETURN_IN_PARALLEL"
    RETURN_IN_FOREACH = "RETURN_IN_FOREACH"
    RETURN_IN_TRY = "RETURN_IN_TRY"

    # Expressions.
    BAD_EXPRESSION = "BAD_EXPRESSION"  # cannot be compiled
    NOT_A_CONDITION = "NOT_A_CONDITION"  # anything but one expression where a bool is asked for
    TEMPLATE_NOT_ALLOWED = "TEMPLATE_NOT_ALLOWED"
    UNKNOWN_ROOT = "UNKNOWN_ROOT"
    UNKNOWN_FIELD = "UNKNOWN_FIELD"
    UNKNOWN_STEP = "UNKNOWN_STEP"
    STEP_NOT_BEFORE = "STEP_NOT_BEFORE"  # the step read does not surely come before
    MAY_BE_SKIPPED = "MAY_BE_SKIPPED"  # its output may be absent, and the reading does not provide for that

    # What only a running system knows (`plan`).
    UNKNOWN_NODE = "UNKNOWN_NODE"
    UNKNOWN_VERSION = "UNKNOWN_VERSION"
    NO_ROUTE = "NO_ROUTE"  # no version gets traffic
    UNKNOWN_CREDENTIAL = "UNKNOWN_CREDENTIAL"  # the node takes none in this slot
    SECRET_MISSING = "SECRET_MISSING"  # noqa: S105 - the environment has no such variable, or no key in it
    UNKNOWN_FLOW = "UNKNOWN_FLOW"
    FLOW_CYCLE = "FLOW_CYCLE"  # a flow begins a run of itself, through others or at once
    CACHE_NOT_PURE = "CACHE_NOT_PURE"  # `cache` of a call that may have an effect
    EFFECT_WEAKER = "EFFECT_WEAKER"  # `effect` allows less than the node's own class
    INPUT_INVALID = "INPUT_INVALID"  # a constant in `with` does not fit the input of the node or flow
    OUTPUT_UNKNOWN = "OUTPUT_UNKNOWN"  # what is read of a node's output is never there


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a document."""

    code: ProblemCode
    pointer: str
    """JSON pointer into the document as it was sent."""
    message: str
    hint: str = ""
    """What to do about it; made without one, it has the hint of its code."""

    def __post_init__(self) -> None:
        """Nobody is left without a hint."""
        if not self.hint:
            object.__setattr__(self, "hint", HINTS[self.code])


@dataclass(frozen=True, slots=True)
class Place:
    """A value of the document and where it stands."""

    value: JsonValue
    path: Path = ()

    def at(self, key: str | int) -> Place:
        """The member or item `key`, which exists."""
        return Place(self.value[key], (*self.path, key))  # type: ignore[index]

    def inside(self, pointer: str) -> Place:
        """The place that a JSON pointer names, as seen from here; it exists."""
        place = self
        for part in _parts(pointer):
            place = place.at(int(part) if isinstance(place.value, list) else part)
        return place


@dataclass(frozen=True, slots=True)
class _Guess:
    """A hint not made yet: comparing names costs more than everything else, and most is never shown."""

    word: str
    known: Collection[str]

    def text(self) -> str:
        return nearest(self.word, self.known)


class Problems:
    """Gathers problems in any order and gives them back in document order."""

    def __init__(self, document: JsonValue, origins: Mapping[Path, Path] | None = None) -> None:
        """`document` as it was sent; `origins` maps places that were moved to where they were in it."""
        self._document = document
        self._origins = {} if origins is None else origins
        self._found: dict[tuple[Path, ProblemCode, str], str | _Guess] = {}

    def add(self, code: ProblemCode, place: Place | Path, message: str, hint: str = "") -> None:
        """Record a problem; the same one twice is one."""
        path = place.path if isinstance(place, Place) else place
        self._found.setdefault((self.origin(path), code, message), hint)

    def add_unknown(
        self, code: ProblemCode, place: Place | Path, message: str, word: str, known: Collection[str]
    ) -> None:
        """Record that `word` is none of the `known`; the hint is the one it may be meant to be."""
        path = place.path if isinstance(place, Place) else place
        self._found.setdefault((self.origin(path), code, message), _Guess(word, known))

    def __bool__(self) -> bool:
        return bool(self._found)

    def in_order(self) -> tuple[Problem, ...]:
        """All of them by their place in the document, at most `MAX_PROBLEMS`."""
        rank = _Ranking(self._document)
        ranked = sorted(self._found.items(), key=lambda item: rank.of(item[0][0]))
        problems = [
            Problem(code, pointer(path), message, hint if isinstance(hint, str) else hint.text())
            for (path, code, message), hint in ranked[:MAX_PROBLEMS]
        ]
        if len(ranked) > MAX_PROBLEMS:
            more = f"{len(ranked) - MAX_PROBLEMS} more problems are not listed"
            problems.append(Problem(ProblemCode.LIMIT_EXCEEDED, "", more, "mend these first"))
        return tuple(problems)

    def pointer(self, path: Path) -> str:
        """JSON pointer of a place in the document as it was sent."""
        return pointer(self.origin(path))

    def origin(self, path: Path) -> Path:
        """Where in the document as it was sent stood what is at `path` now."""
        for length in range(len(path), 0, -1):
            before = self._origins.get(path[:length])
            if before is not None:
                return before + path[length:]
        return path


def in_document_order(document: JsonValue, problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """Problems from several sources by their place in the document."""
    rank = _Ranking(document)
    return tuple(sorted(problems, key=lambda problem: rank.of(_parts(problem.pointer))))


class _Ranking:
    """The position of every part of a path among its neighbours; what is not there comes last."""

    def __init__(self, document: JsonValue) -> None:
        self._document = document
        self._positions: dict[int, dict[str, int]] = {}

    def of(self, path: Path) -> tuple[int, ...]:
        ranks: list[int] = []
        value = self._document
        for key in path:
            if isinstance(value, dict):
                ranks.append(self._position(value, str(key)))
                value = value.get(str(key))
            elif isinstance(value, list) and str(key).isdecimal():
                ranks.append(int(key))
                value = value[int(key)] if int(key) < len(value) else None
            else:
                ranks.append(0)
                value = None
        return tuple(ranks)

    def _position(self, members: dict[str, JsonValue], key: str) -> int:
        known = self._positions.get(id(members))
        if known is None:
            known = self._positions[id(members)] = {name: n for n, name in enumerate(members)}
        return known.get(key, len(known))


def _parts(pointer_: str) -> tuple[str, ...]:
    return tuple(part.replace("~1", "/").replace("~0", "~") for part in pointer_.split("/")[1:])


def pointer(path: Path) -> str:
    """RFC 6901: `("spec", "steps", 0, "a/b")` is `/spec/steps/0/a~1b`."""
    return "".join("/" + str(key).replace("~", "~0").replace("/", "~1") for key in path)


def nearest(word: str, known: Collection[str]) -> str:
    """A hint that names the most similar of `known`, or all of a few; empty when there are many."""
    if (close := most_similar(word, known)) is not None:
        return f"did you mean {close}?"
    return f"one of: {', '.join(known)}" if 0 < len(known) <= 20 else ""
