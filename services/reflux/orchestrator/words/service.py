"""The part of RunService that says something to runs: translate, tell, translate back.

`RunServicer` delegates to it; who asks is given by the servicer, which knows the edge's headers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import orjson
from google.api.httpbody_pb2 import HttpBody  # type: ignore[import-untyped]

from reflux.api.run.v1 import run_service_pb2 as pb
from reflux.core.document import NULL
from reflux.core.errors import Refused, Unavailable
from reflux.core.event import Choice, RunPhase
from reflux.core.flow.model import ApproveAction, NodeAction
from reflux.core.place import step_not_found
from reflux.core.reasons import Reason
from reflux.core.waits import MAX_KEY
from reflux.core.word import (
    MAX_PAYLOAD_BYTES,
    Answer,
    Cancel,
    Overrule,
    Pause,
    Resume,
    Signal,
    Terminate,
    WordId,
)
from reflux.orchestrator import live_view, run_view
from reflux.orchestrator.bodies import Fields
from reflux.orchestrator.words import tokens
from reflux.orchestrator.words.documents import (
    MAX_BY,
    completion,
    decision,
    handle,
    run_id_of,
    signal_key,
    signal_name,
    step_of,
)
from reflux.orchestrator.words.signals import Signals
from reflux.orchestrator.words.teller import Teller

if TYPE_CHECKING:
    from collections.abc import Callable

    from reflux.core.names import RunId, StepPath
    from reflux.core.state import RunState
    from reflux.orchestrator.changes import Changes
    from reflux.orchestrator.journal_reader import JournalReader
    from reflux.orchestrator.mesh_view import MeshView
    from reflux.orchestrator.store.wake import Wake
    from reflux.runtime.clock import Clock
    from reflux.runtime.postgres import Pool

_ANSWER: Final = ("approved", "form", "comment", "request_id")


class Words:
    """Answers what is said to runs. Every method raises what `Teller.tell` does, and InvalidArgument."""

    def __init__(
        self,
        *,
        pool: Pool,
        teller: Teller,
        signals: Signals,
        reader: JournalReader,
        mesh: MeshView,
        key: tokens.TokenKey,
    ) -> None:
        self._pool = pool
        self.teller = teller
        self.signals = signals
        """Somebody must `run` it."""
        self._reader = reader
        self._mesh = mesh
        self._key = key

    @classmethod
    def over(
        cls,
        pool: Pool,
        reader: JournalReader,
        mesh: MeshView,
        *,
        changes: Changes,
        wake: Wake,
        look: Callable[[], None],
        clock: Clock,
    ) -> Words:
        """With its parts; `look` makes the runs that are owned here hear at once."""
        teller = Teller(pool=pool, reader=reader, changes=changes, wake=wake, look=look, clock=clock)
        key = tokens.TokenKey(pool)
        return cls(pool=pool, teller=teller, signals=Signals(pool, teller), reader=reader, mesh=mesh, key=key)

    async def cancel(self, request: pb.CancelRunRequest, actor: str) -> HttpBody:
        """The run once the journal shows it; a finished one as it is; CANCELING if that takes too long."""
        run_id = run_id_of(request.run_id)
        given = Fields.of(request.document, what="the cancellation", known=("reason",))
        reason = given.text("reason")
        given.check()
        try:
            return await self._run(await self.teller.tell(run_id, Cancel(WordId(""), actor, reason)))
        except Unavailable:
            state = await self._reader.state(run_id)
            phase = state.phase if state.finished else RunPhase.CANCELING
            return HttpBody(content_type="application/json", data=run_view.run_document(state, phase=phase))

    async def terminate(self, request: pb.TerminateRunRequest, actor: str) -> HttpBody:
        """The run, CANCELED."""
        word_id, reason = decision(request.document)
        return await self._run(
            await self.teller.tell(run_id_of(request.run_id), Terminate(word_id, actor, reason))
        )

    async def pause(self, request: pb.PauseRunRequest, actor: str) -> HttpBody:
        """The run, PAUSED."""
        word_id, reason = decision(request.document)
        return await self._run(
            await self.teller.tell(run_id_of(request.run_id), Pause(word_id, actor, reason))
        )

    async def resume(self, request: pb.ResumeRunRequest, actor: str) -> HttpBody:
        """The run, going on."""
        word_id, reason = decision(request.document)
        return await self._run(
            await self.teller.tell(run_id_of(request.run_id), Resume(word_id, actor, reason))
        )

    async def signal(self, request: pb.SignalRunRequest, actor: str) -> HttpBody:
        """Which step took it, if one did at once."""
        run_id = run_id_of(request.run_id)
        given = Fields.of(request.document, what="the signal", known=("name", "payload", "signal_id"))
        said, word_id = given.text("name"), handle(given, "signal_id")
        payload = given.anything("payload", MAX_PAYLOAD_BYTES) or NULL
        given.check()
        word = Signal(word_id, actor, signal_name(said), "", payload)
        state = await self.teller.tell(run_id, word)
        step = state.heard.get(word_id, "")
        return _body({"run_id": run_id, "signal_id": word_id, "step": step})

    async def send(self, request: pb.SendSignalRequest, actor: str) -> HttpBody:
        """Which runs took it, or until when it is kept."""
        name = signal_name(request.signal)
        given = Fields.of(request.document, what="the signal", known=("key", "payload", "signal_id"))
        said, signal_id = given.text("key", most=MAX_KEY), handle(given, "signal_id")
        payload = given.anything("payload", MAX_PAYLOAD_BYTES) or NULL
        given.check()
        key = signal_key(said)
        # Runs hear it under an id that no sender to the run itself is likely to use for something else.
        # A key may hold anything, also a colon: with its length no two signals have the same id.
        word_id = WordId(f"{name}:{len(key)}:{key}:{signal_id}")
        word = Signal(word_id, actor, name, key, payload)
        sent = await self.signals.send(signal_id, word)
        return _body(
            {
                "signal_id": signal_id,
                "run_ids": list(sent.runs),
                "keep_time": run_view.stamp(sent.keep_until),
            }
        )

    async def answer(self, request: pb.AnswerStepRequest, actor: str) -> HttpBody:
        """The run after the answer."""
        given = Fields.of(request.document, what="the answer", known=_ANSWER)
        return await self._run(
            await self._answer(run_id_of(request.run_id), step_of(request.step), given, actor)
        )

    async def token(self, request: pb.GetApprovalTokenRequest) -> pb.ApprovalToken:
        """The token of an approval, also before it asks."""
        run_id, step = run_id_of(request.run_id), step_of(request.step)
        _approval_of(await self._reader.state(run_id), step)
        token = tokens.make(await self._key.get(), run_id, step)
        return pb.ApprovalToken(token=token, link=tokens.link(token))

    async def show(self, request: pb.ShowApprovalRequest) -> HttpBody:
        """What the holder of a token may know."""
        given = Fields.of(request.document, what="the document", known=("token",))
        run_id, step = await self._holder(given)
        return _shown(await self._reader.state(run_id), step)

    async def answer_by_token(self, request: pb.AnswerApprovalRequest) -> HttpBody:
        """The answer of a person whom nobody but the token vouches for: the journal says so."""
        given = Fields.of(request.document, what="the answer", known=("token", "by", *_ANSWER))
        by = given.text("by", most=MAX_BY)
        run_id, step = await self._holder(given)
        actor = f"token: {by}" if by else "token"
        return _shown(await self._answer(run_id, step, given, actor), step)

    async def skip(self, request: pb.SkipStepRequest, actor: str) -> HttpBody:
        """The run without the step."""
        word_id, reason = decision(request.document)
        word = Overrule(word_id, actor, step_of(request.step), Choice.SKIP, reason)
        return await self._run(await self.teller.tell(run_id_of(request.run_id), word))

    async def complete(self, request: pb.CompleteStepRequest, actor: str) -> HttpBody:
        """The run after the decision."""
        run_id = run_id_of(request.run_id)
        word = completion(request.document, actor, step_of(request.step))
        if word.version:
            await self._check_version(run_id, word)
        return await self._run(await self.teller.tell(run_id, word))

    async def _run(self, state: RunState) -> HttpBody:
        return HttpBody(content_type="application/json", data=await live_view.run_document(self._pool, state))

    async def _holder(self, given: Fields) -> tuple[RunId, StepPath]:
        """The approval that the token of a document is for."""
        token = given.text("token", most=tokens.MAX_TOKEN)
        given.check()
        return tokens.read(await self._key.get(), token)

    async def _answer(self, run_id: RunId, step: StepPath, given: Fields, actor: str) -> RunState:
        approved, comment = given.flag("approved", required=True), given.text("comment")
        word_id, form = handle(given, "request_id"), given.anything("form", MAX_PAYLOAD_BYTES)
        given.check()
        return await self.teller.tell(run_id, Answer(word_id, actor, step, approved, form, comment))

    async def _check_version(self, run_id: RunId, word: Overrule) -> None:
        """A version that nobody serves would fail the step by a typing error.

        Raises:
            NotFound: NODE_VERSION_NOT_FOUND, with the nearest one.
            Unavailable: the registry has not been heard yet.
        """
        run = (await self._reader.state(run_id)).steps.get(word.step)
        if run is None or not isinstance(run.step.action, NodeAction):
            return  # `hear` says what is wrong
        self._mesh.check_version(run.step.action.node, word.version)


def _approval_of(state: RunState, step: StepPath) -> None:
    run = state.steps.get(step)
    if run is None:
        raise step_not_found(step, state.steps, f"run {state.id}")
    if not isinstance(run.step.action, ApproveAction):
        raise Refused(Reason.STEP_NOT_WAITING, f"step {step} is no approval")


def _shown(state: RunState, step: StepPath) -> HttpBody:
    _approval_of(state, step)
    return HttpBody(content_type="application/json", data=run_view.approval_document(state, step))


def _body(document: dict[str, object]) -> HttpBody:
    return HttpBody(content_type="application/json", data=orjson.dumps(document))
