"""Triggers that a person fires, read: `type: manual`.

triggers:
  - id: refund
    type: manual
    title: Refund an order
    description: Gives the money back.
    form: { type: object, required: [order], properties: { order: { type: string } } }
    input: { order: "{{ form.order }}", by: hand }

`form` is the JSON Schema of what the person fills in; what does not fit it starts nothing. Without one,
anything may be sent. The input of the run is the trigger's `input`, over the roots `form` and `vars`; without
one it is what the person sent, `{}` if nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from reflux.core.flow.problems import ProblemCode
from reflux.core.flow.triggerparts import InputScope, read_id, read_input

if TYPE_CHECKING:
    from collections.abc import Mapping

    from reflux.core.document import JsonValue
    from reflux.core.expression import Template
    from reflux.core.flow.problems import Place
    from reflux.core.flow.reading import Reader
    from reflux.core.flow.schema import Schema

MANUAL_TYPE: Final = "manual"
MANUAL_KEYS: Final = ("id", "type", "title", "description", "form", "input")
MAX_TITLE: Final = 200
MAX_DESCRIPTION: Final = 2_000
"""Characters."""


@dataclass(frozen=True, slots=True)
class Manual:
    """A trigger of type manual."""

    id: str
    pointer: str
    """JSON pointer of the trigger in the document as it was sent."""
    title: str
    description: str
    form: Schema | None
    """Of what the person sends; None: anything."""
    input: Template | None
    """None: what the person sent."""


def read_manual(reader: Reader, place: Place, variables: Mapping[str, JsonValue]) -> Manual:
    """The trigger at `place`."""
    reader.known_keys(place, MANUAL_KEYS)
    return Manual(
        id=read_id(reader, place),
        pointer=reader.problems.pointer(place.path),
        title=_text(reader, place, "title", MAX_TITLE),
        description=_text(reader, place, "description", MAX_DESCRIPTION),
        form=reader.schema(reader.optional(place, "form")),
        input=read_input(reader, place, InputScope(variables, "form")),
    )


def _text(reader: Reader, place: Place, key: str, limit: int) -> str:
    where = reader.optional(place, key)
    text = reader.text(where) or ""
    if where is not None and (len(text) > limit or "\0" in text):
        message = f"{key} has at most {limit:,} characters, none of them NUL"
        reader.problems.add(ProblemCode.BAD_VALUE, where, message)
        return ""
    return text
