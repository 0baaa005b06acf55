"""What the author of a node version imports: one decorated function is one gRPC service.

Owns: the contract of `reflux.api.node.v1` in Python, that is input checked before the function runs, the
effect class held to, the claim before an effect, faults told apart, a bounded number of calls, and the lease
on a place in the mesh. Calls: the registry's EndpointService, and the EffectService of the orchestrator that
started a call. Called by: the mesh.

    from datetime import timedelta
    from reflux.sdk import Context, EffectClass, Model, TargetFault, node

    class Input(Model):
        sku: str

    class Output(Model):
        price: int

    @node("pricing.quote", "1.0.0", effect=EffectClass.PURE, attempt_timeout=timedelta(seconds=5))
    async def quote(given: Input, ctx: Context[None]) -> Output:
        "Price of an article, in cents."
        ctx.log.info("quoting", sku=given.sku)
        return Output(price=100)

    asyncio.run(serve([quote], Settings.load()))

A version that may have acted without anybody hearing of it says what became of that: its handlers `verify`
and `cancel` (`reflux.sdk.verifying`).

A step may name a credential for a version that declares a slot for it: `ctx.credential("name")` is what was
named, read where the version runs (`reflux.sdk.credentials`). What a call costs is said with `ctx.spent`.

What the function does is part of the run's trace: `ctx.span("charge")` adds to it, `ctx.traceparent` takes
it further.

An `async def` runs in the event loop and must not block it: that is the fast way. A plain `def` runs in a
thread of its own, which costs a call about 0.1 ms. Measured with 64 calls in flight: this server on uvloop
6,650 calls/s at 162 µs of CPU, a thread-pool server 7,110 at 147 µs, a thread-pool server that hands
coroutines to a loop 3,660 at 289 µs; so there is one kind of server.
"""

from reflux.core.effect import EffectClass
from reflux.core.reasons import Reason
from reflux.runtime.traces import SpanKind
from reflux.sdk.context import Context
from reflux.sdk.credentials import Basic, Bearer, Credential, CredentialSlot, Header, Key
from reflux.sdk.definition import Model, NodeVersion, node
from reflux.sdk.faults import Full, NodeFault, TargetFault
from reflux.sdk.serving import serve
from reflux.sdk.verifying import Asked, Found, Knowledge, Unknown, Voided

__all__ = [
    "Asked",
    "Basic",
    "Bearer",
    "Context",
    "Credential",
    "CredentialSlot",
    "EffectClass",
    "Found",
    "Full",
    "Header",
    "Key",
    "Knowledge",
    "Model",
    "NodeFault",
    "NodeVersion",
    "Reason",
    "SpanKind",
    "TargetFault",
    "Unknown",
    "Voided",
    "node",
    "serve",
]
