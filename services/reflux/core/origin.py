"""Runs that were made from another one, or from a part of a flow: where they come from, as values.

A finished run is final. So whoever wants to go on from it gets a **new run**, whose journal begins with its
origin and with the outcomes that it takes over (`reflux.core.kept`). What such a run walks differs from the
flow version it names only by what stands here, so that its journal alone gives the same flow for ever
(`reflux.core.flow.variant`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from reflux.core.document import Json
from reflux.core.names import RunId, StepPath


class Operation(StrEnum):
    """What made the run."""

    FORK = "fork"
    RETRY = "retry"
    EXECUTE_STEP = "execute_step"


@dataclass(frozen=True, slots=True)
class FormerChild:
    """A run that a step had begun, and from which the next one that it begins goes on."""

    run_id: RunId
    given: bytes
    """sha256 of what it was given (`reflux.core.former`): it stands for nothing else."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a run comes from, unless somebody just started it."""

    operation: Operation
    run_id: str = ""
    """Empty for a step that was executed alone without any run before."""
    steps: tuple[StepPath, ...] = ()
    """From where it goes on; these and all that comes after them run anew."""
    flow_version: int = 0
    """Of the origin; 0 without one."""
    kept: int = 0
    """How many outcomes follow in the journal."""
    attempt: int = 1
    """Of the whole run, from 1: a retry has one more than the run it goes on from."""
    children: Mapping[StepPath, FormerChild] = field(default_factory=dict)
    """By step: where the runs go on that it begins."""


@dataclass(frozen=True, slots=True)
class OnlyStep:
    """The one step, with all that is inside of it, that a run consists of."""

    step: StepPath
    """Its id."""
    values: Json | None = None
    """An object, e.g. `{"input", "steps"}`: what its expressions see beside what is the same for all runs."""
    given: Json | None = None
    """The whole input of its node, instead of its `with`; None: that is evaluated."""
