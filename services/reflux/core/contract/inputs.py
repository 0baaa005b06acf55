"""What a step gives, against the input schemas of versions.

What is written in `with` is known as far as it holds no templates, and that much is judged exactly, by the
schema itself. A text with a template in it will be a text. What one template alone gives is anything: there
the new schema must take what a former one takes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from reflux.core.contract import schemas
from reflux.core.contract.finding import Finding, MisfitCode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from reflux.core.contract.finding import Version
    from reflux.core.contract.uses import NodeUse
    from reflux.core.document import JsonValue
    from reflux.core.errors import Violation
    from reflux.core.flow import Schema

_OPEN: Final = "{{"
_TEXT: Final = frozenset({"string"})


def input_findings(use: NodeUse, new: Version, old: Version | None) -> Iterator[Finding]:
    """Where `new` does not take what the step gives; without what `old` does not take either."""
    unknown = tuple(pointer for pointer, _ in templates(use.given))
    before = {} if old is None else {each.pointer: each for each in old.refused(use.given, unknown)}
    containers = {pointer for pointer, value in _places(use.given) if isinstance(value, dict | list)}
    for violation in new.refused(use.given, unknown):
        # About a container much may be wrong; about anything else it is wrong as it was.
        had = before.get(violation.pointer)
        if had is None or (violation.pointer in containers and had.message != violation.message):
            at = use.at + violation.pointer
            yield Finding(MisfitCode.INPUT_INVALID, at, violation.message, sure=True)
    if old is not None:
        yield from _compared(use.given, new.input, old.input, use.at)


def refused(schema: Schema, given: JsonValue, at: str) -> tuple[Violation, ...]:
    """Where what is written as an input does not fit, whatever its templates give.

    Pointers begin with `at`.
    """
    return schema.violations(given, at, tuple(pointer for pointer, _ in templates(given)))


def templates(value: JsonValue, at: str = "") -> Iterator[tuple[str, str]]:
    """Pointers to the texts whose value is not known before the run, with the texts."""
    for pointer, inner in _places(value, at):
        if isinstance(inner, str) and _OPEN in inner:
            yield pointer, inner


def _places(value: JsonValue, at: str = "") -> Iterator[tuple[str, JsonValue]]:
    yield at, value
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _places(inner, f"{at}/{key.replace('~', '~0').replace('/', '~1')}")
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _places(inner, f"{at}/{number}")


def _compared(given: JsonValue, new: JsonValue, old: JsonValue, at: str) -> Iterator[Finding]:
    """What the templates in `given` may give, place by place."""
    members: list[tuple[str | int, JsonValue]] = []
    if isinstance(given, str):
        if _OPEN in given and (found := narrower(new, old, _kinds(given))) is not None:
            message, sure = found
            yield Finding(MisfitCode.INPUT_NARROWER, at, message, sure=sure)
    elif isinstance(given, dict):
        members = list(given.items())
    elif isinstance(given, list):
        members = list(enumerate(given))
    for key, inner in members:
        now, before = schemas.part(new, key), schemas.part(old, key)
        # Where the new one takes nothing it says so itself; what the former one does not speak of it ignores.
        if now is not None and before is not None and before.named:
            step = str(key).replace("~", "~0").replace("/", "~1")
            yield from _compared(inner, now.schema, before.schema, f"{at}/{step}")


def _kinds(text: str) -> frozenset[str]:
    """The types that a text with templates may give."""
    alone = text.startswith(_OPEN) and text.endswith("}}")
    return schemas.EVERYTHING if alone else _TEXT


def narrower(
    new: JsonValue, old: JsonValue, within: frozenset[str] = schemas.EVERYTHING
) -> tuple[str, bool] | None:
    """What `new` refuses that `old` takes, of the types `within`, and whether nothing is left; None for
    nothing.
    """
    now, before = schemas.types(new) & within, schemas.types(old) & within
    if lost := before - now:
        said = f"it takes {schemas.spoken(now)} and no longer {schemas.spoken(lost)}"
        return said, not before & now
    listed, had = schemas.values(new), schemas.values(old)
    if listed is not None and (had is None or not had <= listed):
        shown = ", ".join(sorted(each.decode(errors="replace") for each in listed))
        return f"it takes nothing but {shown[:200]}", had is not None and not had & listed
    kept = schemas.demands(old)
    for word, asked in schemas.demands(new).items():
        for value in sorted(asked):
            if not schemas.is_kept(word, value, kept):
                return f"it asks for {word} {value.decode(errors='replace')[:200]}", False
    return _narrower_inside(new, old, now)


def _narrower_inside(new: JsonValue, old: JsonValue, now: frozenset[str]) -> tuple[str, bool] | None:
    parts: list[str | int] = []
    if "object" in now:
        if asked := sorted(schemas.required(new) - schemas.required(old)):
            return f"it must have the member {asked[0]}", False
        if schemas.is_closed(new) and not schemas.is_closed(old):
            known = ", ".join(sorted(schemas.names(new)))[:200]
            return f"it takes no members{' but ' if known else ''}{known}", False
        parts += sorted(schemas.names(old))
    if "array" in now:
        parts.append(0)
    for key in parts:
        inner, former = schemas.part(new, key), schemas.part(old, key)
        if former is None or (inner is not None and not inner.named):
            continue  # nobody gave it, or nothing is said against it: it goes no deeper
        where = f"of its member {key}" if isinstance(key, str) else "of its items"
        if inner is None:
            return f"it takes none {where}", False
        if found := narrower(inner.schema, former.schema):
            return f"{where}: {found[0]}", False
    return None
