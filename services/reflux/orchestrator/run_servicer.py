"""RunService: start, look, watch. Translates; what it answers is folded from the journal.

Any orchestrator answers for any run. Only starting needs a shard of its own; whatever is said to a run goes
through the inbox, wherever its owner is, and the answer waits until the journal shows it (`words`).
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from hashlib import sha256
from typing import Final

import grpc
from google.api.httpbody_pb2 import HttpBody  # type: ignore[import-untyped]

from reflux.api.run.v1 import run_service_pb2 as pb
from reflux.api.run.v1.run_service_pb2_grpc import RunServiceServicer
from reflux.core import event as ev
from reflux.core.document import Json
from reflux.core.errors import Exhausted, NotFound
from reflux.core.event import FINAL
from reflux.core.names import RunId
from reflux.core.reasons import Reason
from reflux.core.state import RunState
from reflux.orchestrator import codec, live_view, provenance, run_view
from reflux.orchestrator.changes import Changes
from reflux.orchestrator.faulting import FaultDesk
from reflux.orchestrator.flows.cache import FlowCache
from reflux.orchestrator.handles import request_id
from reflux.orchestrator.journal_reader import JournalReader
from reflux.orchestrator.launcher import Launcher, StartOnce
from reflux.orchestrator.operations import search
from reflux.orchestrator.store import runs
from reflux.orchestrator.waiting import Waiter, parse_wait
from reflux.orchestrator.words.documents import run_id_of
from reflux.orchestrator.words.service import Words
from reflux.runtime import documents, pages
from reflux.runtime.callers import actor, traceparent
from reflux.runtime.postgres import Pool

NEWS_SECONDS: Final = 5.0
"""How long a watcher waits for news before it looks whether the run has ended."""
MAX_WATCHERS: Final = 2_000
"""Streams of WatchRun at once."""
WATCH_PAGE: Final = 200
"""Events read at once for a watcher."""

Context = grpc.aio.ServicerContext[object, object]


class RunServicer(RunServiceServicer):
    """Answers clients and the gateway."""

    def __init__(
        self,
        *,
        pool: Pool,
        flows: FlowCache,
        reader: JournalReader,
        launcher: Launcher,
        waiter: Waiter,
        changes: Changes,
        words: Words,
        faults: FaultDesk,
        tries: provenance.Tries | None = None,
    ) -> None:
        self._pool = pool
        self._flows = flows
        self._reader = reader
        self._launcher = launcher
        self._waiter = waiter
        self._changes = changes
        self._words = words
        self._faults = faults
        self._tries = tries
        self._watchers = 0

    async def ExecuteFlow(self, request: pb.ExecuteFlowRequest, context: Context) -> HttpBody:  # noqa: N802
        """Starts a run, and waits for it when asked to."""
        wait = parse_wait(request.wait)
        document = _input(request.input)
        flow = await self._flows.resolve(request.flow_id)
        plan = self._faults.judge(
            flow.flow, test=request.test, rules=tuple(request.faults), seed=request.seed
        )
        once = None
        if handle := request_id(request.request_id):
            digest = sha256(document.raw + (repr(plan).encode() if plan is not None else b"")).digest()
            once = StartOnce(f"flow:{flow.flow_id}", handle, digest)
        launched = await self._launcher.launch(
            flow,
            document,
            once=once,
            actor=actor(context),
            traceparent=traceparent(context),
            faults=plan,
        )
        if wait is not None:
            return await self._run(await self._waiter.settled(launched.run_id, wait))
        return await self._run(launched.first or await self._reader.state(launched.run_id))

    async def GetRun(self, request: pb.GetRunRequest, _context: Context) -> HttpBody:  # noqa: N802
        """One run."""
        return await self._run(await self._reader.state(run_id_of(request.run_id)))

    async def ListRuns(  # noqa: N802
        self, request: pb.ListRunsRequest, _context: Context
    ) -> pb.ListRunsResponse:
        """A page of runs, from their rows."""
        return await search.list_runs(self._pool, self._flows, request)

    async def ListStepRuns(  # noqa: N802
        self, request: pb.ListStepRunsRequest, _context: Context
    ) -> HttpBody:
        """A page of a run's steps; they are only ever added, so a place among them stays theirs."""
        run_id = run_id_of(request.run_id)
        scope = f"steps {run_id}"
        size = pages.page_size(request.page_size or run_view.STEPS_PAGE)
        first = pages.read_token(scope, request.page_token, first=0, parse=pages.place)
        state = await self._reader.state(run_id)
        token = pages.write_token(scope, str(first + size)) if len(state.steps) > first + size else ""
        wanted = provenance.calls_of(state, first, size)
        heard = await self._tries.of(wanted) if self._tries is not None else None
        parked = await live_view.parked_below(self._pool, state)
        return _body(await run_view.steps_document(state, first, size, token, heard=heard, parked=parked))

    async def ListEvents(self, request: pb.ListEventsRequest, _context: Context) -> HttpBody:  # noqa: N802
        """A page of the journal."""
        run_id = run_id_of(request.run_id)
        scope = f"events {run_id}"
        size = pages.page_size(request.page_size)
        after = pages.read_token(scope, request.page_token, first=0, parse=pages.place)
        events, more = await self._reader.page(run_id, after_seq=after, limit=size)
        if not events and after == 0:
            raise _no_run(run_id)
        token = pages.write_token(scope, str(events[-1][0])) if more else ""
        return _body(run_view.events_document(events, token))

    async def WatchRun(  # noqa: N802
        self, request: pb.WatchRunRequest, _context: Context
    ) -> AsyncIterator[pb.WatchRunResponse]:
        """The journal as it grows, until the event that finishes the run."""
        run_id = run_id_of(request.run_id)
        after = request.after_seq
        with self._room_for_a_watcher(), self._changes.watch(run_id) as news:
            while True:
                row = await runs.get(self._pool, run_id)
                if row is None:
                    raise _no_run(run_id)
                # Read after the row: a run that had finished by then has all its events.
                page, _ = await self._reader.page(run_id, after_seq=after, limit=WATCH_PAGE)
                for seq, time, event in page:
                    after = seq
                    last = isinstance(event, ev.RunFinished)
                    document = run_view.event_document(seq, time, event)
                    kind = codec.kind_of(event)
                    yield pb.WatchRunResponse(seq=seq, kind=kind, document=document, last=last)
                if not page:
                    if row.state in FINAL:
                        return
                    await news(NEWS_SECONDS)

    async def CancelRun(self, request: pb.CancelRunRequest, context: Context) -> HttpBody:  # noqa: N802
        """The run, cancelled or on its way there."""
        return await self._words.cancel(request, actor(context))

    async def TerminateRun(self, request: pb.TerminateRunRequest, context: Context) -> HttpBody:  # noqa: N802
        """The run, ended."""
        return await self._words.terminate(request, actor(context))

    async def PauseRun(self, request: pb.PauseRunRequest, context: Context) -> HttpBody:  # noqa: N802
        """The run, paused."""
        return await self._words.pause(request, actor(context))

    async def ResumeRun(self, request: pb.ResumeRunRequest, context: Context) -> HttpBody:  # noqa: N802
        """The run, going on."""
        return await self._words.resume(request, actor(context))

    async def SignalRun(self, request: pb.SignalRunRequest, context: Context) -> HttpBody:  # noqa: N802
        """What became of a signal to a run."""
        return await self._words.signal(request, actor(context))

    async def SendSignal(self, request: pb.SendSignalRequest, context: Context) -> HttpBody:  # noqa: N802
        """What became of a signal to whoever waits for it."""
        return await self._words.send(request, actor(context))

    async def AnswerStep(self, request: pb.AnswerStepRequest, context: Context) -> HttpBody:  # noqa: N802
        """The run after an answer."""
        return await self._words.answer(request, actor(context))

    async def GetApprovalToken(  # noqa: N802
        self, request: pb.GetApprovalTokenRequest, _context: Context
    ) -> pb.ApprovalToken:
        """Who has it can answer."""
        return await self._words.token(request)

    async def ShowApproval(self, request: pb.ShowApprovalRequest, _context: Context) -> HttpBody:  # noqa: N802
        """What is asked of the holder of a token."""
        return await self._words.show(request)

    async def AnswerApproval(  # noqa: N802
        self, request: pb.AnswerApprovalRequest, _context: Context
    ) -> HttpBody:
        """The answer of the holder of a token."""
        return await self._words.answer_by_token(request)

    async def SkipStep(self, request: pb.SkipStepRequest, context: Context) -> HttpBody:  # noqa: N802
        """The run without the step."""
        return await self._words.skip(request, actor(context))

    async def CompleteStep(self, request: pb.CompleteStepRequest, context: Context) -> HttpBody:  # noqa: N802
        """The run after a decision about a PARKED step."""
        return await self._words.complete(request, actor(context))

    async def _run(self, state: RunState) -> HttpBody:
        return _body(await live_view.run_document(self._pool, state))

    @contextmanager
    def _room_for_a_watcher(self) -> Iterator[None]:
        if self._watchers >= MAX_WATCHERS:
            raise Exhausted(
                Reason.TOO_MANY_WATCHERS, f"{MAX_WATCHERS} runs are being watched here; try again"
            )
        self._watchers += 1
        try:
            yield
        finally:
            self._watchers -= 1


def _body(document: bytes) -> HttpBody:
    return HttpBody(content_type="application/json", data=document)


def _input(body: HttpBody) -> Json:
    """The input as it was sent, when it was JSON; `{}` when nothing was sent."""
    value = documents.parse(body, what="the input")
    if value is None:
        return Json(b"{}")
    is_json = body.content_type.partition(";")[0].strip().lower() in ("", "application/json")
    return Json(body.data.strip()) if is_json else Json.of(value)


def _no_run(run_id: RunId) -> NotFound:
    return NotFound(Reason.RUN_NOT_FOUND, f"there is no run {run_id}", metadata={"run_id": run_id})
