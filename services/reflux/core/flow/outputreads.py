"""Which parts of a step's output a flow reads, and how surely they must be there.

Two outputs have to be told apart. What the action gave is read by the step's own `result`, as `self.output`.
What others see, as `steps.ID.output`, is that too when the step has no `result`, else what `result` made of
it. A compensation's `self` is the step as others see it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from reflux.core.flow.problems import Problems
    from reflux.core.flow.steps import Draft, Draftbook, Read
    from reflux.core.names import StepPath


@dataclass(frozen=True, slots=True)
class OutputRead:
    """One read of a step's output."""

    step: str
    """The id of the step."""
    raw: bool
    """What its action gave is read, before `result`."""
    path: tuple[str | int, ...]
    """After `output`; empty for the whole."""
    required: int
    """So many parts of `path` must be there; the rest may be missing."""
    pointer: str
    """Where the flow reads it: JSON pointer of the text in the document."""


def output_reads(book: Draftbook, output: Iterable[Read], problems: Problems) -> tuple[OutputRead, ...]:
    """Every read of an output, in document order; `output` is what the flow's own output reads."""
    found = [each for draft in book.drafts.values() for each in _of_step(draft, problems)]
    found += [each for read in output for each in _read(read, None, problems)]
    return tuple(found)


def _of_step(draft: Draft, problems: Problems) -> Iterator[OutputRead]:
    for read in draft.reads:
        yield from _read(read, draft, problems)


def _read(read: Read, draft: Draft | None, problems: Problems) -> Iterator[OutputRead]:
    match read.reference.path:
        case ("steps", str() as step, "output", *rest):
            before, raw = 3, False
        case ("self", "output", *rest) if draft is not None:
            step, before, raw = _own(draft.step.path, draft, read)
        case _:
            return
    required = max(0, read.reference.required - before)
    yield OutputRead(step, raw, tuple(rest), required, problems.pointer(read.place))


def _own(path: StepPath, draft: Draft, read: Read) -> tuple[str, int, bool]:
    within = read.place[len(draft.place.path) :][:1]
    return str(path), 2, within == ("result",)
