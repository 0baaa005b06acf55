"""Which uses a version does not fit, compared with the versions that serve them now.

A sure finding counts when some version that serves now is free of it: then it is this version's doing. One
that is not sure counts when all of them are: values are known only to the run, and what one of them refuses
was refused already. Where nothing serves there is nothing to compare with, and only sure findings are left.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from reflux.core.contract.finding import Finding, MisfitCode, Version
from reflux.core.contract.inputs import input_findings
from reflux.core.contract.outputs import output_findings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from reflux.core.contract.uses import NodeUse

__all__ = ["Misfit", "MisfitCode", "Version", "misfits"]


@dataclass(frozen=True, slots=True)
class Misfit:
    """A step that a version does not fit."""

    step: str
    finding: Finding


def misfits(uses: Iterable[NodeUse], new: Version, serving: Sequence[Version]) -> tuple[Misfit, ...]:
    """What of `uses` the version `new` does not fit, in their order; those that name their version are left
    out.

    `serving` are the versions that calls can meet now; `new` itself does not count among them.
    """
    others = [each for each in serving if each.version != new.version]
    return tuple(
        Misfit(use.step, finding) for use in uses if use.routed for finding in _findings(use, new, others)
    )


def _findings(use: NodeUse, new: Version, others: Sequence[Version]) -> Iterator[Finding]:
    found = [dict(_keyed(use, new, each)) for each in others or (None,)]
    seen: dict[tuple[MisfitCode, str, str], Finding] = {}
    for each in found:
        for key, finding in each.items():
            if finding.sure or all(key in other for other in found):
                seen.setdefault(key, finding)
    return iter(seen.values())


def _keyed(
    use: NodeUse, new: Version, old: Version | None
) -> Iterator[tuple[tuple[MisfitCode, str, str], Finding]]:
    """By what is the same finding, in whatever words."""
    for finding in (*input_findings(use, new, old), *output_findings(use, new, old)):
        exact = finding.message if finding.code is MisfitCode.INPUT_INVALID else finding.what
        yield (finding.code, finding.pointer, exact), finding
