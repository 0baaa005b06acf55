"""One operation with many runs: count, then page by page, each run by itself.

- Somebody who asks says how many runs he expects. If more match, nothing is done: the filter is wider than he
  thinks. Runs that begin after the request never match, so what the operation itself makes is left alone. A
  request_id stands for what it was used for first, and for that moment: repeated, the request finds no run
  that began since, and another one under the same request_id is refused.
- A page is done by a bounded number of workers; what one run refuses is counted by its reason and stops
  nothing. When the database is away the page fails as a whole; asked again with the same request_id it goes
  on without retrying or forking any run twice.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

import orjson

from reflux.core.errors import AlreadyExists, InvalidArgument, RefluxError, Refused
from reflux.core.event import RunPhase
from reflux.core.flow.problems import nearest
from reflux.core.names import RunId, is_id
from reflux.core.reasons import Reason
from reflux.orchestrator.bodies import Fields
from reflux.orchestrator.operations import search
from reflux.orchestrator.store import runs
from reflux.orchestrator.store.runs import RunFilter, RunRow
from reflux.orchestrator.store.start import find_started, take_handle
from reflux.orchestrator.words.documents import RUN_ID_RULE, run_id_of
from reflux.runtime import pages
from reflux.runtime.ids import time_of, uuid7

if TYPE_CHECKING:
    from datetime import datetime

    from google.api.httpbody_pb2 import HttpBody  # type: ignore[import-untyped]

    from reflux.orchestrator.flows.cache import FlowCache
    from reflux.orchestrator.operations.acts import Act, Acts, Asked, Done
    from reflux.runtime.clock import Clock
    from reflux.runtime.postgres import Pool

MAX_COUNT: Final = 100_000
MAX_PAGE: Final = 1_000
AT_ONCE: Final = 8
"""Runs in hand: half of the connections to the database, so that others are served meanwhile."""
SHOWN: Final = 100
SAMPLE: Final = 20
SCOPE: Final = "bulk"
"""Of the handles of bulk operations."""
DONE: Final = "DONE"
UNCHANGED: Final = "UNCHANGED"

_FIELDS: Final = ("filter", "operation", "arguments", "expected_count", "limit", "dry_run")
_FILTER: Final = (
    "flow_id",
    "states",
    "created_after",
    "created_before",
    "fingerprint",
    "key",
    "trigger",
    "origin_run_id",
    "test",
)


@dataclass(frozen=True, slots=True)
class Bulk:
    """What to do with which runs."""

    which: RunFilter
    operation: str
    act: Act
    expected: int | None
    limit: int
    dry_run: bool
    digest: str
    """Of the filter and the operation: what a page token belongs to."""
    body_digest: bytes
    """Of what must be equal for the same request_id; how many are expected may have changed."""


@dataclass(slots=True)
class Outcomes:
    """What came of the runs of a page."""

    counts: dict[str, int] = field(default_factory=dict)
    first: dict[str, tuple[RunRow, str]] = field(default_factory=dict)
    """Of each reason: the run, and what it was told."""
    shown: list[dict[str, Any]] = field(default_factory=list)

    def add(self, row: RunRow, reason: str, message: str = "", new_run_id: str = "") -> None:
        """Counts one run."""
        self.counts[reason] = self.counts.get(reason, 0) + 1
        self.first.setdefault(reason, (row, message))
        if len(self.shown) < SHOWN:
            self.shown.append(shown(row, reason, new_run_id))


class Bulks:
    """Does bulk operations. Every method may raise psycopg.Error."""

    def __init__(self, *, pool: Pool, flows: FlowCache, clock: Clock, acts: Acts) -> None:
        self._pool = pool
        self._flows = flows
        self._clock = clock
        self._acts = acts

    async def do(self, body: HttpBody, page_token: str, asked: Asked) -> dict[str, Any]:
        """One page; the BulkResult.

        Raises:
            InvalidArgument: FILTER_MISSING, or the document says what cannot be.
            NotFound: there is no such flow.
            AlreadyExists: the request_id was used for something else.
            Refused: COUNT_EXCEEDED, nothing was done.
        """
        bulk = await self._read(body)
        listing = f"bulk {bulk.digest}"
        token = pages.read_token(listing, page_token, first="")
        older_than = run_id_of(token) if token else None
        handle = "" if bulk.dry_run else asked.request_id
        began = await self._first_use(handle, bulk)
        which = _until(began or self._clock.now(), bulk.which)
        matched = await runs.count(self._pool, which, limit=MAX_COUNT)
        if bulk.dry_run:
            sample = await runs.list_page(self._pool, which, limit=SAMPLE)
            return _result(matched, [shown(row) for row in sample], Outcomes(), "")
        if older_than is None and matched > (bulk.expected or 0):
            message = f"{matched} runs match, and {bulk.expected} were expected: nothing was done"
            raise Refused(Reason.COUNT_EXCEEDED, message, metadata={"count": str(matched)})
        if handle and began is None:
            which = _until(await self._use(handle, bulk), which)
        rows = await runs.list_page(self._pool, which, limit=bulk.limit + 1, older_than=older_than)
        page = rows[: bulk.limit]
        outcomes = await _do_all(bulk.act, page, asked)
        after = pages.write_token(listing, page[-1].run_id) if len(rows) > len(page) else ""
        return _result(matched, outcomes.shown, outcomes, after)

    async def _first_use(self, handle: str, bulk: Bulk) -> datetime | None:
        """When a request with this handle was first done.

        Raises:
            AlreadyExists: it was another one.
        """
        known = await find_started(self._pool, SCOPE, handle) if handle else None
        if known is None:
            return None
        if known.body_digest != bulk.body_digest:
            message = (
                "this request_id was used within 7 days for other runs or another operation: use another one"
            )
            raise AlreadyExists(Reason.REQUEST_ID_REUSED, message, metadata={"request_id": handle})
        return time_of(known.run_id)

    async def _use(self, handle: str, bulk: Bulk) -> datetime:
        """The moment that the handle stands for from now on; of two requests at once the first one's.

        Raises:
            AlreadyExists: as `_first_use`.
        """
        # What it begins is many runs, so in place of a run the handle has an id that carries the time.
        made = RunId(uuid7(self._clock.now()))
        await take_handle(self._pool, SCOPE, handle, made, bulk.body_digest)
        return await self._first_use(handle, bulk) or self._clock.now()

    async def _read(self, body: HttpBody) -> Bulk:
        """The document.

        Raises:
            InvalidArgument, NotFound: as `do`.
        """
        fields = Fields.of(body, what="the bulk", known=_FIELDS)
        name = fields.text("operation", required=True)
        operation = self._acts.table.get(name)
        if operation is None:
            if name:  # else that is said already
                fields.wrong("operation", f"no operation; {nearest(name, self._acts.table)}".rstrip("; "))
            fields.check()
            raise AssertionError("a wrong field is refused")
        dry_run = fields.flag("dry_run")
        expected = fields.number("expected_count", least=0, most=MAX_COUNT - 1)
        if not dry_run and not fields.has("expected_count"):
            fields.wrong("expected_count", "say how many runs match at most; a dry_run tells how many do")
        arguments = fields.object("arguments", what=f"the arguments of {name}", known=operation.arguments)
        act = operation.read(arguments)
        fields.take(arguments)
        limit = fields.number("limit", least=1, most=MAX_PAGE) or MAX_PAGE
        inner = fields.object("filter", what="the filter", known=_FILTER)
        if not any(inner.says(key) for key in _FILTER):
            fields.take(inner)
            fields.check()
            message = "an operation on many runs says on which: give a filter with at least one field"
            raise InvalidArgument(Reason.FILTER_MISSING, message)
        which = await self._filter(inner, name, operation.states)
        fields.take(inner)
        fields.check()
        said = [str(which), name, body.data.decode(errors="replace")]
        digest = sha256(orjson.dumps(said)).hexdigest()[:32]
        given = fields.json("arguments")
        same = sha256(orjson.dumps([str(which), name, given.raw.decode() if given else None])).digest()
        return Bulk(which, name, act, expected, limit, dry_run, digest, same)

    async def _filter(self, fields: Fields, name: str, allowed: tuple[RunPhase, ...]) -> RunFilter:
        states = []
        for text in fields.list_of_texts("states"):
            if text not in allowed:
                fields.wrong("states", f"{name} is for runs that are {', '.join(allowed)}; not {text[:40]}")
            else:
                states.append(RunPhase(text))
        flow, trigger, origin = (fields.text(key) for key in ("flow_id", "trigger", "origin_run_id"))
        if trigger and not flow:
            fields.wrong("trigger", "ids of triggers are unique in a flow only: give flow_id too")
        if origin and not is_id(origin):
            fields.wrong("origin_run_id", RUN_ID_RULE)
            origin = ""
        return RunFilter(
            flow_id=await search.flow_id_of(flow, self._flows),
            states=tuple(dict.fromkeys(states)) or allowed,
            fingerprint=search.fingerprint_of(fields.text("fingerprint")),
            key=fields.text("key") or None,
            trigger=search.trigger_of(trigger),
            origin=run_id_of(origin) if origin else None,
            test=fields.flag("test") if fields.has("test") else None,
            created_from=fields.time("created_after"),
            created_before=fields.time("created_before"),
        )


def _until(time: datetime, which: RunFilter) -> RunFilter:
    """Of these runs those that had begun by then."""
    return replace(which, created_before=min(which.created_before or time, time))


async def _do_all(act: Act, page: list[RunRow], asked: Asked) -> Outcomes:
    """Every run of a page, some at once.

    Raises:
        psycopg.Error: the database is away; what was done stays done.
    """
    room = asyncio.Semaphore(AT_ONCE)

    async def one(row: RunRow) -> Done | RefluxError:
        async with room:
            try:
                return await act(row.run_id, asked)
            except RefluxError as error:
                return error

    outcomes = Outcomes()
    results = await asyncio.gather(*map(one, page), return_exceptions=True)
    for row, result in zip(page, results, strict=True):
        if isinstance(result, RefluxError):
            outcomes.add(row, result.reason.value, result.message)
        elif isinstance(result, BaseException):
            raise result
        else:
            reason = DONE if result.changed else UNCHANGED
            outcomes.add(row, reason, new_run_id=result.new_run_id or "")
    return outcomes


def shown(row: RunRow, reason: str = "", new_run_id: str = "") -> dict[str, Any]:
    """A BulkRun."""
    return {"run_id": row.run_id, "reason": reason, "new_run_id": new_run_id, "state": row.state.value}


def _result(
    matched: int, listed: list[dict[str, Any]], outcomes: Outcomes, next_page_token: str
) -> dict[str, Any]:
    return {
        "matched": matched,
        "handled": sum(outcomes.counts.values()),
        "outcomes": [
            {"reason": reason, "count": count, "message": message, "run_id": row.run_id}
            for reason, count in sorted(outcomes.counts.items(), key=lambda item: -item[1])
            for row, message in [outcomes.first[reason]]
        ],
        "runs": listed,
        "next_page_token": next_page_token,
    }
