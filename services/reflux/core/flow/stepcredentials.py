"""`credentials` beside a node: with what the calls of this step prove who they come from.

    credentials: shop-api                        for the one place that the node has for a credential
    credentials: { openai: team-a, local: lab }  by the place, which the node names: its *slot*

A credential is named and never written: what is behind the name lies where the node runs, and is looked up
there for each call. So names are plain text and no templates: which secret is used for what stands in the
flow, where it can be reviewed, and no input of a run chooses it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from reflux.core.flow.problems import ProblemCode
from reflux.core.names import NAME_RULE, is_name

if TYPE_CHECKING:
    from reflux.core.flow.problems import Place
    from reflux.core.flow.reading import Reader

MAX_CREDENTIALS: Final = 16
"""Of one step."""


def read_credentials(reader: Reader, place: Place) -> tuple[tuple[str, str], ...]:
    """Slots with the names of what is in them, by slot; the slot "" is the node's default one."""
    if isinstance(place.value, str):
        return (("", place.value),) if _named(reader, place) else ()
    given = reader.mapping(place, "the name of a credential, or an object {slot: name}")
    if isinstance(place.value, dict) and not 1 <= len(given) <= MAX_CREDENTIALS:
        message = f"{len(given)} credentials: there are between 1 and {MAX_CREDENTIALS}"
        reader.problems.add(ProblemCode.LIMIT_EXCEEDED, place, message)
    found = []
    for slot in sorted(given)[:MAX_CREDENTIALS]:
        where = place.at(slot)
        if not is_name(slot):
            message = f"{slot[:100]!r} is the name of no slot"
            reader.problems.add(ProblemCode.BAD_NAME, where, message, f"a name is {NAME_RULE}")
        elif _named(reader, where):
            found.append((slot, str(where.value)))
    return tuple(found)


def _named(reader: Reader, place: Place) -> bool:
    text = reader.text(place)
    if text is None or is_name(text):
        return text is not None
    if "{{" in text:
        message = "the name of a credential is plain text: nothing is evaluated here"
        hint = "write the name; another credential is another step"
        reader.problems.add(ProblemCode.TEMPLATE_NOT_ALLOWED, place, message, hint)
    else:
        # What is no name may be the secret itself, which no message repeats.
        message = "this is no name of a credential"
        hint = f"write its name, never the secret; a name is {NAME_RULE}"
        reader.problems.add(ProblemCode.BAD_NAME, place, message, hint)
    return False
