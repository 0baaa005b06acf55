"""What a node's function knows of its call, and the claim it makes through it."""

from __future__ import annotations

import asyncio
from contextlib import AbstractContextManager, nullcontext
from decimal import ROUND_HALF_EVEN, Decimal
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from reflux.core.cost import MAX_NANOS, NANOS, believable, total
from reflux.core.effect import EffectClass
from reflux.runtime.traces import SpanKind
from reflux.sdk.credentials import NONE
from reflux.sdk.faults import Refusal
from reflux.sdk.tracing import NO_SPAN, OpenSpan

if TYPE_CHECKING:
    from datetime import timedelta

    from reflux.runtime.logs import Logger
    from reflux.runtime.traces import Attributes
    from reflux.sdk.claims import Claims
    from reflux.sdk.credentials import Credential, Credentials
    from reflux.sdk.definition import NodeVersion
    from reflux.sdk.envelope import Envelope
    from reflux.sdk.tracing import CallSpans

R = TypeVar("R")

_ANSWER_SECONDS: Final = 0.5
_ANSWER_SHARE: Final = 0.2


class Context(Generic[R]):
    """One call of a node version; `R` is the type of its resources, None when it has none.

    >>> async def charge(given: Input, ctx: Context[Client]) -> Output:
    ...     order = await ctx.resources.prepare(given)
    ...     await ctx.claim(scope=ctx.resources.account)  # with `claims_itself=True`
    ...     return await ctx.resources.charge(order, key=ctx.idempotency_key)
    """

    def __init__(
        self,
        envelope: Envelope,
        *,
        version: NodeVersion,
        effect: EffectClass,
        deadline: float,
        resources: R,
        claims: Claims,
        log: Logger,
        spans: CallSpans | None = None,
        credentials: Credentials = NONE,
    ) -> None:
        self._spans = spans
        self.credentials = credentials
        """Those of the call; a function asks with `credential`."""
        self._envelope = envelope
        self._version = version
        self._claims = claims
        self._deadline = deadline
        self._loop = asyncio.get_running_loop()
        self._claim_lock = asyncio.Lock()
        self.effect = effect
        """What this call does to the outside world, by the version's declaration and its input."""
        self.resources = resources
        """What the version's `resources` opened at start."""
        self.log = log
        """Events written with it carry run, step, attempt and version."""
        self.claimed = False
        """Whether the right to act was granted."""
        self.cost_nanos: int | None = None
        """What was `spent`, in billionths of a US dollar."""
        self.refusal: Refusal | None = None
        """Why it was not; then the call fails, whatever the function makes of it."""

    @property
    def run_id(self) -> str:
        """UUID of the run; empty when the call comes from no run."""
        return self._envelope.run_id

    @property
    def step(self) -> str:
        """Path of the step, e.g. `lines[3]/price`."""
        return self._envelope.step

    @property
    def attempt(self) -> int:
        """Number of the attempt, from 1."""
        return self._envelope.attempt

    @property
    def idempotency_key(self) -> str:
        """Effect-once handle for the provider: the same over the attempts of one generation."""
        return self._envelope.idempotency_key

    @property
    def remaining(self) -> float:
        """Seconds until the call is given up; never negative."""
        return max(0.0, self._deadline - self._loop.time())

    @property
    def budget(self) -> float:
        """Seconds that work on a target may take, so that its failure arrives before the call is given up.

        A call that the mesh itself must end counts against the version, though the target was too slow.
        """
        return self.remaining - min(_ANSWER_SECONDS, self.remaining * _ANSWER_SHARE)

    @property
    def traceparent(self) -> str:
        """W3C `traceparent` of the innermost open span, for calls of one's own; empty in an untraced run."""
        return self._spans.innermost.traceparent if self._spans is not None else ""

    def span(
        self, name: str, *, kind: SpanKind = SpanKind.INTERNAL, attributes: Attributes | None = None
    ) -> AbstractContextManager[OpenSpan]:
        """A span around a part of the work, in the trace of the run; an error that leaves it is told in it.

        >>> with ctx.span("charge", kind=SpanKind.CLIENT, attributes={"server.address": host}) as span:
        ...     answer = await provider.charge(order, headers={"traceparent": span.traceparent})
        ...     span.set("provider.model", answer.model)

        Costs nothing when the run is not traced. Never an input, an output or a secret in it.
        """
        if self._spans is None:
            return nullcontext(NO_SPAN)
        return self._spans.span(name, kind, attributes or {})

    def credential(self, slot: str) -> Credential | None:
        """What the step named for a slot of the version, read for this call; None: nothing.

        >>> key = ctx.credential("stripe")

        What it gives never goes into an output, an error, a log or a span.

        Raises:
            ValueError: the version has no such slot.
        """
        if all(slot != each.name for each in self._version.credentials):
            raise ValueError(f"{self._version.name} has no slot {slot} for credentials")
        return self.credentials.by_slot.get(slot)

    def spent(self, amount: Decimal | int | str) -> None:
        """Say that the call has cost so much, in US dollars; what it says again is added.

        It is journaled with the attempt, also when that fails after it, and shown as the step's `cost`. Say
        only what is certain: without a word the cost is unknown, which is not the same as nothing.

        >>> ctx.spent("0.00125")

        Raises:
            ValueError: it is no amount, less than nothing, or more than a million.
        """
        try:
            nanos = int((Decimal(amount) * NANOS).to_integral_value(ROUND_HALF_EVEN))
        except ArithmeticError:
            raise ValueError(f"{amount!r} is no amount") from None
        if believable(nanos) is None or believable(total(self.cost_nanos, nanos)) is None:
            raise ValueError(f"a call costs between 0 and {MAX_NANOS // NANOS} US dollars, not {amount}")
        self.cost_nanos = total(self.cost_nanos, nanos)

    async def claim(self, *, scope: str | None = None, key_ttl: timedelta | None = None) -> None:
        """Ask for the right to act, once per call; a pure call needs none.

        Args:
            scope: within which the idempotency key holds; default: the version's own.
            key_ttl: how long it is kept; default: the version's own.

        Raises:
            Refusal: nothing may be done; let it pass.
        """
        async with self._claim_lock:
            if self.refusal is not None:
                raise self.refusal
            if self.claimed or self.effect is EffectClass.PURE:
                return
            try:
                await self._claims.claim(
                    self._envelope,
                    scope=self._version.effect.scope if scope is None else scope,
                    node_version=self._version.name,
                    key_ttl=key_ttl or self._version.effect.key_ttl,
                )
            except Refusal as refusal:
                self.refusal = refusal
                raise
            self.claimed = True

    def claim_from_thread(self, *, scope: str | None = None) -> None:
        """`claim` for functions that run in a thread; waits until it is answered."""
        asyncio.run_coroutine_threadsafe(self.claim(scope=scope), self._loop).result()
