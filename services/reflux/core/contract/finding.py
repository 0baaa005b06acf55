"""What is compared, and what is found."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Self

from reflux.core.flow.schema import Schema, SchemaProblem, written_out

if TYPE_CHECKING:
    from collections.abc import Collection

    from reflux.core.document import JsonValue
    from reflux.core.errors import Violation


class MisfitCode(StrEnum):
    """What of the contract a version does not keep. For programs; stable."""

    INPUT_INVALID = "INPUT_INVALID"  # it refuses what is written in the step
    INPUT_NARROWER = "INPUT_NARROWER"  # it refuses some of what the step may give
    OUTPUT_GONE = "OUTPUT_GONE"  # its output has no such member, or no longer promises one
    OUTPUT_OPTIONAL = "OUTPUT_OPTIONAL"  # the member may be missing
    OUTPUT_TYPE = "OUTPUT_TYPE"  # the member may be of another type


@dataclass(frozen=True, slots=True)
class Version:
    """The schemas of one node version. Made by `Version.of`."""

    version: str
    input: JsonValue
    """As a tree: `flow.schema.written_out`."""
    output: JsonValue
    _applied: Schema | None

    @classmethod
    def of(cls, version: str, input_schema: JsonValue, output_schema: JsonValue) -> Self:
        """A schema that we cannot read says nothing: the node checks its input itself."""
        try:
            applied = Schema.compile(input_schema, lenient=True)
        except SchemaProblem:
            applied = None
        return cls(version, _tree(input_schema), _tree(output_schema), applied)

    def refused(self, value: JsonValue, unknown: Collection[str]) -> tuple[Violation, ...]:
        """Where an input does not fit, whatever its `unknown` parts turn out to be."""
        return self._applied.violations(value, "", unknown) if self._applied else ()


@dataclass(frozen=True, slots=True)
class Finding:
    """One place where a version does not keep a contract."""

    code: MisfitCode
    pointer: str
    """Into the flow's document."""
    message: str
    """What is wrong, such as `it takes integer and no longer string`."""
    sure: bool
    """Every such call fails; else some may."""
    what: str = ""
    """Of an output: the part, such as `output.body.total`."""


def _tree(source: JsonValue) -> JsonValue:
    try:
        return written_out(source)
    except SchemaProblem:
        return True
