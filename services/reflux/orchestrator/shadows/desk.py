"""The desk: the real answer and the shadow's report of one call meet here, and are compared.

Either may come first. What has come waits for the other for `WAIT_SECONDS`, at most `MAX_WAITING` of either
and `MAX_BYTES` of outputs together; the oldest goes first. An answer that goes is `unheard`; a report whose
answer never comes (its run was cancelled, or is another orchestrator's by now) is nothing. Findings are added
up in memory and written every `WRITE_SECONDS`; while the database is away they go on adding up, within
`MAX_FINDINGS` places, and what a crash loses is a few comparisons.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import orjson
import psycopg

from reflux.core.event import Outcome
from reflux.orchestrator.shadows import store
from reflux.orchestrator.shadows.compare import Difference, differences, digest
from reflux.orchestrator.shadows.store import MAX_EXAMPLES, TOTAL, Finding, Place
from reflux.runtime import logs
from reflux.runtime.tasks import forever

if TYPE_CHECKING:
    from reflux.core.attempt import AttemptResult
    from reflux.core.names import RunId, StepPath
    from reflux.orchestrator.caller import Order
    from reflux.runtime.postgres import Pool

WAIT_SECONDS: Final = 60.0
MAX_WAITING: Final = 2_000
MAX_BYTES: Final = 32 << 20
MAX_FINDINGS: Final = 2_000
WRITE_SECONDS: Final = 1.0
FORGET_SECONDS: Final = 3_600.0
MAX_OUTPUT: Final = 64 << 10
"""A larger output is compared by its digest."""

log = logs.get_logger("shadows")

Call = tuple[str, str, int]
"""run, step, attempt"""


@dataclass(frozen=True, slots=True)
class Report:
    """What a shadow made of its copy."""

    version: str
    output: bytes
    """Empty when it failed, or is larger than MAX_OUTPUT."""
    digest: bytes
    failure: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What the real call gave; None when there is nothing to compare with."""

    node: str
    version: str
    """The one in the shadow."""
    output: bytes | None


@dataclass(frozen=True, slots=True)
class Waiting:
    """The first of the two."""

    what: Answer | Report
    until: float

    @property
    def size(self) -> int:
        """Bytes of output."""
        return len(self.what.output or b"")


class Desk:
    """Of one orchestrator."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._waiting: OrderedDict[Call, Waiting] = OrderedDict()
        self._bytes = 0
        self._findings: dict[Place, Finding] = {}

    def answered(self, order: Order, result: AttemptResult) -> None:
        """The real call of an order with a shadow is over."""
        assert order.shadow is not None
        own = result.assignment.answered_by == order.shadow
        given = result.outcome is Outcome.DONE and result.output is not None and not own
        output = result.output.raw if given and result.output is not None else None
        answer = Answer(order.node, order.shadow, output)
        call = (order.run_id, order.step, order.attempt)
        report = self._take(call)
        if report is not None and isinstance(report.what, Report):
            self._compare(call, answer, report.what)
        else:
            self._wait(call, answer)

    def reported(self, run_id: RunId, step: StepPath, attempt: int, report: Report) -> None:
        """A shadow has told what it made of its copy."""
        call = (run_id, step, attempt)
        answer = self._take(call)
        if answer is not None and isinstance(answer.what, Answer):
            self._compare(call, answer.what, report)
        else:
            self._wait(call, report)

    async def run(self) -> None:
        """Write for ever."""
        loop = asyncio.get_running_loop()
        forget_at = loop.time()
        for _ in forever():
            self.expire(loop.time())
            try:
                if self._findings:
                    await self.write()
                if loop.time() >= forget_at:
                    forget_at = loop.time() + FORGET_SECONDS
                    await store.forget(self._pool)
            except psycopg.Error as error:
                log.warning("shadows_unwritten", places=len(self._findings), error=str(error))
            await asyncio.sleep(WRITE_SECONDS)

    async def write(self) -> None:
        """Write what was found. Raises psycopg.Error; then it is written the next time."""
        written, self._findings = self._findings, {}
        try:
            await store.add(self._pool, written)
        except BaseException:
            for place, finding in self._findings.items():
                _merge(written, place, finding)
            self._findings = written
            raise

    def expire(self, now: float) -> None:
        """Give up what has waited for too long, or is too much."""
        while self._waiting:
            call, first = next(iter(self._waiting.items()))
            crowded = len(self._waiting) > MAX_WAITING or self._bytes > MAX_BYTES
            if first.until > now and not crowded:
                return
            self._take(call)
            if isinstance(first.what, Answer):
                self._count(first.what, "unheard" if first.what.output is not None else "uncompared")

    def _take(self, call: Call) -> Waiting | None:
        found = self._waiting.pop(call, None)
        if found is not None:
            self._bytes -= found.size
        return found

    def _wait(self, call: Call, what: Answer | Report) -> None:
        now = asyncio.get_running_loop().time()
        self._waiting[call] = waiting = Waiting(what, now + WAIT_SECONDS)
        self._bytes += waiting.size
        self.expire(now)

    def _compare(self, call: Call, answer: Answer, report: Report) -> None:
        if answer.output is None or report.version != answer.version:
            self._count(answer, "uncompared")
            return
        if report.failure:
            found = [Difference("", "failed", "", report.failure)]
            self._count(answer, "failed")
        else:
            found = _between(answer.output, report)
            self._count(answer, "different" if found else "equal")
        for each in found:
            example = {
                **dict(zip(("run_id", "step", "attempt"), call, strict=True)),
                "answered": each.answered,
                "shadowed": each.shadowed,
            }
            self._add((answer.node, answer.version, each.kind, each.pointer), Finding(1, [example]))

    def _count(self, answer: Answer, kind: str) -> None:
        self._add((answer.node, answer.version, kind, TOTAL), Finding(1))

    def _add(self, place: Place, finding: Finding) -> None:
        if place in self._findings or len(self._findings) < MAX_FINDINGS:
            _merge(self._findings, place, finding)


def _merge(into: dict[Place, Finding], place: Place, newer: Finding) -> None:
    there = into.setdefault(place, Finding())
    there.count += newer.count
    there.examples = [*newer.examples, *there.examples][:MAX_EXAMPLES]


def _between(output: bytes, report: Report) -> list[Difference]:
    value: Any = orjson.loads(output)
    if digest(value) == report.digest:
        return []
    if not report.output or len(output) > MAX_OUTPUT:
        return [Difference("", "unread")]
    try:
        return differences(value, orjson.loads(report.output))
    except orjson.JSONDecodeError:
        return [Difference("", "failed", "", "its output is not JSON")]
