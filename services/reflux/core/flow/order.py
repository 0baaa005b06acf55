"""The order of steps: from lists and `needs` to what each step waits for.

Steps wait for steps of their own scope only, so every scope is ordered by itself. What surely comes before a
step is kept as a bit set over the scope's list: bit *i* stands for its *i*-th step.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from reflux.core.flow.model import Join
from reflux.core.flow.problems import ProblemCode

if TYPE_CHECKING:
    from reflux.core.flow.model import Scope
    from reflux.core.flow.problems import Problems
    from reflux.core.flow.steps import Draft, Draftbook
    from reflux.core.names import StepPath


@dataclass(slots=True)
class Order:
    """What waits for what, in one flow."""

    after: dict[StepPath, tuple[StepPath, ...]] = field(default_factory=dict)
    join: dict[StepPath, Join] = field(default_factory=dict)
    position: dict[StepPath, int] = field(default_factory=dict)
    """Index in the scope's list."""
    before: dict[StepPath, int] = field(default_factory=dict)
    """Bit set of the steps of the scope that have surely settled when the step is looked at."""
    unmet: dict[StepPath, str] = field(default_factory=dict)
    """Why its join may not hold although nothing went wrong; empty when it holds then."""

    def comes_before(self, first: StepPath, second: StepPath) -> bool:
        """Whether `first`, of the same scope, has surely settled when `second` is looked at."""
        return bool(self.before[second] >> self.position[first] & 1)

    def joined(self, path: StepPath, book: Draftbook) -> set[StepPath]:
        """The steps of the scope whose joins surely held when that of `path` did.

        A join that needs each, or the only one, does not hold over a step that was skipped by its own. One
        that is disabled is skipped before its join is asked, and so says nothing of those before it.
        """
        found: set[StepPath] = set()
        rest = [path]
        while rest:
            at = rest.pop()
            after, join = self.after[at], self.join[at]
            if join is Join.ALL_SUCCESS or (join is not Join.ALL_DONE and len(after) == 1):
                new = set(after) - found
                found |= new
                rest += [former for former in new if not book.drafts[former].step.disabled]
        return found


def order_steps(book: Draftbook, problems: Problems) -> Order:
    """Settle the order of every scope; problems for unknown needs, cycles, joins that never hold."""
    order = Order()
    for scope in book.scopes.values():
        former: StepPath | None = None
        for position, path in enumerate(scope.steps):
            draft = book.drafts[path]
            order.position[path] = position
            order.after[path] = _waits_for(draft, former, scope, book, problems)
            order.join[path] = _join(draft, order.after[path], problems)
            former = path
        _close(scope, order, book, problems)
    return order


def _waits_for(
    draft: Draft, former: StepPath | None, scope: Scope, book: Draftbook, problems: Problems
) -> tuple[StepPath, ...]:
    if draft.needs is None:
        return () if former is None else (former,)
    by_name = {str(path): path for path in scope.steps}
    others = [name for name in by_name if not name.startswith("?") and name != draft.step.path]
    named: dict[StepPath, None] = {}
    for place, name in draft.needs:
        path = by_name.get(name)
        if path is None:
            elsewhere = name in book.drafts
            code = ProblemCode.OTHER_LIST if elsewhere else ProblemCode.UNKNOWN_STEP
            message = f"the step {name} is in another list" if elsewhere else f"no step {name[:100]!r}"
            problems.add_unknown(code, place, message, name, others)
        elif path in named:
            problems.add(ProblemCode.BAD_VALUE, place, f"{name} is named twice", "remove one")
        else:
            named[path] = None
    return tuple(named)


def _join(draft: Draft, after: tuple[StepPath, ...], problems: Problems) -> Join:
    if draft.join is None:
        return Join.ALL_DONE if draft.needs is None else Join.ALL_SUCCESS
    if not after and not draft.needs and draft.join in {Join.ANY_SUCCESS, Join.ONE_FAILED}:
        message = f"{draft.join} never holds: this step waits for nothing"
        problems.add(ProblemCode.BAD_VALUE, draft.place.at("join"), message, "name what it needs")
    return draft.join


def _close(scope: Scope, order: Order, book: Draftbook, problems: Problems) -> None:
    """Work out `before` for a scope, and record its cycles.

    Steps whose predecessors are all done are done one after another (Kahn; one pass when nobody waits for a
    later step). What is left waits for a cycle: walking back from any of it must come to a step twice. The
    cycle found is recorded and cut, and the rest goes on, so that separate cycles are all found.
    """
    waiting = dict.fromkeys(scope.steps)
    while waiting:
        ready = False
        for path in scope.steps:
            if path in waiting and not any(former in waiting for former in order.after[path]):
                _settle(path, order, waiting)
                ready = True
        if not ready:
            for path in _cycle(waiting, order, book, problems):
                _settle(path, order, waiting)


def _settle(path: StepPath, order: Order, waiting: dict[StepPath, None]) -> None:
    before = 0
    for former in order.after[path]:
        before |= order.before.get(former, 0) | 1 << order.position[former]
    order.before[path] = before
    order.unmet[path] = _unmet(path, order)
    del waiting[path]


def _unmet(path: StepPath, order: Order) -> str:
    """Why the join may not hold although nothing went wrong, from what is known of the steps before it."""
    after = order.after[path]
    match order.join[path]:
        case Join.ALL_DONE:
            return ""
        case Join.ONE_FAILED:
            return f"{path} is done only after a failure"
        case Join.ALL_SUCCESS:
            return next((why for former in after if (why := order.unmet.get(former))), "")
        case Join.ANY_SUCCESS:
            # Of steps with conditions one may always be done: those who exclude each other are joined so.
            never = bool(after) and all(order.unmet.get(former) for former in after)
            return f"{path} is done only when one that it needs was" if never else ""


def _cycle(
    waiting: dict[StepPath, None], order: Order, book: Draftbook, problems: Problems
) -> list[StepPath]:
    walked: list[StepPath] = []
    path = next(iter(waiting))
    while path not in walked:
        walked.append(path)
        path = next(former for former in order.after[path] if former in waiting)
    cycle = walked[walked.index(path) :]
    first = min(cycle, key=order.position.__getitem__)
    turn = cycle.index(first)
    names = [*cycle[turn:], *cycle[:turn], first]
    place = book.drafts[first].place
    where = place.at("needs") if book.drafts[first].needs is not None else place
    message = "these steps wait for each other: " + " waits for ".join(names[:20])
    problems.add(ProblemCode.CYCLE, where, message, "a step without needs waits for the one before it")
    return cycle
