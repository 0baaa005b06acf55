"""From a command to an order: what an attempt may meet, and its place among all that are in flight.

Places are bounded for all nodes together and for each alone, so a node that hangs fills its own share and
leaves the others theirs; those who wait are served by turns of their flows (`fairness`). Waiting for a place
ends with the step's total time.
"""

from dataclasses import replace
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Final

import orjson

from reflux.core import event as ev
from reflux.core.attempt import AttemptResult
from reflux.core.command import StartAttempt
from reflux.core.effect import EffectClass, Lane, lane_of
from reflux.core.event import Assignment, Outcome
from reflux.core.names import FlowId, RunId, StepPath
from reflux.core.reasons import Reason
from reflux.core.route import draw, idempotency_key, pick, shadow_draw, sticky_digest, sticky_draw
from reflux.orchestrator.caller import OVERRIDE, STICKY, Again, Group, Order
from reflux.orchestrator.credentials import unknown_slot
from reflux.orchestrator.fairness import FairPlaces, Turn
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
        self._all = FairPlaces(MAX_CALLS)
        self._of_node: dict[str, FairPlaces] = {}

    async def take(self, node: str, turn: Turn, wanted: int = 1) -> int:
        """Waits for one place at `node`, asked for by the flow of `turn`, then takes of those that are free.

        Returns:
            How many were taken, at most `wanted`; each is given back by `give`.
        """
        of_node = self._of_node.setdefault(node, FairPlaces(MAX_CALLS_OF_A_NODE))
        taken = 0
        while not taken or (taken < wanted and of_node.free and self._all.free):
            await of_node.take(turn)
            try:
                await self._all.take(turn)
            except BaseException:
                of_node.give()
                raise
            taken += 1
        return taken

    def give(self, node: str, number: int = 1) -> None:
        """Gives places back."""
        of_node = self._of_node[node]
        for _ in range(number):
            of_node.give()
            self._all.give()


def prepare(
    mesh: MeshView,
    run_id: RunId,
    fencing_token: int,
    command: StartAttempt,
    now: datetime,
    *,
    turn: Turn,
    repeats: bool = False,
    again: Again | None = None,
) -> tuple[ev.AttemptStarted, Order, ev.Failure | None]:
    """The attempt of a command, and why it cannot be sent if it cannot."""
    command, assignment = choose(command, run_id, mesh.reach(command.node, None))
    reach = mesh.reach(command.node, command.version)
    effect = command.effect or reach.effect_of(command.input.value)
    assignment = replace(assignment, effect=effect, lane=lane_of(effect))
    limit = command.attempt_timeout or reach.attempt_timeout or DEFAULT_ATTEMPT
    shadow = _shadow(run_id, command, reach, effect)
    digest = b"" if effect is EffectClass.PURE else sha256(command.input.raw).digest()
    started = ev.AttemptStarted(
        command.step,
        command.attempt,
        command.generation,
        assignment,
        now,
        input_digest=digest,
        limit=limit,
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
        limit=limit,
        total_deadline=command.total_deadline,
        turn=turn,
        group=_group(command, reach, assignment, limit),
        cache=entry_of(FlowId(turn.flow), command, reach),
        declared=command.effect is not None,
        fallback=command.fallback,
        credentials=command.credentials,
        repeats=repeats,
        again=again,
        tries=command.tries,
        try_timeout=command.try_timeout,
    )
    if shadow is not None:
        order = replace(order, shadow=shadow, group=None)
    return started, order, _obstacle(mesh, command, reach, now)


def _shadow(run_id: RunId, command: StartAttempt, reach: Reach, effect: EffectClass) -> str | None:
    """The version that gets a copy of the attempt: of a pure call whose class is not the flow's own word, not
    pinned, that asks no cache. Such an attempt travels alone, so that the copy is of it and nobody else.
    """
    if not reach.shadows or effect is not EffectClass.PURE or command.effect is not None:
        return None
    if command.version is not None or command.cache_key is not None:
        return None
    number = shadow_draw(command.node, run_id, command.step, command.attempt)
    return reach.shadow_of(number, command.input.value)


def choose(command: StartAttempt, run_id: RunId, reach: Reach) -> tuple[StartAttempt, Assignment]:
    """The draw of an attempt, what it is made from, and, when its step has a way of its own, the version.

    Such a version is pinned from here on; the assignment says that it was chosen for the step, and its share:
    the step's own, or that of the node's route where the step only says how often and for how long it is
    tried, and who comes next. For every other attempt Envoy chooses. The effect class is not known yet.

    Args:
        command: the attempt.
        run_id: of its run.
        reach: of an unpinned call of its node.
    """
    digest = _sticky(command, reach)
    number = sticky_draw(digest) if digest else draw(command.node, run_id, command.step, command.attempt)
    assignment = Assignment(EffectClass.AT_MOST_ONCE, Lane.SAFE, draw=number, sticky=digest)
    shares = command.versions
    if command.drawn and not shares:
        shares = tuple((target.version, target.weight) for target in reach.targets)
    if command.version is not None or not shares:
        return command, assignment
    version, share = pick(shares, number)
    reason = STICKY if digest else OVERRIDE
    return replace(command, version=version), replace(assignment, weight=share, reason=reason)


def _sticky(command: StartAttempt, reach: Reach) -> bytes:
    """Digest of what the attempt sticks to; empty when it draws for itself, as a pinned one does."""
    if command.version is not None:
        return b""
    value = command.sticky.value if command.sticky is not None else None
    if not command.own_sticky:
        value = reach.sticky_of(command.input.value)
    if value is None:
        return b""
    return sticky_digest(command.node, reach.salt, orjson.dumps(value, option=orjson.OPT_SORT_KEYS))


def _group(command: StartAttempt, reach: Reach, assignment: Assignment, limit: timedelta) -> Group | None:
    """With whom the attempt may travel. A second attempt travels alone: the first may have failed in company.
    So does one whose output may be known, whose class is the flow's own word, or that has credentials.

    Only with those that the route gives to the same target. So each attempt gets the version that its own
    draw asks for, and a batch has no statistics of its own. What sticks travels with its equals alone: the
    call has one draw, and should the route change on the way, that is the draw of each of them.
    """
    if assignment.effect is not EffectClass.PURE or command.version is not None:
        return None
    if command.attempt > 1 or reach.batch < 2:
        return None
    if command.cache_key is not None or command.effect is not None or command.credentials:
        return None
    share = reach.share_of(assignment.draw)
    return Group(command.node, share, limit, reach.batch, assignment.sticky)


def entry_of(flow_id: FlowId, command: StartAttempt, reach: Reach) -> CacheEntry | None:
    """Where outputs of this call are kept: by flow, step, node, the versions it can meet, and its key.

    So by its credentials: who asks may decide what is answered. Another set of versions is another place too,
    so a version that gets or loses traffic is seen at once. Iterations share a place, and so do versions of
    the flow: what they call with is part of it.
    """
    if command.cache_key is None:
        return None
    value = orjson.dumps(command.cache_key.value, option=orjson.OPT_SORT_KEYS)
    versions = ",".join(sorted(version.digest for version in reach.versions))
    step = command.step.rpartition("/")[2]
    names = ",".join(f"{slot}={name}" for slot, name in command.credentials)
    place = "\n".join((flow_id, step, command.node, command.version or "", versions, names)).encode()
    return CacheEntry(sha256(place + b"\n" + value).hexdigest(), command.cache_ttl)


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
    effect = command.effect or reach.effect_of(command.input.value)
    if reach.versions and command.cache_key is not None and effect is not EffectClass.PURE:
        message = f"step {command.step} has a cache, and its call is {effect}: only a pure one may have"
        return ev.Failure("FAILED_PRECONDITION", Reason.CACHE_NOT_PURE, message, step=command.step)
    known = mesh.versions(command.node)
    if reach.versions:
        return unknown_slot(command.step, command.node, command.credentials, known.values())
    if not known:
        there = ", ".join(mesh.nodes()) or "none"
        message = f"no node {command.node} is registered; there are: {there}"
        return ev.Failure("NOT_FOUND", Reason.NODE_NOT_FOUND, message, step=command.step)
    wanted = f"version {command.version}" if command.version else "version with weight in its route"
    message = f"node {command.node} has no {wanted}; registered: {', '.join(known)}"
    return ev.Failure("NOT_FOUND", Reason.NODE_VERSION_NOT_FOUND, message, step=command.step)
