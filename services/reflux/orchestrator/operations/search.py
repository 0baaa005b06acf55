"""Searching runs: from requests to filters, from rows to what lists show."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, cast

from reflux.api.operation.v1 import operation_service_pb2 as operation_pb
from reflux.api.run.v1 import run_service_pb2 as pb
from reflux.core.errors import InvalidArgument
from reflux.core.event import RunPhase
from reflux.core.fingerprint import is_fingerprint
from reflux.core.names import is_id, is_name
from reflux.core.reasons import Reason
from reflux.orchestrator.store import runs
from reflux.orchestrator.store.runs import FailureGroup, RunFilter, RunRow
from reflux.orchestrator.words.documents import run_id_of
from reflux.runtime import pages

if TYPE_CHECKING:
    from reflux.core.names import FlowId
    from reflux.orchestrator.flows.cache import FlowCache
    from reflux.runtime.clock import Clock
    from reflux.runtime.postgres import Pool

FAILURES_WITHIN: Final = timedelta(days=30)
"""How far back failures are grouped unless a time is given: a page reads all runs of its groups."""
_FIRST: Final = datetime.min.replace(tzinfo=UTC)
MAX_TEXT: Final = 1_000
"""Characters of a filter."""


async def filter_of(request: pb.ListRunsRequest, flows: FlowCache) -> RunFilter:
    """Which runs a request asks for.

    Raises:
        InvalidArgument: a filter has a wrong form, or does not go with another one.
        NotFound: there is no such flow.
    """
    states = list(request.states)
    if request.state:
        if states:
            raise InvalidArgument(Reason.ARGUMENT_INVALID, "give state or states, not both")
        states = [request.state]
    if request.trigger and not request.flow_id:
        message = "trigger: ids of triggers are unique in a flow only; give flow_id too"
        raise InvalidArgument(Reason.ARGUMENT_INVALID, message)
    return RunFilter(
        flow_id=await flow_id_of(request.flow_id, flows),
        states=tuple(dict.fromkeys(phase_of(state) for state in states)) or None,
        fingerprint=fingerprint_of(request.fingerprint),
        key=_text("key", request.key),
        trigger=trigger_of(request.trigger),
        origin=run_id_of(origin, "origin_run_id") if (origin := request.origin_run_id) else None,
        test=request.test if request.HasField("test") else None,
        created_from=time_of(request, "created_after"),
        created_before=time_of(request, "created_before"),
    )


async def list_runs(pool: Pool, flows: FlowCache, request: pb.ListRunsRequest) -> pb.ListRunsResponse:
    """A page of runs, from their rows.

    Raises:
        InvalidArgument, NotFound: as `filter_of`; the page token is of another list.
        psycopg.Error: the database is away.
    """
    which = await filter_of(request, flows)
    scope = f"runs {which}"
    size = pages.page_size(request.page_size)
    older_than = pages.read_token(scope, request.page_token, first=None, parse=run_id_of)
    rows = await runs.list_page(pool, which, limit=size + 1, older_than=older_than)
    token = pages.write_token(scope, rows[size - 1].run_id) if len(rows) > size else ""
    return pb.ListRunsResponse(runs=[summary(row) for row in rows[:size]], next_page_token=token)


async def list_fingerprints(
    pool: Pool, flows: FlowCache, clock: Clock, request: operation_pb.ListFingerprintsRequest
) -> operation_pb.ListFingerprintsResponse:
    """A page of failures.

    Raises:
        InvalidArgument, NotFound: as `list_runs`.
        psycopg.Error: the database is away.
    """
    flow_id = await flow_id_of(request.flow_id, flows)
    since, before = time_of(request, "created_after"), time_of(request, "created_before")
    scope = f"fingerprints {flow_id} {since} {before}"
    size = pages.page_size(request.page_size)
    after = pages.read_token(scope, request.page_token, first="")
    last = min(before or clock.now(), clock.now())
    earliest = last - min(FAILURES_WITHIN, last - _FIRST)  # year 1 is a time, too
    which = RunFilter(flow_id, created_from=since or earliest, created_before=before)
    groups = await runs.list_failures(pool, which, limit=size + 1, after=after)
    token = pages.write_token(scope, groups[size - 1].fingerprint) if len(groups) > size else ""
    found = [_group(group) for group in groups[:size]]
    return operation_pb.ListFingerprintsResponse(fingerprints=found, next_page_token=token)


def summary(row: RunRow) -> pb.Run:
    """A run as lists show it."""
    run = pb.Run(
        id=row.run_id,
        flow_id=row.flow_id,
        flow_name=row.flow_name,
        flow_version=row.flow_version,
        state=pb.Run.State.Value(row.state.value),
        actor=row.actor,
        trigger=row.trigger or "",
        key=row.search_key or "",
        fingerprint=row.fingerprint or "",
        test=row.test,
    )
    run.create_time.FromDatetime(row.created_at)
    if row.finished_at is not None:
        run.finish_time.FromDatetime(row.finished_at)
    if row.operation is not None:
        run.origin.operation, run.origin.run_id = row.operation, row.origin or ""
    if row.failure is not None:
        failure = row.failure
        run.error.code, run.error.reason = failure.code, failure.reason
        run.error.message, run.error.step = failure.message, failure.step
    return run


async def flow_id_of(given: str, flows: FlowCache) -> FlowId | None:
    """The flow with this name, or id, which its runs keep when it is deleted; None when none was given.

    Raises:
        NotFound: there is none.
    """
    return (await flows.identify(given)).flow_id if given else None


def phase_of(state: int) -> RunPhase:
    """A state by its number.

    Raises:
        InvalidArgument: there is none.
    """
    try:
        return RunPhase(pb.Run.State.Name(cast("pb.Run.State.ValueType", state)))
    except ValueError:
        known = ", ".join(RunPhase)
        raise InvalidArgument(Reason.ARGUMENT_INVALID, f"states: a run is one of {known}") from None


def fingerprint_of(text: str) -> str | None:
    """A fingerprint; None when none was given.

    Raises:
        InvalidArgument: it is none.
    """
    if text and not is_fingerprint(text):
        raise InvalidArgument(Reason.ARGUMENT_INVALID, "fingerprint: 16 hexadecimal digits, in lower case")
    return text or None


def trigger_of(text: str) -> str | None:
    """The id of a trigger; None when none was given.

    Raises:
        InvalidArgument: it is none.
    """
    if text and not is_name(text) and not is_id(text):
        raise InvalidArgument(Reason.ARGUMENT_INVALID, "trigger: not the id of a trigger")
    return text or None


def time_of(request: Any, name: str) -> datetime | None:
    """A time of a request; None when it was not given.

    Raises:
        InvalidArgument: it is outside of what a calendar holds.
    """
    if not request.HasField(name):
        return None
    try:
        return cast("datetime", getattr(request, name).ToDatetime(tzinfo=UTC))
    except (ValueError, OverflowError):
        raise InvalidArgument(Reason.ARGUMENT_INVALID, f"{name}: not a time") from None


def _text(name: str, text: str) -> str | None:
    if len(text) > MAX_TEXT or "\0" in text:
        message = f"{name}: a text of at most {MAX_TEXT} characters, without NUL"
        raise InvalidArgument(Reason.ARGUMENT_INVALID, message)
    return text or None


def _group(group: FailureGroup) -> operation_pb.Fingerprint:
    found = operation_pb.Fingerprint(
        fingerprint=group.fingerprint, count=group.count, example=summary(group.newest)
    )
    found.first_time.FromDatetime(group.first_at)
    found.last_time.FromDatetime(group.newest.created_at)
    return found
