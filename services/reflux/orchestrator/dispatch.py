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

import orjson

from reflux.core import event as ev
from reflux.core.command import StartAttempt
from reflux.core.effect import EffectClass, lane_of
from reflux.core.event import Assignment
from reflux.core.names import FlowId, RunId, StepPath
from reflux.core.reasons import Reason
from reflux.core.route import draw, idempotency_key
from reflux.orchestrator.caller import Order
from reflux.orchestrator.mesh_view import MeshView, Reach
from reflux.orchestrator.result_cache import CacheEntry

DEFAULT_ATTEMPT: Final = timedelta(seconds=60)
"""Deadline of an attempt when neither the step nor the node version names one."""

MAX_CALLS: Final = 1_000
"""Attempts in flight at once; more wait."""

MAX_CALLS_OF_A_NODE: Final = 400
"""Of those, at one node."""


_NO_FLOW: Final = FlowId("")


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
    mesh: MeshView,
    run_id: RunId,
    fencing_token: int,
    command: StartAttempt,
    now: datetime,
    *,
    flow_id: FlowId = _NO_FLOW,
) -> tuple[ev.AttemptStarted, Order, ev.Failure | None]:
    """The attempt of a command, and why it cannot be sent if it cannot."""
    reach = mesh.reach(command.node, command.version)
    effect = command.effect or reach.effect_of(command.input.value)
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
        cache=entry_of(flow_id, command, reach),
        declared=command.effect is not None,
    )
    return started, order, _obstacle(mesh, command, reach, now)


def entry_of(flow_id: FlowId, command: StartAttempt, reach: Reach) -> CacheEntry | None:
    """Where outputs of this call are kept: by flow, step, node, the versions it can meet, and its key.

    Another set of versions is another place, so a version that gets or loses traffic is seen at once.
    Iterations share a place, and so do versions of the flow: what they call with is part of it.
    """
    if command.cache_key is None:
        return None
    value = orjson.dumps(command.cache_key.value, option=orjson.OPT_SORT_KEYS)
    versions = ",".join(sorted(version.digest for version in reach.versions))
    step = command.step.rpartition("/")[2]
    place = "\n".join((flow_id, step, command.node, command.version or "", versions)).encode()
    return CacheEntry(sha256(place + b"\n" + value).hexdigest(), command.cache_ttl)


def too_late(step: StepPath) -> ev.Failure:
    """The step's total time was over before its attempt could be sent."""
    return ev.Failure(
        "DEADLINE_EXCEEDED", Reason.TIMEOUT, f"the total time of step {step} is over", step=step
    )


def _obstacle(mesh: MeshView, command: StartAttempt, reach: Reach, now: datetime) -> ev.Failure | None:
    if command.total_deadline is not None and now >= command.total_deadline:
        return too_late(command.step)
    effect = command.effect or reach.effect_of(command.input.value)
    if reach.versions and command.cache_key is not None and effect is not EffectClass.PURE:
        message = f"step {command.step} has a cache, and its call is {effect}: only a pure one may have"
        return ev.Failure("FAILED_PRECONDITION", Reason.CACHE_NOT_PURE, message, step=command.step)
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
