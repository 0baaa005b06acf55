"""Where a fork cuts: which steps are done anew because of where they stand.

The points are done anew, and so is what comes after them: in their list, and in the lists around it. The
containers around a point are entered again; of a loop that is, later iterations are done anew, too.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from reflux.core.flow.model import ForeachAction, TryAction, WhileAction
from reflux.core.names import StepPath
from reflux.core.state import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from reflux.core.flow.model import Flow


class Why(StrEnum):
    """Why a step is done anew."""

    FROM = "from"  # the fork goes on from it
    AFTER = "after"  # it comes after such a step
    FAILED = "failed"  # nothing had dealt with its failure
    CANCELED = "canceled"  # it had not ended when its list did
    MOVED = "moved"  # in the other flow version it is not there, or stands elsewhere
    RETURN = "return"  # it ends the run
    UNDONE = "undone"  # it was compensated: nothing of it stands


@dataclass(slots=True)
class Cut:
    """What is done anew by where it stands: the points, and what comes after them in one flow."""

    points: set[StepPath] = field(default_factory=set)
    after: set[StepPath] = field(default_factory=set)
    opened: set[StepPath] = field(default_factory=set)
    """Containers around the points: entered again."""
    later: dict[StepPath, int] = field(default_factory=dict)
    """Containers of which every iteration, or branch, above this one is done anew."""

    def add(self, flow: Flow, points: Iterable[StepPath], *, opened: bool) -> None:
        """Takes in more points; `opened` ones are entered again themselves."""
        seen: set[StepPath] = set()
        for point in points:
            (self.opened if opened else self.points).add(point)
            path = point
            while path not in seen:  # else what is around it is known: a loop may have ten thousand points
                seen.add(path)
                prefix, name = split(path)
                self.after.update(StepPath(prefix + each) for each in dependants(flow, name))
                path, number = place_of(flow, path)
                if path == ROOT:
                    break
                if isinstance(flow.steps[split(path)[1]].action, WhileAction | TryAction):
                    self.later[path] = min(self.later.get(path, number), number)
                self.opened.add(path)

    def why(self, flow: Flow, path: StepPath) -> Why | None:
        """Why a step whose container is entered again is done anew; None when that does not follow.

        A point that also comes after another one does come after it: nothing can go on from it.
        """
        if path in self.after:
            return Why.AFTER
        container, number = place_of(flow, path)
        last = self.later.get(container)
        if last is not None and number > last:
            return Why.AFTER
        return Why.FROM if path in self.points else None


def dependants(flow: Flow, name: StepPath) -> Iterator[StepPath]:
    """All steps of its list that wait for a step, directly or through others."""
    seen: set[StepPath] = set()
    waiting = [name]
    while waiting:
        for each in flow.steps[waiting.pop()].dependants:
            if each not in seen:
                seen.add(each)
                waiting.append(each)
                yield each


def split(path: StepPath) -> tuple[str, StepPath]:
    """`lines[3]/price` as (`lines[3]/`, `price`)."""
    prefix, slash, name = path.rpartition("/")
    return prefix + slash, StepPath(name)


def place_of(flow: Flow, path: StepPath) -> tuple[StepPath, int]:
    """The container around a step, and its branch or iteration there."""
    prefix, name = split(path)
    step = flow.steps[name]
    if step.parent is None:
        return ROOT, 0
    if isinstance(flow.steps[step.parent].action, ForeachAction | WhileAction):
        return iteration(prefix)
    return StepPath(prefix + step.parent), step.branch


def around(flow: Flow, path: StepPath) -> Iterator[StepPath]:
    """A step and the containers around it, the innermost first; the run need not have come to them."""
    while path != ROOT:
        yield path
        path, _ = place_of(flow, path)


def iteration(prefix: str) -> tuple[StepPath, int]:
    """`orders[0]/lines[3]/` as (`orders[0]/lines`, 3)."""
    loop, _, index = prefix.removesuffix("]/").rpartition("[")
    return StepPath(loop), int(index)
