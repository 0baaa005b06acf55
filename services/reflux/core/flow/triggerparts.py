"""What every kind of trigger has: an id, and an input made before there is a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from reflux.core.flow.problems import ProblemCode
from reflux.core.names import NAME_RULE, is_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from reflux.core.document import JsonValue
    from reflux.core.expression import Reference, Template
    from reflux.core.flow.problems import Path, Place, Problems
    from reflux.core.flow.reading import Reader


def read_id(reader: Reader, place: Place) -> str:
    """The id of the trigger at `place`; empty when it has none that may be one."""
    where = reader.required(place, "id")
    text = reader.text(where) or ""
    if where is not None and isinstance(where.value, str) and not is_name(text):
        message = f"{text[:100]!r} cannot be the id of a trigger"
        reader.problems.add(ProblemCode.BAD_NAME, where, message, f"write {NAME_RULE}")
        return ""
    return text


@dataclass(frozen=True, slots=True)
class InputScope:
    """What the input of a trigger may read: constants, and what has started the run."""

    variables: Mapping[str, JsonValue]
    root: str
    fields: Sequence[str] | None = None
    """Members of the root; None: any."""

    def check(self, problems: Problems, path: Path, reference: Reference) -> None:
        """Judge one read: there is `vars`, and the root, and no run yet."""
        name, *inner = reference.path
        field = str(inner[0]) if inner else None
        if name not in (self.root, "vars"):
            message = f"{str(name)[:100]!r} cannot be read here: there is no run yet"
            problems.add_unknown(ProblemCode.UNKNOWN_ROOT, path, message, str(name), (self.root, "vars"))
        elif field is None:
            return
        elif name == "vars" and reference.required > 1 and field not in self.variables:
            message = f"vars has no {field[:100]!r}"
            problems.add_unknown(ProblemCode.UNKNOWN_FIELD, path, message, field, self.variables)
        elif name == self.root and self.fields is not None and field not in self.fields:
            message = f"{self.root} has no {field[:100]!r}"
            problems.add_unknown(ProblemCode.UNKNOWN_FIELD, path, message, field, self.fields)


def read_input(reader: Reader, place: Place, scope: InputScope) -> Template | None:
    """The `input` of a trigger; None when it has none."""
    where = reader.optional(place, "input")
    if where is None:
        return None
    template = reader.template(where)
    for reference in template.references:
        scope.check(reader.problems, where.inside(reference.pointer).path, reference)
    return template
