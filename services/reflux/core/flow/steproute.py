"""`route` beside a node: how this step's calls find their version. No other step is affected.

    route: { pin: 1.0.0 }                             that version, or none; as node: x@1.0.0
    route: { versions: { 1.0.0: 9000, 2.0.0: 1000 } } these shares, in place of the node's Route
    route: { sticky: "{{ input.order.customer }}" }   calls with this value stay with their version
    route: { fallback: [ 2.0.0, 3.0.0 ] }             who is asked, in this order, when that version cannot
    route: { tries: 3 }                               how often an attempt is tried at its version
    route: { try_timeout: 500ms }                     the limit of each try; shorter than the step's timeout

The versions are drawn in the order of their names, whatever order they are written in, so that a later
version of the flow which gives a canary more keeps its users. They are basis points and sum to 10,000. A call
goes to the version it was drawn for and falls back to no other, exactly as a pinned one: who names versions
for a step wants answers from them and from nobody else. Unless the step names others in `fallback`, which is
the whole chain then, whichever version is drawn; `fallback: []` is none, whatever the node's Route says.

`tries` and `try_timeout` hold for each version of the chain. A step that says none of the three, nor
versions, leaves all of it to the mesh. For every other one the orchestrator draws, pins and hands over: each
version is an attempt, and the next one is asked at once. Who is handed on follows from the effect class, as
everywhere (`reflux.core.attempt`).

The sticky value replaces the one that the node's Route names. Null stands for none: then each attempt draws
for itself. A field that is missing fails the step, as in every template; `{{ input.?customer }}` allows for
that.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from reflux.core.flow.durations import format_duration
from reflux.core.flow.model import NodeAction, StepRoute
from reflux.core.flow.problems import ProblemCode
from reflux.core.names import is_version
from reflux.core.route import MAX_TRIES, TOTAL_WEIGHT

if TYPE_CHECKING:
    from reflux.core.flow.model import Action
    from reflux.core.flow.problems import Place
    from reflux.core.flow.reading import Reader
    from reflux.core.flow.steps import Draft, StepReader

KEYS: Final = ("pin", "versions", "sticky", "fallback", "tries", "try_timeout")
MAX_VERSIONS: Final = 32
MAX_FALLBACK: Final = 15
"""Versions after the first one, as in a node's Route."""
SHORTEST_TRY: Final = timedelta(milliseconds=1)
LONGEST_TRY: Final = timedelta(hours=1)


def read_step_route(steps: StepReader, place: Place, draft: Draft, action: Action) -> StepRoute | None:
    """The `route` of a step that calls a node."""
    reader = steps.reader
    reader.known_keys(place, KEYS)
    pin, versions, sticky, fallback, tries, limit = (reader.optional(place, key) for key in KEYS)
    first = "the node" if isinstance(action, NodeAction) and action.version is not None else ""
    for key, where in (("pin", pin), ("versions", versions), ("sticky", sticky)):
        if where is None:
            continue
        if first:
            message = f"{first} pins a version already, and then there is nothing to choose"
            reader.problems.add(ProblemCode.MISPLACED_KEY, where, message, f"remove {key}, or the pin")
        elif key == "pin":
            first = "pin"
    pinned = None if pin is None else _version(reader, pin)
    asked = pinned or (action.version if isinstance(action, NodeAction) else None)
    return StepRoute(
        pin=pinned,
        versions=() if versions is None else _shares(reader, versions),
        sticky=None if sticky is None else steps.template(sticky, draft),
        fallback=None if fallback is None else _chain(reader, fallback, asked),
        tries=0 if tries is None else int(reader.number(tries, 1, MAX_TRIES, 1)),
        try_timeout=None if limit is None else _limit(reader, limit, draft),
    )


def _version(reader: Reader, place: Place) -> str | None:
    text = reader.text(place)
    if text is not None and not is_version(text):
        reader.problems.add(ProblemCode.BAD_NAME, place, f"{text[:100]!r} is no version", "such as 1.0.0")
        return None
    return text


def _chain(reader: Reader, place: Place, asked: str | None) -> tuple[str, ...]:
    """Versions in the order they are asked, each once; `asked` comes before them, where that is known."""
    items = reader.items(place, "a list of versions, in the order they are asked")
    if len(items) > MAX_FALLBACK:
        message = f"{len(items)} versions: there are at most {MAX_FALLBACK}"
        reader.problems.add(ProblemCode.LIMIT_EXCEEDED, place, message)
    chain: list[str] = [] if asked is None else [asked]
    for item in items[:MAX_FALLBACK]:
        version = _version(reader, item)
        if version is None:
            continue
        if version in chain:
            message = f"{version} comes twice in the chain {' → '.join([*chain, version])}"
            reader.problems.add(ProblemCode.BAD_VALUE, item, message, "list each version once")
            continue
        chain.append(version)
    return tuple(chain if asked is None else chain[1:])


def _limit(reader: Reader, place: Place, draft: Draft) -> timedelta | None:
    """The limit of a try. One that is not shorter than the attempt's would never end a try."""
    limit = reader.duration(place, SHORTEST_TRY, LONGEST_TRY)
    timeout = draft.step.timeout
    for name, whole in (("attempt", timeout.attempt), ("total", timeout.total)):
        if limit is not None and whole is not None and limit >= whole:
            message = f"a try of {format_duration(limit)} is not shorter than timeout.{name}"
            hint = f"make it less than {format_duration(whole)}"
            reader.problems.add(ProblemCode.BAD_VALUE, place, message, hint)
            break
    return limit


def _shares(reader: Reader, place: Place) -> tuple[tuple[str, int], ...]:
    """Versions with their basis points, by name."""
    given = reader.mapping(place, "an object {version: basis points}")
    if not 1 <= len(given) <= MAX_VERSIONS:
        message = f"{len(given)} versions: there are between 1 and {MAX_VERSIONS}"
        reader.problems.add(ProblemCode.LIMIT_EXCEEDED, place, message)
    shares = {}
    for version in sorted(given)[:MAX_VERSIONS]:
        if not is_version(version):
            where = (*place.path, version)
            reader.problems.add(
                ProblemCode.BAD_NAME, where, f"{version[:100]!r} is no version", "such as 1.0.0"
            )
        shares[version] = int(reader.number(place.at(version), 0, TOTAL_WEIGHT, 0))
    if given and sum(shares.values()) != TOTAL_WEIGHT:
        message = f"the shares sum to {sum(shares.values())}"
        hint = f"they are basis points and sum to {TOTAL_WEIGHT:,}"
        reader.problems.add(ProblemCode.BAD_VALUE, place, message, hint)
    return tuple(shares.items())
