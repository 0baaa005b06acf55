"""EffectService: grants claims for the runs this orchestrator holds. A grant leaves only after its commit."""

import asyncio

import grpc

from reflux.api.effect.v1 import effect_service_pb2 as pb
from reflux.api.effect.v1.effect_service_pb2_grpc import EffectServiceServicer
from reflux.core.claim import Verdict, judge
from reflux.core.errors import RefluxError, Refused
from reflux.core.event import EffectClaimed
from reflux.core.names import RunId, StepPath
from reflux.core.reasons import Reason
from reflux.orchestrator import metrics
from reflux.orchestrator.worker import Worker


class EffectServicer(EffectServiceServicer):
    """Answers node versions that are about to act."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    async def ClaimEffect(  # noqa: N802 - named by the contract
        self,
        request: pb.ClaimEffectRequest,
        _context: grpc.aio.ServicerContext[pb.ClaimEffectRequest, pb.ClaimEffectResponse],
    ) -> pb.ClaimEffectResponse:
        """Journals the claim, then grants it."""
        run = self._worker.runs.get(RunId(request.run_id))
        if run is None or run.lease.token != request.fencing_token:
            raise _refused("this orchestrator does not hold the run under that fencing token")
        claim = EffectClaimed(
            StepPath(request.step),
            request.attempt,
            request.execution_id,
            request.scope,
            request.node_version,
            request.key_ttl.ToTimedelta() if request.HasField("key_ttl") else None,
        )
        verdict, why = judge(run.state, claim)
        if verdict is Verdict.REFUSED:
            raise _refused(why)
        # Commits of one run are in order: the newest covers a claim that is repeated, too.
        recorded = self._worker.walk(run, [claim]) if verdict is Verdict.RECORD else run.newest
        if recorded is None or self._worker.runs.get(run.id) is not run:
            raise _refused("the claim could not be recorded")
        try:
            # Shielded: the commit is not the caller's to cancel.
            await asyncio.shield(recorded)
        except RefluxError as error:
            raise _refused(f"the claim could not be recorded: {error.message}") from error
        metrics.GRANTED.add()
        return pb.ClaimEffectResponse()


def _refused(why: str) -> Refused:
    metrics.REFUSED.add()
    return Refused(Reason.CLAIM_REFUSED, why)
