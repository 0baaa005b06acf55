"""Test runs: what a request may ask for, and what it makes of an attempt.

Whether anything fails at all is the setting `faults`: a stack that says `off` refuses, and its Envoy has no
way on which versions fail. A test run is marked for good, whatever comes of it: who goes on from it, its
children and who hears of its failure are tests too. Its faults are its own: a child has none, because they
name steps of this flow, and who retries or forks it sees what comes after the provider has healed.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from reflux.api.journal.v1 import event_pb2 as pb
from reflux.core.errors import InvalidArgument, Refused, Violation
from reflux.core.faultrules import parse
from reflux.core.faults import MAX_RULES, MAX_SEED, Fault, FaultKind, FaultPlan, headers
from reflux.core.flow.model import NodeAction
from reflux.core.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reflux.core import event as ev
    from reflux.core.flow import Flow
    from reflux.core.state import RunState
    from reflux.orchestrator.caller import Order
    from reflux.orchestrator.mesh_view import MeshView

NO_FAULTS: Final = FaultPlan(())


class FaultDesk:
    """Judges requests for test runs."""

    def __init__(self, mesh: MeshView, *, allowed: bool) -> None:
        self._mesh = mesh
        self._allowed = allowed

    def judge(self, flow: Flow, *, test: bool, rules: Sequence[str], seed: str) -> FaultPlan | None:
        """The plan of a test run, perhaps without faults; None: the run is no test.

        Raises:
            InvalidArgument: faults for a run that is no test, or a rule that cannot be.
            Refused: this stack allows no faults.
            Unavailable: the mesh is not known yet.
        """
        if not test:
            if rules or seed:
                message = "faults and seed are for test runs: say test=true too"
                raise InvalidArgument(
                    Reason.ARGUMENT_INVALID, message, violations=[Violation("test", message)]
                )
            return None
        if len(seed) > MAX_SEED or len(rules) > MAX_RULES:
            message = f"a test run has at most {MAX_RULES} faults and a seed of {MAX_SEED} characters"
            raise InvalidArgument(Reason.ARGUMENT_INVALID, message, violations=[Violation("faults", message)])
        if rules and not self._allowed:
            message = "this stack allows no faults: its setting faults is off, and would have to be test"
            raise Refused(Reason.FAULTS_NOT_ALLOWED, message, metadata={"setting": "faults"})
        return FaultPlan(tuple(self._rule(flow, at, text) for at, text in enumerate(rules)), seed)

    def _rule(self, flow: Flow, at: int, text: str) -> Fault:
        try:
            rule = parse(text)
            self._check(flow, rule)
        except ValueError as error:
            message = f"faults[{at}]: {error}"
            violation = Violation(f"faults[{at}]", str(error))
            raise InvalidArgument(Reason.ARGUMENT_INVALID, message, violations=[violation]) from None
        return rule

    def _check(self, flow: Flow, rule: Fault) -> None:
        calls = {
            str(path): step.action for path, step in flow.steps.items() if isinstance(step.action, NodeAction)
        }
        action = calls.get(rule.step)
        if action is None:
            there = ", ".join(calls) or "none"
            raise ValueError(f"the flow has no step {rule.step} that calls a node; there are: {there}")
        known = self._mesh.versions(action.node)
        if rule.version and rule.version not in known:
            there = ", ".join(known) or "none"
            raise ValueError(f"node {action.node} has no version {rule.version}; registered: {there}")


def under_faults(state: RunState, order: Order) -> Order:
    """The order with the faults that its run gives it.

    It travels alone then, no output is used again, and nobody gets a copy: how a version in the shadow
    compares is told of answers that nothing has kept from coming.
    """
    met = met_by(state, order.step, order.attempt)
    return replace(order, group=None, cache=None, shadow=None, faults=headers(met)) if met else order


def met_by(state: RunState, step: Any, attempt: int) -> tuple[Fault, ...]:
    """The faults of an attempt, for the versions that it reaches."""
    plan = state.created.faults
    return plan.of(state.id, step, attempt) if plan is not None else ()


def marked(created: ev.RunCreated, former: ev.RunCreated) -> ev.RunCreated:
    """A run that comes of `former`: of a test comes a test, and none of its faults."""
    return replace(created, faults=NO_FAULTS) if former.faults is not None else created


def written(plan: FaultPlan | None) -> dict[str, Any]:
    """The fields of a stored `RunCreated`."""
    if plan is None:
        return {}
    rules = [
        pb.Fault(
            step=rule.step,
            kind=rule.kind,
            version=rule.version,
            code=rule.code,
            delay_ms=rule.delay_ms,
            percent=rule.percent,
        )
        for rule in plan.rules
    ]
    return {"test": True, "faults": pb.Faults(rules=rules, seed=plan.seed)}


def read(stored: pb.RunCreated) -> FaultPlan | None:
    """The plan of a stored `RunCreated`.

    Raises:
        ValueError: a kind of fault that this version does not know.
    """
    if not stored.test:
        return None
    rules = tuple(
        Fault(rule.step, FaultKind(rule.kind), rule.version, rule.code, rule.delay_ms, rule.percent)
        for rule in stored.faults.rules
    )
    return FaultPlan(rules, stored.faults.seed)
