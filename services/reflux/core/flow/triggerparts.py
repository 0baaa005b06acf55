"""What every kind of trigger has: an id, and an input made before there is a run."""

from __future__ import annotations

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


def read_input(
    reader: Reader,
    place: Place,
    variables: Mapping[str, JsonValue],
    root: str,
    fields: Sequence[str] | None,
) -> Template | None:
    """The `input` of a trigger that may read `vars` and `root`, whose members are `fields` (None: any)."""
    where = reader.optional(place, "input")
    if where is None:
        return None
    template = reader.template(where)
    for reference in template.references:
        path = where.inside(reference.pointer).path
        check_reference(reader.problems, path, reference, variables, root, fields)
    return template


def check_reference(
    problems: Problems,
    path: Path,
    reference: Reference,
    variables: Mapping[str, JsonValue],
    root: str,
    fields: Sequence[str] | None,
) -> None:
    """Judge one read of a trigger's input: there is `vars`, and `root`, and no run yet."""
    name, *inner = reference.path
    field = str(inner[0]) if inner else None
    if name not in (root, "vars"):
        message = f"{str(name)[:100]!r} cannot be read here: there is no run yet"
        problems.add_unknown(ProblemCode.UNKNOWN_ROOT, path, message, str(name), (root, "vars"))
    elif name == "vars" and field is not None and reference.required > 1 and field not in variables:
        message = f"vars has no {field[:100]!r}"
        problems.add_unknown(ProblemCode.UNKNOWN_FIELD, path, message, field, variables)
    elif name == root and fields is not None and field is not None and field not in fields:
        message = f"{root} has no {field[:100]!r}"
        problems.add_unknown(ProblemCode.UNKNOWN_FIELD, path, message, field, fields)
