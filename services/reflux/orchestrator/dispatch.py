"""From a command to an order: what an attempt may meet, and its place among all that are in flight.

Places are bounded for all nodes together and for each alone, so a node that hangs fills its own share and
leaves the others theirs. Waiting for a place ends with the step's total time.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Final
from weakref import WeakValueDictionary

from reflux.core import event as ev
from reflux.core.attempt import AttemptResult
from reflux.core.command import StartAttempt
from reflux.core.effect import EffectClass, lane_of
from reflux.core.event import Assignment, Outcome
from reflux.core.names import RunId, StepPath
from reflux.core.reasons import Reason
from reflux.core.route import draw, idempotency_key
from reflux.orchestrator.caller import Order
from reflux.orchestrator.mesh_view import MeshView, Reach

DEFAULT_ATTEMPT: Final = timedelta(seconds=60)
"""Deadline of an attempt when neither the step nor the node version names one."""

MAX_CALLS: Final = 1_000
"""Attempts in flight at once; more wait."""

MAX_CALLS_OF_A_NODE: Final = 400
"""Of those, at one node."""


class Places:
    """Who may be in flight."""

    def __init__(self) -> None:
        self._all = asyncio.Semaphore(MAX_CALLS)
        self._of_node: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    @asynccontextmanager
    async def place(self, node: str, *, seconds: float | None) -> AsyncIterator[None]:
        """A place for one call of `node` within the body.

        Raises:
            TimeoutError: none became free within `seconds`.
        """
        of_node = self._of_node.get(node)
        if of_node is None:
            of_node = self._of_node[node] = asyncio.Semaphore(MAX_CALLS_OF_A_NODE)
        async with AsyncExitStack() as held:
            async with asyncio.timeout(seconds):
                await held.enter_async_context(of_node)
                await held.enter_async_context(self._all)
            yield


def prepare(
    mesh: MeshView, run_id: RunId, fencing_token: int, command: StartAttempt, now: datetime
) -> tuple[ev.AttemptStarted, Order, ev.Failure | None]:
    """The attempt of a command, and why it cannot be sent if it cannot."""
    reach = mesh.reach(command.node, command.version)
    effect = reach.effect_of(command.input.value)
    number = draw(command.node, run_id, command.step, command.attempt)
    assignment = Assignment(effect, lane_of(effect), draw=number)
    digest = b"" if effect is EffectClass.PURE else sha256(command.input.raw).digest()
    started = ev.AttemptStarted(
        command.step, command.attempt, command.generation, assignment, now, input_digest=digest
    )
    order = Order(
        run_id=run_id,
        step=command.step,
        attempt=command.attempt,
        fencing_token=fencing_token,
        idempotency_key=idempotency_key(run_id, command.step, command.generation),
        node=command.node,
        version=command.version,
        input=command.input,
        assignment=assignment,
        limit=command.attempt_timeout or reach.attempt_timeout or DEFAULT_ATTEMPT,
        total_deadline=command.total_deadline,
    )
    return started, order, _obstacle(mesh, command, reach, now)


def too_late(step: StepPath) -> ev.Failure:
    """The step's total time was over before its attempt could be sent."""
    return ev.Failure(
        "DEADLINE_EXCEEDED", Reason.TIMEOUT, f"the total time of step {step} is over", step=step
    )


def given_up(order: Order, now: datetime) -> AttemptResult:
    """What became of an attempt that was journaled and not sent, because its run ends meanwhile."""
    failure = ev.Failure("CANCELLED", Reason.SUPERSEDED, "the run ends; nothing was sent", step=order.step)
    return AttemptResult(Outcome.NOT_SENT, order.assignment, now, now, failure=failure, counted=False)


def _obstacle(mesh: MeshView, command: StartAttempt, reach: Reach, now: datetime) -> ev.Failure | None:
    if command.total_deadline is not None and now >= command.total_deadline:
        return too_late(command.step)
    if reach.versions:
        return None
    known = mesh.versions(command.node)
    if not known:
        there = ", ".join(mesh.nodes()) or "none"
        message = f"no node {command.node} is registered; there are: {there}"
        return ev.Failure("NOT_FOUND", Reason.NODE_NOT_FOUND, message, step=command.step)
    wanted = f"version {command.version}" if command.version else "version with weight in its route"
    message = f"node {command.node} has no {wanted}; registered: {', '.join(known)}"
    return ev.Failure("NOT_FOUND", Reason.NODE_VERSION_NOT_FOUND, message, step=command.step)
