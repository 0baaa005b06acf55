"""Whether flows go on with a route: asked of an orchestrator before a version comes to take calls.

Flows are the orchestrator's, so it compares (`reflux.api.flow.v1.ContractService`); here it is known what a
change of the route would do:

- A version **enters** when calls come to meet it that could not before, or could by fallback only. It must
  fit: whatever is found is held against it.
- A version **grows** when it has a share and gets more. What is sure to fail is held against it; what may
  fail was decided about when it entered, and is not asked again at each step of a canary.
- Less is always allowed, and so is everything that moves no calls.

The comparison is with the versions that calls meet now, so what is wrong with those too stops nobody from
going back. Without an answer the change is refused: a check that is left out when it is hard to make is none.
Who must act says `ignore_contracts`, and the revision keeps that.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import grpc

from reflux.api.flow.v1 import contract_service_pb2 as pb
from reflux.api.flow.v1.contract_service_pb2_grpc import ContractServiceStub
from reflux.core.errors import RefluxError, Refused, Unavailable, Violation
from reflux.core.reasons import Reason
from reflux.runtime import logs, rpc
from reflux.runtime.tls import Role

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from reflux.controlplane.routes import Route
    from reflux.runtime.settings import Address
    from reflux.runtime.tls import Identity

ASK_SECONDS: Final = 10.0
MAX_NAMED: Final = 20
"""Flows that a refusal names."""

log = logs.get_logger("contracts")


@dataclass(frozen=True, slots=True)
class Change:
    """What a new route does for versions."""

    entering: tuple[str, ...]
    growing: tuple[str, ...]
    serving: tuple[str, ...]
    """Whom calls meet before it."""


def change(route: Route, before: Route) -> Change:
    """What `route` does after `before`."""
    met = before.reachable()
    drawn = {target.version for target in before.targets if target.weight}
    entering = tuple(
        each for each in route.reachable() if each not in met or (route.weight(each) and each not in drawn)
    )
    growing = tuple(
        each.version
        for each in route.targets
        if before.weight(each.version) and each.weight > before.weight(each.version)
    )
    return Change(entering, growing, met)


class Contracts:
    """Asks an orchestrator."""

    def __init__(self, orchestrator: Address, identity: Identity | None = None) -> None:
        self._orchestrator = orchestrator
        self._identity = identity
        self._channel: grpc.aio.Channel | None = None

    async def judge(self, route: Route, before: Route, known: Collection[str]) -> None:
        """Let `route` follow `before`, or not; `known` are the versions that are registered.

        Raises:
            Refused: CONTRACT_BROKEN, with the flows.
            Unavailable: nobody can say.
        """
        try:
            held = await self.held(route, before, known)
        except Unavailable as error:
            log.warning("contracts_unknown", node=route.node, error=str(error))
            raise
        if held:
            raise _refused(route.node, held)

    async def held(
        self, route: Route, before: Route, known: Collection[str], *, patient: bool = False
    ) -> Sequence[tuple[str, pb.Misfit]]:
        """What stands against `route` after `before`, each with the version that it is held against.

        Args:
            route: see `judge`.
            before: see `judge`.
            known: see `judge`.
            patient: wait for an orchestrator that is not there yet.

        Raises:
            Unavailable: nobody can say.
        """
        asked = change(route, before)
        versions = (*asked.entering, *asked.growing)
        if not versions:
            return ()
        serving = [each for each in asked.serving if each in known]  # older releases wrote others too
        request = pb.CheckContractsRequest(node=route.node, versions=versions, serving=serving)
        answer = await self._ask(request, patient=patient)
        return [
            (each.version, misfit)
            for each in answer.versions
            for misfit in each.misfits
            if misfit.sure or each.version in asked.entering
        ]

    async def _ask(self, request: pb.CheckContractsRequest, *, patient: bool) -> pb.CheckContractsResponse:
        if self._channel is None:
            self._channel = rpc.channel(self._orchestrator, Role.ORCHESTRATOR, self._identity)
        stub: Any = ContractServiceStub(self._channel)
        try:
            answer: pb.CheckContractsResponse = await stub.CheckContracts(
                request, timeout=ASK_SECONDS, wait_for_ready=patient
            )
        except grpc.RpcError as error:
            raise _unknown(request.node, request.versions, rpc.to_error(error)) from None
        return answer

    async def close(self) -> None:
        """Give the connection back."""
        if self._channel is not None:
            await asyncio.shield(self._channel.close())


def _refused(node: str, held: Sequence[tuple[str, pb.Misfit]]) -> Refused:
    flows = list(dict.fromkeys(f"{misfit.flow}@{misfit.flow_version}" for _, misfit in held))
    versions = list(dict.fromkeys(version for version, _ in held))
    named = ", ".join(flows[:MAX_NAMED]) + (
        f" and {len(flows) - MAX_NAMED} more" if len(flows) > MAX_NAMED else ""
    )
    message = (
        f"{node}@{', '.join(versions)} does not fit what flows use: {named}. The former route serves on; "
        "mend the flows, or repeat with ignore_contracts"
    )
    violations = [
        Violation(
            f"{misfit.flow}@{misfit.flow_version}{misfit.pointer}",
            f"step {misfit.step}, {node}@{version}: {misfit.message} ({misfit.hint})",
        )
        for version, misfit in held
    ]
    metadata = {"node": node, "versions": ",".join(versions), "flows": ",".join(flows[:MAX_NAMED])}
    return Refused(Reason.CONTRACT_BROKEN, message, metadata=metadata, violations=violations)


def _unknown(node: str, versions: Sequence[str], cause: RefluxError) -> Unavailable:
    message = (
        f"no orchestrator could say whether flows can be given to {node}@{', '.join(versions)} ({cause}); "
        "try again, or repeat with ignore_contracts"
    )
    return Unavailable(Reason.SERVICE_UNREACHABLE, message, metadata={"node": node})
