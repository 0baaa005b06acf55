"""`route` beside a node: how this step's calls find their version. No other step is affected.

    route: { pin: 1.0.0 }                             that version, or none; as node: x@1.0.0
    route: { versions: { 1.0.0: 9000, 2.0.0: 1000 } } these shares, in place of the node's Route
    route: { sticky: "{{ input.order.customer }}" }   calls with this value stay with their version

The versions are drawn in the order of their names, whatever order they are written in, so that a later
version of the flow which gives a canary more keeps its users. They are basis points and sum to 10,000. A call
goes to the version it was drawn for and falls back to no other, exactly as a pinned one: who names versions
for a step wants answers from them and from nobody else.

The sticky value replaces the one that the node's Route names. Null stands for none: then each attempt draws
for itself. A field that is missing fails the step, as in every template; `{{ input.?customer }}` allows for
that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from reflux.core.flow.model import NodeAction, StepRoute
from reflux.core.flow.problems import ProblemCode
from reflux.core.names import is_version
from reflux.core.route import TOTAL_WEIGHT

if TYPE_CHECKING:
    from reflux.core.flow.model import Action
    from reflux.core.flow.problems import Place
    from reflux.core.flow.reading import Reader
    from reflux.core.flow.steps import Draft, StepReader

KEYS: Final = ("pin", "versions", "sticky")
UNBUILT: Final = ("fallback", "tries", "try_timeout")
MAX_VERSIONS: Final = 32


def read_step_route(steps: StepReader, place: Place, draft: Draft, action: Action) -> StepRoute | None:
    """The `route` of a step that calls a node."""
    reader = steps.reader
    reader.known_keys(place, KEYS, UNBUILT)
    pin, versions, sticky = (reader.optional(place, key) for key in KEYS)
    first = "the node" if isinstance(action, NodeAction) and action.version is not None else ""
    for key, where in (("pin", pin), ("versions", versions), ("sticky", sticky)):
        if where is None:
            continue
        if first:
            message = f"{first} pins a version already, and then there is nothing to choose"
            reader.problems.add(ProblemCode.MISPLACED_KEY, where, message, f"remove {key}, or the pin")
        elif key == "pin":
            first = "pin"
    return StepRoute(
        pin=None if pin is None else _version(reader, pin),
        versions=() if versions is None else _shares(reader, versions),
        sticky=None if sticky is None else steps.template(sticky, draft),
    )


def _version(reader: Reader, place: Place) -> str | None:
    text = reader.text(place)
    if text is not None and not is_version(text):
        reader.problems.add(ProblemCode.BAD_NAME, place, f"{text[:100]!r} is no version", "such as 1.0.0")
        return None
    return text


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
