"""The operations that can be done with many runs: in which states each means something, and how it is done.

To add one: read its arguments in a function `(Fields) -> Act` and enter it in `Acts.table`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from uuid import uuid4

from reflux.core import event as ev
from reflux.core.document import NULL
from reflux.core.errors import NotFound, Refused
from reflux.core.event import Choice, RunPhase
from reflux.core.flow.model import FlowAction
from reflux.core.names import NAME_RULE, RunId, StepPath, is_name
from reflux.core.reasons import Reason
from reflux.core.waits import MAX_KEY
from reflux.core.word import (
    MAX_PAYLOAD_BYTES,
    Cancel,
    Overrule,
    Pause,
    Resume,
    Signal,
    Terminate,
    Word,
    WordId,
)
from reflux.orchestrator.operations.forks import Going

if TYPE_CHECKING:
    from collections.abc import Mapping

    from reflux.orchestrator.bodies import Fields
    from reflux.orchestrator.journal_reader import JournalReader
    from reflux.orchestrator.operations.forks import Forks
    from reflux.orchestrator.words.teller import Teller

BEGINS: Final = (RunPhase.RUNNING, RunPhase.PARKED, RunPhase.QUEUED)
"""Something of it may begin, now or when its time or a person has come."""
UNFINISHED: Final = (*BEGINS, RunPhase.PAUSED, RunPhase.CANCELING)
ANY: Final = tuple(RunPhase)


@dataclass(frozen=True, slots=True)
class Asked:
    """Who asks for the whole."""

    actor: str
    request_id: str
    """Empty: each run is done with as often as it is asked for."""
    traceparent: str


@dataclass(frozen=True, slots=True)
class Done:
    """What came of one run."""

    changed: bool = True
    """False: there was nothing to do any more."""
    new_run_id: RunId | None = None


Act = Callable[[RunId, Asked], Awaitable[Done]]
"""Does it with one run; raises what the operation on a single run raises."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One row of the table."""

    states: tuple[RunPhase, ...]
    """In which it means something."""
    arguments: tuple[str, ...]
    read: Callable[[Fields], Act]


class Acts:
    """The table, with what its operations need."""

    def __init__(self, *, forks: Forks, reader: JournalReader, teller: Teller) -> None:
        self._forks = forks
        self._reader = reader
        self._teller = teller
        self.table: Mapping[str, Operation] = {
            "cancel": Operation(UNFINISHED, ("reason",), self._cancel),
            "pause": Operation(BEGINS, ("reason",), self._pause),
            "resume": Operation((RunPhase.PAUSED, RunPhase.PARKED), ("reason",), self._resume),
            "terminate": Operation(UNFINISHED, ("reason",), self._terminate),
            "skip": Operation(UNFINISHED, ("step", "reason"), self._skip),
            "signal": Operation((*BEGINS, RunPhase.PAUSED), ("name", "payload"), self._signal),
            "retry": Operation(
                (RunPhase.FAILED, RunPhase.CANCELED), ("flow_version", "versions"), self._retry
            ),
            "fork": Operation(ANY, ("from_step", "flow_version", "versions"), self._fork),
        }

    def _cancel(self, fields: Fields) -> Act:
        reason = fields.text("reason")

        async def act(run_id: RunId, asked: Asked) -> Done:
            state = await self._teller.tell(run_id, Cancel(WordId(""), asked.actor, reason))
            return Done(changed=state.canceled)

        return act

    def _pause(self, fields: Fields) -> Act:
        return self._saying(Pause, fields)

    def _resume(self, fields: Fields) -> Act:
        return self._saying(Resume, fields)

    def _terminate(self, fields: Fields) -> Act:
        return self._saying(Terminate, fields)

    def _skip(self, fields: Fields) -> Act:
        step, reason = StepPath(fields.text("step", required=True)), fields.text("reason")
        return self._telling(lambda word_id, actor: Overrule(word_id, actor, step, Choice.SKIP, reason))

    def _signal(self, fields: Fields) -> Act:
        """To each run itself, as a signal that names the run: it has no key."""
        name = fields.text("name", required=True, most=MAX_KEY)
        if name and not is_name(name):
            fields.wrong("name", f"the name of a signal: {NAME_RULE}")
        payload = fields.json("payload") or NULL
        if len(payload.raw) > MAX_PAYLOAD_BYTES:
            fields.wrong("payload", f"it is {len(payload.raw)} bytes; the limit is {MAX_PAYLOAD_BYTES}")
        return self._telling(lambda word_id, actor: Signal(word_id, actor, name, "", payload))

    def _saying(self, kind: type[Pause | Resume | Terminate], fields: Fields) -> Act:
        reason = fields.text("reason")
        return self._telling(lambda word_id, actor: kind(word_id, actor, reason))

    def _telling(self, word: Callable[[WordId, str], Word]) -> Act:
        """Says a word to each run; `word` makes it of its id and of who asks."""

        async def act(run_id: RunId, asked: Asked) -> Done:
            # Said once to each run under the handle of the whole; without one each time anew.
            await self._teller.tell(run_id, word(WordId(f"bulk:{asked.request_id or uuid4()}"), asked.actor))
            return Done()

        return act

    def _retry(self, fields: Fields) -> Act:
        return self._going_on(None, fields)

    def _fork(self, fields: Fields) -> Act:
        return self._going_on(StepPath(fields.text("from_step", required=True)), fields)

    def _going_on(self, step: StepPath | None, fields: Fields) -> Act:
        version, versions = fields.version("flow_version"), fields.texts("versions")

        async def act(run_id: RunId, asked: Asked) -> Done:
            await self._check_alone(run_id)
            forked = await self._forks.go_on(
                Going(run_id, step, version, versions),
                actor=asked.actor,
                request_id=f"bulk:{asked.request_id}" if asked.request_id else "",
                traceparent=asked.traceparent,
            )
            return Done(changed=forked.plan is not None, new_run_id=forked.run_id)

        return act

    async def _check_alone(self, run_id: RunId) -> None:
        """Whoever goes on from a run goes on from those that it waits for: of many at once, both may match.

        Raises:
            Refused: RUN_HAS_PARENT, another run waits for this one, or did.
        """
        events, _ = await self._reader.page(run_id, after_seq=0, limit=1)
        created = events[0][2] if events else None
        if not isinstance(created, ev.RunCreated) or not (created.parent_run and created.parent_step):
            return
        try:
            parent = await self._reader.state(RunId(created.parent_run))
        except NotFound:
            return  # it is forgotten: nobody goes on from it
        action = parent.steps[StepPath(created.parent_step)].step.action
        if isinstance(action, FlowAction) and action.detached:
            return
        message = f"it is part of run {parent.id}, whose retry goes on from it"
        metadata = {"run_id": parent.id, "step": created.parent_step}
        raise Refused(Reason.RUN_HAS_PARENT, message, metadata=metadata)
