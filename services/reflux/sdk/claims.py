"""Asking for the right to act on the outside world.

The claim goes to the orchestrator that started the attempt and to nobody else. It is asked at most twice,
with the same execution id, which gets the same answer; whatever is not a grant means that nothing may be
done. A grant whose answer got lost also ends there: the node does nothing, and says so.
"""

from __future__ import annotations

import uuid
from collections import OrderedDict
from typing import TYPE_CHECKING, Final, Self

import grpc

from reflux.api.effect.v1 import effect_service_pb2, effect_service_pb2_grpc
from reflux.core.reasons import Reason
from reflux.runtime import rpc
from reflux.runtime.tls import Role
from reflux.sdk.faults import Refusal

if TYPE_CHECKING:
    from datetime import timedelta
    from types import TracebackType

    from reflux.runtime.tls import Identity
    from reflux.sdk.envelope import Envelope

_ASKS: Final = 2
_ASK_SECONDS: Final = 2.5
_MAX_CHANNELS: Final = 16


class Claims:
    """Connections to the orchestrators whose calls this process handles, the last 16 of them.

    >>> async with Claims() as claims:
    ...     await claims.claim(envelope, scope="", node_version="http.request@1.0.0")
    """

    def __init__(self, identity: Identity | None = None) -> None:
        self._identity = identity
        self._channels: OrderedDict[str, grpc.aio.Channel] = OrderedDict()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while self._channels:
            await self._channels.popitem()[1].close()

    async def claim(
        self, envelope: Envelope, *, scope: str, node_version: str, key_ttl: timedelta | None = None
    ) -> None:
        """Ask for the right to act once; returns when it is granted.

        Args:
            envelope: of the call.
            scope: within which the idempotency key holds.
            node_version: who asks.
            key_ttl: how long the provider keeps the key; None: not known.

        Raises:
            Refusal: CLAIM_REFUSED. Nothing may be done.
        """
        if not envelope.claim_address:
            raise _refused("the call came without x-reflux-claim-address, so its effect cannot be claimed")
        request = effect_service_pb2.ClaimEffectRequest(
            run_id=envelope.run_id,
            step=envelope.step,
            attempt=envelope.attempt,
            fencing_token=envelope.fencing_token,
            execution_id=str(uuid.uuid4()),
            scope=scope,
            node_version=node_version,
        )
        if key_ttl is not None:
            request.key_ttl.FromTimedelta(key_ttl)
        stub = effect_service_pb2_grpc.EffectServiceStub(await self.channel(envelope.claim_address))
        message = ""
        for _ in range(_ASKS):
            try:
                await stub.ClaimEffect(request, timeout=_ASK_SECONDS)
            except grpc.aio.AioRpcError as error:
                failure = rpc.read(error)
                message = f"the effect may not be done: {failure.message or failure.code.name}"
                if failure.code not in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}:
                    break
            else:
                return
        raise _refused(message)

    async def channel(self, address: str) -> grpc.aio.Channel:
        """The connection to an orchestrator."""
        if address not in self._channels:
            self._channels[address] = rpc.channel(address, Role.ORCHESTRATOR, self._identity)
        self._channels.move_to_end(address)
        if len(self._channels) > _MAX_CHANNELS:
            await self._channels.popitem(last=False)[1].close()
        return self._channels[address]


def _refused(message: str) -> Refusal:
    return Refusal(grpc.StatusCode.FAILED_PRECONDITION, message, reason=Reason.CLAIM_REFUSED)
