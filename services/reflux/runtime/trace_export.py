"""Handing spans to the collector: in bulk, beside the work, and never at its expense.

`add` never waits and never raises; it may be called from any thread. What it takes waits in a bounded queue.
A task of the event loop sends what is there twice a second, one request at a time. Whatever the collector
does, refuse, hang or lie, nothing but spans is lost:

- a request that may be repeated is, `TRIES` times with pauses; then its spans are dropped;
- meanwhile the queue fills, and what finds it full is dropped;
- dropped spans are counted, and the log says so once a minute.

Encoding is cut into slices, so that other tasks of the loop wait for 2 ms at most.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from reflux.runtime import logs, traces
from reflux.runtime.settings import Address

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from reflux.runtime.collector import Collector
    from reflux.runtime.traces import Resource, Span

EXPORT: Final = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"

CAPACITY: Final = 16_384
"""Spans that wait; about 1 KiB each."""
BATCH_SPANS: Final = 1_024
BATCH_BYTES: Final = 2 << 20
"""Collectors take requests of 4 MiB."""
SLICE_SPANS: Final = 64
FLUSH_SECONDS: Final = 0.5
"""Between two looks at the queue."""
EXPORT_SECONDS: Final = 5.0
"""Until a request counts as lost."""
TRIES: Final = 3
PAUSE_SECONDS: Final = 1.0
"""Before the second try; doubled before the third."""
DRAIN_SECONDS: Final = 2.0
"""For what is left when the process ends."""
REPORT_SECONDS: Final = 60.0

_AGAIN: Final = frozenset(
    {
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.OUT_OF_RANGE,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DATA_LOSS,
    }
)
"""What OTLP calls retryable; RESOURCE_EXHAUSTED means: send less."""

log = logs.get_logger("traces")


@dataclass(slots=True)
class ExportStats:
    """Counters since the process started."""

    exported: int = 0
    """Spans the collector has taken."""
    dropped: int = 0
    """Spans lost: the queue was full, the collector away, or it refused them."""


class Exporter:
    """Takes spans and sends them. Made by `exporting`."""

    def __init__(self, channel: grpc.aio.Channel, headers: Iterable[tuple[str, str]]) -> None:
        self._export: Any = channel.unary_unary(
            EXPORT, request_serializer=None, response_deserializer=ExportTraceServiceResponse.FromString
        )
        self._headers = tuple(headers)
        self._queue: deque[tuple[Resource, Span]] = deque()
        self._in_hand = 0
        self._counting = threading.Lock()
        self._closing = asyncio.Event()
        self._reported = 0
        self._report_at = 0.0
        self.stats = ExportStats()
        """For metrics."""

    def add(self, resource: Resource, *spans: Span) -> None:
        """Take spans of one service; some are dropped when the queue is full."""
        # Two threads may both see the last place: a few spans too many do no harm.
        room = max(0, CAPACITY - len(self._queue))
        self._queue.extend((resource, span) for span in spans[:room])
        if len(spans) > room:
            self._drop(len(spans) - room)

    async def run(self) -> None:
        """Send until closed, then what is left."""
        while True:
            last = self._closing.is_set()
            while self._queue:
                request = await self._batch()
                if self._in_hand:
                    await self._send(request)
            self._report()
            if last:
                return
            await self._pause(FLUSH_SECONDS)

    async def close(self, task: asyncio.Task[None]) -> None:
        """End `task`, which runs this; what is left is sent, each request once, within `DRAIN_SECONDS`."""
        self._closing.set()
        await asyncio.wait((task,), timeout=DRAIN_SECONDS)
        task.cancel()
        await asyncio.wait((task,))
        self._drop(len(self._queue) + self._in_hand)
        self._queue.clear()
        self._report(last=True)

    async def _pause(self, seconds: float) -> None:
        """Wait, or until closed."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._closing.wait()

    async def _batch(self) -> bytes:
        """The next request, of spans that are in hand from now on."""
        parts: list[bytes] = []
        size = 0
        while self._queue and self._in_hand < BATCH_SPANS and size < BATCH_BYTES:
            taken = [self._queue.popleft() for _ in range(min(SLICE_SPANS, len(self._queue)))]
            try:
                parts.append(traces.encode(taken))
            except Exception:  # a defect in one span must not end the others'
                log.exception("spans_not_encoded", spans=len(taken))
                self._drop(len(taken))
                continue
            self._in_hand += len(taken)
            size += len(parts[-1])
            await asyncio.sleep(0)
        return b"".join(parts)

    async def _send(self, request: bytes) -> None:
        pause = PAUSE_SECONDS
        rejected = self._in_hand
        for left in range(TRIES - 1, -1, -1):
            try:
                answer = await self._export(request, timeout=EXPORT_SECONDS, metadata=self._headers)
            except grpc.aio.AioRpcError as error:
                if error.code() not in _AGAIN or not left or self._closing.is_set():
                    break
                await self._pause(pause)
                pause *= 2
            except Exception as error:  # noqa: BLE001 - whatever a collector says, the next spans go out
                log.warning("spans_answered_oddly", error=type(error).__name__)
                break
            else:
                # None: the answer could not be read, so nobody knows what was taken.
                if answer is not None:
                    rejected = min(self._in_hand, max(0, answer.partial_success.rejected_spans))
                break
        self.stats.exported += self._in_hand - rejected
        self._drop(rejected)
        self._in_hand = 0

    def _drop(self, count: int) -> None:
        with self._counting:
            self.stats.dropped += count

    def _report(self, *, last: bool = False) -> None:
        now = asyncio.get_running_loop().time()
        if self.stats.dropped > self._reported and (last or now >= self._report_at):
            lost = self.stats.dropped - self._reported
            log.warning("spans_dropped", spans=lost, exported=self.stats.exported)
            self._reported, self._report_at = self.stats.dropped, now + REPORT_SECONDS


@asynccontextmanager
async def exporting(collector: Collector | None) -> AsyncIterator[Exporter | None]:
    """An exporter within the body, drained after it; None without a collector.

    >>> async with exporting(Collector.of(settings)) as exporter:
    ...     exporter.add(Resource.of("reflux-orchestrator"), span)
    """
    if collector is None:
        yield None
        return
    async with _channel(collector) as channel:
        exporter = Exporter(channel, collector.headers)
        task = asyncio.ensure_future(exporter.run())
        try:
            yield exporter
        finally:
            await exporter.close(task)


def _channel(collector: Collector) -> grpc.aio.Channel:
    target = str(Address(collector.endpoint.host, collector.endpoint.port))
    options = (
        ("grpc.max_reconnect_backoff_ms", 5_000),
        ("grpc.enable_retries", 0),
        # Envoy knows no proxy either: the same endpoint must mean the same to both.
        ("grpc.enable_http_proxy", 0),
        ("grpc.use_local_subchannel_pool", 1),
    )
    if collector.authorities is None:
        return grpc.aio.insecure_channel(target, options=options)
    credentials = grpc.ssl_channel_credentials(root_certificates=collector.authorities)
    return grpc.aio.secure_channel(target, credentials, options=options)
