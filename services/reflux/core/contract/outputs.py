"""What a flow reads of a node's answer, against the output schemas of versions.

Here it is the wider schema that breaks: what a reader counted on is no longer there, no longer promised, or
of another type. What a flow reads with `.?`, `??` or behind `has()` may be missing, and it has provided for
that.
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
    from reflux.core.flow.outputreads import OutputRead

_NULL: Final = frozenset({"null"})


def output_findings(use: NodeUse, new: Version, old: Version | None) -> Iterator[Finding]:
    """Where `new` does not give what the flow reads; without what `old` does not give either."""
    for read in use.reads:
        found = _gone(read, new.output) if old is None else _compared(read, new.output, old.output)
        if found is not None:
            yield found


def missing(read: OutputRead, schema: JsonValue) -> str | None:
    """The part of the read that the schema rules out, and that must be there; None without one."""
    found = _gone(read, schema)
    return None if found is None else found.what


def _gone(read: OutputRead, schema: JsonValue) -> Finding | None:
    for depth, key in enumerate(read.path[: read.required]):
        now = schemas.part(schema, key)
        if now is None:
            return _finding(MisfitCode.OUTPUT_GONE, read, depth, "there is no {} in the output", sure=True)
        schema = now.schema
    return None


def _compared(read: OutputRead, new: JsonValue, old: JsonValue) -> Finding | None:
    for depth, key in enumerate(read.path):
        now, before = schemas.part(new, key), schemas.part(old, key)
        if before is None:
            return None
        must = depth < read.required
        if now is None:
            gone = "there is no {} in the output any more"
            return _finding(MisfitCode.OUTPUT_GONE, read, depth, gone, sure=True) if must else None
        if must and before.named and not now.named:
            unsaid = "the schema of the output does not speak of {} any more"
            return _finding(MisfitCode.OUTPUT_GONE, read, depth, unsaid, sure=False)
        if must and before.always and not now.always:
            return _finding(MisfitCode.OUTPUT_OPTIONAL, read, depth, "{} may be missing now", sure=False)
        new, old = now.schema, before.schema
    return _of_another_type(read, new, old)


def _of_another_type(read: OutputRead, new: JsonValue, old: JsonValue) -> Finding | None:
    now, before = schemas.types(new), schemas.types(old)
    more = now - before
    if read.required < len(read.path):
        more -= _NULL  # as good as missing
    if not more or not before:
        return None
    message = f"{{}} may be {schemas.spoken(more)} now, and was {schemas.spoken(before)}"
    return _finding(MisfitCode.OUTPUT_TYPE, read, len(read.path) - 1, message, sure=not now & before)


def _finding(code: MisfitCode, read: OutputRead, depth: int, message: str, *, sure: bool) -> Finding:
    what = "output"
    for key in read.path[: depth + 1]:
        what += f".{key}" if isinstance(key, str) else f"[{key}]"
    shown = what.removeprefix("output.") if depth >= 0 else "the output"
    return Finding(code, read.pointer, message.format(shown), sure=sure, what=what)
