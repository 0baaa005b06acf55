"""`NodeService` over a node version: what stands between the mesh and the author's function.

The order of a call, and what a failure at each point means:

    admission      room, not draining                         Refusal: not processed, another version may
    envelope       well-formed                                TargetFault: INVALID_ARGUMENT
    input          size, schema                               TargetFault: INVALID_ARGUMENT with places
    effect         not weaker than the caller counts on,      Refusal: EFFECT_WEAKER
                   unless the flow declares it for the call
    credentials    there, and fit for their slot              TargetFault: CREDENTIAL_…
    claim          granted (unless pure)                      Refusal: CLAIM_REFUSED
    function       within the deadline                        what it raises; else NodeFault with an error id
    output         of its model, at most 1 MiB                NodeFault / TargetFault

How a fault travels: a NodeFault and a Refusal trailers-only, a TargetFault after initial metadata, and
nothing before success ever sends initial metadata. Whether an effect is possible is not the author's word
alone: a call that is pure or was never claimed had none, so its fault carries `outcome: NO_EFFECT`, and a
NodeFault that was never claimed also the trailer `x-reflux-retry: safe`.

Calls that come together are told in `reflux.sdk.batches`.
"""

from __future__ import annotations

import asyncio
import secrets
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final, NoReturn

import grpc
from pydantic import BaseModel, ValidationError

from reflux.api.node.v1 import node_service_pb2, node_service_pb2_grpc
from reflux.core.document import MAX_DOCUMENT_BYTES
from reflux.core.effect import EffectClass, is_weaker
from reflux.core.errors import CallerError, InvalidArgument, Violation
from reflux.core.reasons import Reason
from reflux.runtime import documents, logs, rpc
from reflux.sdk import metrics
from reflux.sdk.batches import Batch
from reflux.sdk.context import Context
from reflux.sdk.credentials import NONE, Credentials, CredentialStore
from reflux.sdk.envelope import FAULT_KEY, RETRY_KEY, RETRY_SAFE, Envelope
from reflux.sdk.faults import Fault, Full, NodeFault, Refusal, TargetFault
from reflux.sdk.outcome import Done, Failed
from reflux.sdk.shadows import Reporter, is_copy
from reflux.sdk.tracing import VersionSpans, tell
from reflux.sdk.verifying import Asking, ask

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]

    from reflux.runtime.metrics import Labels
    from reflux.runtime.trace_export import Exporter
    from reflux.sdk.claims import Claims
    from reflux.sdk.definition import NodeVersion
    from reflux.sdk.tracing import CallSpans

SERVICE: Final = node_service_pb2.DESCRIPTOR.services_by_name["NodeService"].full_name

_MAX_VIOLATIONS: Final = 20


class NodeServicer(node_service_pb2_grpc.NodeServiceServicer):
    """Serves one node version."""

    def __init__(
        self,
        version: NodeVersion,
        *,
        resources: Any,
        claims: Claims,
        exporter: Exporter | None = None,
        credentials: CredentialStore | None = None,
    ) -> None:
        self.version = version
        """What is served."""
        self._resources = resources
        self._claims = claims
        self._store = credentials or CredentialStore(None)
        self._reporter = Reporter(claims, version.version)
        self._spans = VersionSpans(exporter, version)
        self._log = logs.get_logger("node").bind(node_version=version.name)
        self._threads = ThreadPoolExecutor(version.max_concurrency) if version.in_thread else None
        self._places = asyncio.Semaphore(version.max_concurrency)
        self._in_flight = 0
        self._draining = False

    def drain(self) -> None:
        """Answer every further call NODE_DRAINING; those in flight go on."""
        self._draining = True

    def close(self) -> None:
        """Give the threads back; functions still running in one are not waited for."""
        self._reporter.close()
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)

    async def Describe(  # noqa: N802 - the name in the contract
        self, request: node_service_pb2.DescribeRequest, context: Any
    ) -> node_service_pb2.NodeDescription:
        """What this node version is."""
        del request, context
        return self.version.describe()

    def in_flight(self) -> Mapping[Labels, float]:
        """How many calls are being handled, for the metrics."""
        return {(self.version.node, self.version.version): self._in_flight}

    async def Execute(  # noqa: N802 - the name in the contract
        self, request: node_service_pb2.ExecuteRequest, context: Any
    ) -> node_service_pb2.ExecuteResponse:
        """Do the work once, and count it."""
        began = perf_counter()
        code = grpc.StatusCode.CANCELLED.name  # unless it ends otherwise: the caller has left
        try:
            response = await self._answer(request, context)
            code = "OK"
        except grpc.aio.AbortError:
            code = context.code().name
            raise
        else:
            return response
        finally:
            version = self.version
            metrics.CALL_DURATION.at(version.node, version.version, code).record(perf_counter() - began)

    # grpc.aio takes a coroutine that writes as well as a generator.
    async def ExecuteBatch(  # type: ignore[override]  # noqa: N802 - the name in the contract
        self, request: node_service_pb2.ExecuteBatchRequest, context: Any
    ) -> None:
        """Do the work of several pure calls; see `reflux.sdk.batches`."""
        failed = await Batch(self, request.items, context).serve()
        if failed is not None:
            await self._fail(failed, context)

    async def Verify(  # noqa: N802 - the name in the contract
        self, request: node_service_pb2.VerifyRequest, context: Any
    ) -> node_service_pb2.VerifyResponse:
        """What became of an effect; see `reflux.sdk.verifying`."""
        knowledge = await self._asked(self.version.verify, request.effect, context)
        return node_service_pb2.VerifyResponse(knowledge=knowledge)

    async def Cancel(  # noqa: N802 - the name in the contract
        self, request: node_service_pb2.CancelRequest, context: Any
    ) -> node_service_pb2.CancelResponse:
        """Undo an effect by its key; see `reflux.sdk.verifying`."""
        knowledge = await self._asked(self.version.cancel, request.effect, context)
        return node_service_pb2.CancelResponse(knowledge=knowledge)

    async def _asked(
        self, handler: Asking | None, effect: node_service_pb2.ClaimedEffect, context: Any
    ) -> node_service_pb2.EffectKnowledge:
        with self._spans.call(context.invocation_metadata()) as spans, ExitStack() as place:
            try:
                self.admit()
                await self.take_place(place)
                return await ask(self, handler, effect, context, spans)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is told
                failed = self.failed(error, None, spans)
        return await self._fail(failed, context)

    async def _answer(
        self, request: node_service_pb2.ExecuteRequest, context: Any
    ) -> node_service_pb2.ExecuteResponse:
        metadata = context.invocation_metadata()
        with self._spans.call(metadata) as spans, ExitStack() as place:
            if spans is not None and is_copy(metadata):
                spans.root.set("reflux.shadow", True)
            try:
                self.admit()
                await self.take_place(place)
                envelope = Envelope.read(metadata)
            except (Fault, CallerError) as error:
                outcome: Done | Failed = self.failed(error, None, spans)
            else:
                named, left = request.credentials, context.time_remaining()
                outcome = await self.work(request.input, envelope, left, place, spans, named=named)
        self._reporter.tell(metadata, outcome.output if isinstance(outcome, Done) else outcome.fault)
        if isinstance(outcome, Done):
            return node_service_pb2.ExecuteResponse(output=outcome.output, cost_nanos=outcome.cost_nanos)
        return await self._fail(outcome, context)

    async def work(
        self,
        raw: bytes,
        envelope: Envelope,
        remaining: float | None,
        place: ExitStack,
        spans: CallSpans | None = None,
        *,
        named: Mapping[str, str] | None = None,
    ) -> Done | Failed:
        """The outcome of one call that has its `place`: its output, or how it failed.

        Args:
            raw: the input as it was sent.
            envelope: whose call it is.
            remaining: seconds until it is given up; None for as long as the version says.
            place: closed by the caller, unless a thread goes on in it.
            spans: of the call, when it is traced.
            named: names of credentials, by slot.
        """
        call: Context[Any] | None = None
        try:
            value, effect = self._accept(raw, envelope)
            credentials = await self.find(named)
            call = self.open(envelope, effect, remaining, spans, credentials)
            if not self.version.claims_itself:
                await call.claim()
            return Done(self._finish(await self._run(value, call, place), call), call.cost_nanos)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is told
            return self.failed(error, call, spans)

    def admit(self) -> None:
        """Whether there is room for a call.

        Raises:
            Refusal, Full: there is none.
        """
        if self._draining:
            message = f"{self.version.name} is about to stop"
            raise Refusal(grpc.StatusCode.UNAVAILABLE, message, reason=Reason.NODE_DRAINING)
        if self._places.locked():
            raise Full(f"{self.version.name} handles {self._in_flight} calls, its limit")

    async def take_place(self, place: ExitStack) -> None:
        """A place for one call, given back when `place` closes; at once after `admit`."""
        await self._places.acquire()
        self._in_flight += 1
        place.callback(self._leave)

    def _leave(self) -> None:
        self._in_flight -= 1
        self._places.release()

    def read(self, raw: bytes) -> BaseModel:
        """An input as it was sent.

        Raises:
            InvalidArgument: it does not fit.
        """
        documents.check_size(raw, what="the input")
        try:
            return self.version.input.model_validate_json(raw, strict=True)
        except ValidationError as error:
            raise _invalid(error, self.version.name) from None

    def _accept(self, raw: bytes, envelope: Envelope) -> tuple[BaseModel, EffectClass]:
        value = self.read(raw)
        constant = self.version.effect.constant
        effect = constant or self.version.effect.of(documents.parse_json(raw, what="the input"))
        if is_weaker(effect, envelope.effect):
            if envelope.declared:
                return value, envelope.effect
            message = f"this call is {effect} for {self.version.name}; the caller counts on {envelope.effect}"
            code = grpc.StatusCode.FAILED_PRECONDITION
            raise Refusal(code, message, reason=Reason.EFFECT_WEAKER, metadata={"effect": effect})
        return value, effect

    async def find(self, named: Mapping[str, str] | None) -> Credentials:
        """The credentials that a call names.

        Raises:
            TargetFault: one is not there, or does not fit.
        """
        if not named:
            return NONE
        return await asyncio.to_thread(
            self._store.find, dict(named), self.version.credentials, self.version.name
        )

    def open(
        self,
        envelope: Envelope,
        effect: EffectClass,
        remaining: float | None,
        spans: CallSpans | None,
        credentials: Credentials = NONE,
    ) -> Context[Any]:
        """What the author's function knows of its call."""
        if spans is not None:
            spans.root.set("reflux.run.id", envelope.run_id)
            spans.root.set("reflux.step", envelope.step)
            spans.root.set("reflux.attempt", envelope.attempt)
            spans.root.set("reflux.effect", effect.value)
        seconds = self.version.attempt_timeout.total_seconds() if remaining is None else remaining
        return Context(
            envelope,
            version=self.version,
            effect=effect,
            deadline=asyncio.get_running_loop().time() + seconds,
            resources=self._resources,
            claims=self._claims,
            log=self._log.bind(run_id=envelope.run_id, step=envelope.step, attempt=envelope.attempt),
            spans=spans,
            credentials=credentials,
        )

    async def _run(self, value: BaseModel, call: Context[Any], place: ExitStack) -> Any:
        arguments = (value, call) if self.version.wants_context else (value,)
        async with asyncio.timeout(call.remaining):
            if self._threads is None:
                return await self.version.function(*arguments)
            # The place is free again when the thread is, which nobody can stop, not when the caller gives up.
            thread = self._threads.submit(self.version.function, *arguments)
            leave, loop = place.pop_all().close, asyncio.get_running_loop()
            thread.add_done_callback(lambda _: _call_in(loop, leave))
            return await asyncio.wrap_future(thread)

    def _finish(self, result: Any, call: Context[Any]) -> bytes:
        if call.refusal is not None:
            raise call.refusal
        if call.effect is not EffectClass.PURE and not call.claimed:
            raise RuntimeError(f"{self.version.name} acted without ctx.claim()")
        if not isinstance(result, self.version.output):
            kind = type(result).__name__
            raise TypeError(f"{self.version.name} returned {kind}, not {self.version.output.__name__}")
        output = call.credentials.hide_in_json(result.model_dump_json().encode())
        if len(output) > MAX_DOCUMENT_BYTES:
            raise TargetFault(
                grpc.StatusCode.OUT_OF_RANGE,
                f"the output of step {call.step} is {len(output)} bytes; the limit is {MAX_DOCUMENT_BYTES}",
                reason=Reason.OUTPUT_TOO_LARGE,
                metadata={"size": str(len(output)), "limit": str(MAX_DOCUMENT_BYTES)},
            )
        return output

    def _explain(self, error: Exception, call: Context[Any] | None) -> Fault | None:
        """What was raised as a fault; None for what nobody foresaw."""
        if call is not None and call.refusal is not None:
            return call.refusal
        if isinstance(error, Fault):
            return error
        if isinstance(error, CallerError):
            return TargetFault(
                rpc.CODES[type(error)],
                error.message,
                reason=error.reason,
                metadata=error.metadata,
                violations=error.violations,
            )
        if isinstance(error, TimeoutError) and call is not None and call.remaining == 0:
            message = f"{self.version.name} did not finish within the deadline"
            return NodeFault(grpc.StatusCode.DEADLINE_EXCEEDED, message, reason=Reason.TIMEOUT)
        return None

    def failed(
        self, error: Exception, call: Context[Any] | None = None, spans: CallSpans | None = None
    ) -> Failed:
        """What an error that is being handled means; it is counted, and logged if nobody foresaw it."""
        fault = self._explain(error, call)
        if fault is None:
            error_id = secrets.token_hex(8)
            log = self._log if call is None else call.log
            log.exception("node_failed", error_id=error_id, error=type(error).__name__)  # noqa: LOG004 - see above
            told = rpc.defect(error_id)
            fault = NodeFault(grpc.StatusCode.INTERNAL, told.message, metadata=told.metadata)
        elif call is not None and call.credentials.by_slot:
            fault.hide(call.credentials.hide)
        if spans is not None:
            tell(spans.root, fault)
        if isinstance(fault, Refusal | Full):
            metrics.REFUSALS.at(self.version.node, self.version.version, fault.reason.value).add()
        return Failed(fault, call)

    def status(self, failed: Failed) -> Status:
        """What the caller is told."""
        fault, call = failed.fault, failed.call
        untouched = call is None or call.effect is EffectClass.PURE or not call.claimed
        metadata = {**fault.metadata, "fault": fault.owner, "node_version": self.version.name}
        if untouched or fault.no_effect:
            metadata["outcome"] = "NO_EFFECT"
        if call is not None and call.cost_nanos is not None:
            metadata["cost_nanos"] = str(call.cost_nanos)
        return rpc.make_status(
            fault.code,
            fault.message,
            reason=fault.reason,
            metadata=metadata,
            violations=fault.violations,
            retry_seconds=fault.retry_after.total_seconds() if fault.retry_after else None,
        )

    async def _fail(self, failed: Failed, context: Any) -> NoReturn:
        fault, status = failed.fault, self.status(failed)
        trailers: list[tuple[str, str | bytes]] = [(rpc.DETAILS_KEY, status.SerializeToString())]
        if isinstance(fault, TargetFault):
            await context.send_initial_metadata(((FAULT_KEY, fault.owner),))
        elif failed.safe:
            trailers.append((RETRY_KEY, RETRY_SAFE))
        await context.abort(fault.code, status.message, tuple(trailers))
        raise AssertionError("abort returns never")


def _call_in(loop: asyncio.AbstractEventLoop, function: Callable[[], None]) -> None:
    # After the drain's bound the process ends without waiting for threads, and the loop is gone.
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(function)


def _invalid(error: ValidationError, name: str) -> InvalidArgument:
    """What is wrong with an input, by JSON pointer."""
    details = error.errors(include_url=False, include_context=False, include_input=False)
    violations = [
        Violation("".join(f"/{_escape(part)}" for part in detail["loc"]), detail["msg"])
        for detail in details[:_MAX_VIOLATIONS]
    ]
    first = violations[0]
    more = f" (and {len(details) - 1} more)" if len(details) > 1 else ""
    message = f"the input does not fit {name}: {first.pointer or 'the document'}: {first.message}{more}"
    return InvalidArgument(Reason.INPUT_INVALID, message, violations=violations)


def _escape(part: int | str) -> str:
    return str(part).replace("~", "~0").replace("/", "~1")
