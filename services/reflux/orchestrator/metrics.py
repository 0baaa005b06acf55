"""What an orchestrator counts, and how a committed event becomes figures.

Attempts, steps, claims and ends are counted from events *after* they are committed: what was not written has
not happened, and what another orchestrator repeats is counted once, there. That keeps the walk free of
counting, and a journal and these figures never disagree.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from reflux.core import event as ev
from reflux.core.event import SETTLED, RunPhase, StepState
from reflux.core.flow.model import NodeAction
from reflux.runtime.metrics import ROWS, Counter, Gauge, Histogram

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from reflux.core.names import StepPath
    from reflux.core.state import RunState
    from reflux.orchestrator.store.journal import Recorded

RUNS_STARTED: Final = Counter("reflux.runs.started", unit="{run}", text="Runs begun, durably")
STARTS_REPEATED: Final = Counter(
    "reflux.runs.starts.repeated",
    unit="{start}",
    text="Starts answered with the run that their request_id had already",
)
RUNS_SETTLED: Final = Counter(
    "reflux.runs.settled",
    unit="{run}",
    text="Runs that reached SUCCEEDED, FAILED or CANCELED, and each time one was PARKED",
    labels=("state",),
)
RUN_DURATION: Final = Histogram(
    "reflux.run.duration", unit="s", text="From a run's start to its end", labels=("state",)
)
RUNS_RECOVERED: Final = Counter(
    "reflux.runs.recovered", unit="{run}", text="Runs taken over from an orchestrator's former life"
)
RUNS_UNFINISHED: Final = Gauge(
    "reflux.runs.unfinished",
    unit="{run}",
    text="Runs in the tables that have not ended, up to 100,000 per state; from the owner of shard 0 alone",
    labels=("state",),
)
RUNS_REFUSED: Final = Counter(
    "reflux.runs.refused",
    unit="{run}",
    text="Starts that a limit of their flow refused: concurrency or rate",
    labels=("limit",),
)
RUN_QUEUED: Final = Histogram(
    "reflux.run.queued", unit="s", text="From the acceptance of a run that had to wait to its beginning"
)
SLOTS: Final = Gauge(
    "reflux.slots",
    unit="{run}",
    text="Runs of flows with a limit of concurrency that hold a slot, and that wait for one; "
    "from the owner of shard 0 alone",
    labels=("state",),
)
RUNS_LOADED: Final = Gauge("reflux.runs.loaded", unit="{run}", text="Runs in memory here")
RUNS_BYTES: Final = Gauge("reflux.runs.loaded.size", unit="By", text="Inputs and outputs in memory here")
STEP_DURATION: Final = Histogram(
    "reflux.step.duration",
    unit="s",
    text="From the first attempt of a step to its own outcome, waits between attempts included; "
    "what was cancelled from outside is not in it",
    labels=("node", "state"),
)
STEPS_PARKED: Final = Counter(
    "reflux.steps.parked",
    unit="{step}",
    text="Steps parked because nobody knows whether their outside effect happened",
    labels=("node",),
)
ATTEMPT_DURATION: Final = Histogram(
    "reflux.attempt.duration",
    unit="s",
    text="One call of a node through the mesh, by who answered (else was chosen) and gRPC code",
    labels=("node", "version", "code"),
)
ATTEMPTS: Final = Counter(
    "reflux.attempts",
    unit="{attempt}",
    text="Attempts ended, by why that version (weight, pin, fallback, cache, none) and what is known of the "
    "effect",
    labels=("node", "reason", "outcome"),
)
EFFECT_ANSWERS: Final = Counter(
    "reflux.effect.answers",
    unit="{answer}",
    text="Questions about effects of which nobody knew, verify and cancel, by what was answered: FOUND, "
    "VOIDED, UNKNOWN, or none",
    labels=("node", "question", "answer"),
)
TRIES: Final = Counter(
    "reflux.tries", unit="{try}", text="Tries that the proxies made for those attempts", labels=("node",)
)
RETRIES_HELD: Final = Counter(
    "reflux.retries.held",
    unit="{attempt}",
    text="Attempts that waited because the retry budget of their version was empty",
    labels=("node",),
)
SENT_AGAIN_HELD: Final = Counter(
    "reflux.attempts.sent.again.held",
    unit="{attempt}",
    text="Attempts that waited because their version could not be reached, or is just coming back",
    labels=("node",),
)
TRIES_WITHHELD: Final = Counter(
    "reflux.tries.withheld",
    unit="{call}",
    text="Calls that the proxies might not try again because that budget was empty",
    labels=("node",),
)
ATTEMPTS_IN_FLIGHT: Final = Gauge(
    "reflux.attempts.in_flight", unit="{attempt}", text="Attempts sent, or waiting for their place"
)
BATCH_SIZE: Final = Histogram(
    "reflux.batch.size",
    unit="{attempt}",
    text="Attempts that shared one call; what travels alone is not in it",
    labels=("node",),
    bounds=ROWS,
)
TIMER_LATENESS: Final = Histogram(
    "reflux.timer.lateness", unit="s", text="How long after its time a waiting run was walked again"
)
FIRINGS: Final = Counter(
    "reflux.firings",
    unit="{firing}",
    text="Firings of schedules: fired (a run began), skipped (an earlier run went on), missed (nobody was "
    "there), failed (no run could be begun)",
    labels=("outcome",),
)
FIRING_LATENESS: Final = Histogram(
    "reflux.firing.lateness",
    unit="s",
    text="How long after its time, jitter included, a firing was found due",
)
CLAIMS: Final = Counter(
    "reflux.claims", unit="{claim}", text="Claims of nodes that are about to act", labels=("verdict",)
)
COMMIT_ROWS: Final = Histogram(
    "reflux.commit.size",
    unit="{row}",
    text="Rows that one commit wrote: events of the lane journal, runs of the lane start",
    labels=("lane",),
    bounds=ROWS,
)
COMMIT_DURATION: Final = Histogram(
    "reflux.commit.duration", unit="s", text="One commit, as seen from here", labels=("lane",)
)
COMMIT_FAILURES: Final = Counter(
    "reflux.commit.failures",
    unit="{failure}",
    text="Rows refused, statements repeated, batches whose fate is unknown",
    labels=("lane", "kind"),
)
COMMITS_WAITING: Final = Gauge(
    "reflux.commit.waiting", unit="{submission}", text="Submissions that wait for a commit", labels=("lane",)
)
SHARDS_HELD: Final = Gauge("reflux.shards.held", unit="{shard}", text="Shards this orchestrator may advance")
SHARD_CHANGES: Final = Counter(
    "reflux.shards.changes",
    unit="{shard}",
    text="Shards taken (free), inherited (their owner died), released (to share), lost (the lease ended)",
    labels=("change",),
)
LEASE_CHANGES: Final = Counter(
    "reflux.lease.changes",
    unit="{change}",
    text="Lives joined here, how each ended, and deaths of others declared from here",
    labels=("change",),
)
PARTITIONS: Final = Gauge(
    "reflux.partitions",
    unit="{partition}",
    text="Spans of time with a partition of runs, as last seen from here",
)
PARTITION_CHANGES: Final = Counter(
    "reflux.partitions.changes",
    unit="{change}",
    text="Partitions made and dropped from here, and why not: busy, taken, left (to DEFAULT), crowded, gone",
    labels=("change",),
)
RUNS_FORGOTTEN: Final = Counter(
    "reflux.runs.forgotten", unit="{run}", text="Runs deleted from here because their retention is over"
)

GRANTED: Final = CLAIMS.at("granted")
REFUSED: Final = CLAIMS.at("refused")

_STARTED: Final = RUNS_STARTED.at()
_REPEATED: Final = STARTS_REPEATED.at()
_RECOVERED: Final = RUNS_RECOVERED.at()
_LATENESS: Final = TIMER_LATENESS.at()
_QUEUED: Final = RUN_QUEUED.at()
_NONE: Final = "none"


def started(*, created: bool) -> None:
    """A start was answered: with a new run, or with an earlier one."""
    (_STARTED if created else _REPEATED).add()


def refused(limit: str) -> None:
    """A limit of its flow refused a run."""
    RUNS_REFUSED.at(limit).add()


def walked_again(wake: datetime | None, now: datetime) -> None:
    """The timer of a run rang for what was due at `wake`."""
    if wake is not None and wake <= now:
        _LATENESS.record((now - wake).total_seconds())


def committed(state: RunState, events: Sequence[ev.Event], future: asyncio.Future[Recorded]) -> None:
    """Counts `events` of a run if the commit of them has succeeded; `state` is at least as far."""
    if future.cancelled() or future.exception() is not None:
        return
    for event in events:
        if (count := _COUNTS.get(type(event))) is not None:
            count(state, event)


def settled(phase: RunPhase, future: asyncio.Future[Recorded]) -> None:
    """Counts that a run is PARKED, or has ended without being in memory, if the commit has succeeded."""
    if not future.cancelled() and future.exception() is None:
        RUNS_SETTLED.at(phase.value).add()


def _attempt(state: RunState, event: ev.AttemptFinished) -> None:
    node = _node(state, event.step)
    assignment, failure = event.assignment, event.failure
    code = "OK" if failure is None else failure.code
    seconds = (event.finish_time - event.start_time).total_seconds()
    version = assignment.answered_by or assignment.chosen or _NONE
    ATTEMPT_DURATION.at(node, version, code).record(seconds)
    ATTEMPTS.at(node, assignment.reason or _NONE, event.outcome.value).add()
    if assignment.tries:
        TRIES.at(node).add(assignment.tries)
    if event.state is StepState.PARKED:
        STEPS_PARKED.at(node).add()
    elif event.state in SETTLED:
        _step(state, event.step, event.state, event.finish_time)


def _answered(state: RunState, event: ev.EffectAnswered) -> None:
    node = _node(state, event.step)
    told = event.knowledge.value if event.answered else _NONE
    EFFECT_ANSWERS.at(node, event.question.value, told).add()
    if event.state is StepState.PARKED:
        STEPS_PARKED.at(node).add()
    elif event.state in SETTLED:
        _step(state, event.step, event.state, event.time)


def _settled(state: RunState, event: ev.StepSettled) -> None:
    """Of interest for a step that had called its node and could not go on; what is cancelled has no event."""
    _step(state, event.step, event.state, event.time)


def _step(state: RunState, path: StepPath, end: StepState, time: datetime) -> None:
    began = state.steps[path].start_time
    if began is not None and isinstance(state.steps[path].step.action, NodeAction):
        STEP_DURATION.at(_node(state, path), end.value).record((time - began).total_seconds())


def _node(state: RunState, path: StepPath) -> str:
    action = state.steps[path].step.action
    return action.node if isinstance(action, NodeAction) else _NONE


def _admitted(state: RunState, event: ev.RunAdmitted) -> None:
    _QUEUED.record((event.time - state.created.time).total_seconds())


def _recovered(_: RunState, event: ev.RunRecovered) -> None:
    del event
    _RECOVERED.add()


def _finished(state: RunState, event: ev.RunFinished) -> None:
    RUNS_SETTLED.at(event.state.value).add()
    RUN_DURATION.at(event.state.value).record((event.time - state.created.time).total_seconds())


_COUNTS: Final[dict[type[ev.Event], Callable[..., None]]] = {
    ev.AttemptFinished: _attempt,
    ev.EffectAnswered: _answered,
    ev.RunAdmitted: _admitted,
    ev.RunRecovered: _recovered,
    ev.StepSettled: _settled,
    ev.RunFinished: _finished,
}
