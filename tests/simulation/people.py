"""What people say to a run while it goes on: signals, answers, a pause and its end.

Each says it with a handle of its own, and again with the same one until it is accepted or refused. Where runs
are paused somebody looks now and then whether one is, and lets it go on. What was accepted is noted, and the
judge looks for it in the journal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import orjson
from google.api.httpbody_pb2 import HttpBody  # type: ignore[import-untyped]

from reflux.api.run.v1 import run_service_pb2 as run_pb
from reflux.core.flow.model import ApproveAction
from tests.simulation.process import Context
from tests.support.random_flow import SIGNALS

if TYPE_CHECKING:
    from random import Random

    from reflux.core.flow import Flow
    from tests.simulation.judge import Told
    from tests.simulation.plan import Plan
    from tests.simulation.tables import Tables
    from tests.simulation.world import World
"""How often a person approves."""


class People:
    """Everybody who has something to say to the runs of a world."""

    def __init__(  # noqa: PLR0917 - all that it needs of a world
        self, world: World, flow: Flow, plan: Plan, told: Told, tables: Tables, ask: Any
    ) -> None:
        self._world = world
        self._flow = flow
        self._plan = plan
        self._told = told
        self._tables = tables
        self._resuming: set[str] = set()
        self._ask = ask  # as `_Simulation.ask`
        self._said = 0
        self.open = 0
        """Things that are still to be said."""

    def hear_of(self, run_id: str) -> None:
        """Somebody has begun a run."""
        rng = self._world.rng
        kinds = [
            rng.choice(("signal", "signal", "answer", "answer", "pause")) for _ in range(self._plan.words)
        ]
        for kind in kinds:
            self._later(rng.uniform(0, 5), run_id, kind)
        if "pause" in kinds:
            self._world.after(rng.uniform(2, 4), self._look_after, run_id)

    def _look_after(self, run_id: str) -> None:
        row = self._tables.runs[run_id]
        if row.finished_at is not None:
            return
        if row.state == "PAUSED" and run_id not in self._resuming:
            self._resuming.add(run_id)
            self._later(0.0, run_id, "resume")
        self._world.after(self._world.rng.uniform(0.5, 4), self._look_after, run_id)

    def _later(self, seconds: float, run_id: str, kind: str) -> None:
        self.open += 1
        self._said += 1
        call = _call(kind, run_id, f"word-{self._said}", self._flow, self._world.rng)
        self._world.after(seconds, self._say, run_id, kind, f"word-{self._said}", call)

    def _say(self, run_id: str, kind: str, word: str, call: Any) -> None:
        def over() -> None:
            self.open -= 1
            if kind == "resume":
                self._resuming.discard(run_id)

        def accepted(_: bytes) -> None:
            self._world.note("accepted", kind, word, run_id[-6:])
            self._told.words.setdefault(run_id, set()).add(word)
            over()

        def refused() -> None:
            self._world.note("declined", kind, word, run_id[-6:])
            over()

        self._ask(kind, call, accepted, refused)


def _call(kind: str, run_id: str, word: str, flow: Flow, rng: Random) -> Any:
    """The request, as any orchestrator is asked."""
    match kind:
        case "signal":
            document = _json(name=rng.choice(SIGNALS), signal_id=word, payload=1)
            signal = run_pb.SignalRunRequest(run_id=run_id, document=document)
            return lambda process: process.runs.SignalRun(signal, Context())
        case "answer":
            asks = [path for path, step in flow.steps.items() if isinstance(step.action, ApproveAction)]
            document = _json(approved=rng.random() < _YES, request_id=word)
            answer = run_pb.AnswerStepRequest(
                run_id=run_id, step=rng.choice(asks or ["nothing"]), document=document
            )
            return lambda process: process.runs.AnswerStep(answer, Context())
        case "pause":
            pause = run_pb.PauseRunRequest(run_id=run_id, document=_json(request_id=word))
            return lambda process: process.runs.PauseRun(pause, Context())
        case _:
            resume = run_pb.ResumeRunRequest(run_id=run_id, document=_json(request_id=word))
            return lambda process: process.runs.ResumeRun(resume, Context())


def _json(**fields: object) -> HttpBody:
    return HttpBody(content_type="application/json", data=orjson.dumps(fields))


_YES: Final = 0.7
