"""The judge of what runs have to do with each other: limits, signals under a key, forks, schedules.

As `judge`: it believes journals (what is durable, and when) and what clients were told, and asks whether the
promise was kept. The tables of the engine itself it reads only for what must not be left behind in them.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from reflux.core import event as ev
from reflux.core.flow.limits import Overflow
from reflux.core.flow.scheduled import Scheduled
from reflux.core.schedule import Catchup, Overlap
from reflux.orchestrator import codec
from reflux.orchestrator.cached_caller import CACHED
from tests.simulation.features import ITEMS, TRIGGER
from tests.simulation.world import EPOCH

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

    from reflux.core.flow import Flow
    from reflux.core.names import FlowId
    from reflux.core.state import RunState
    from tests.simulation.judge import Told
    from tests.simulation.outside import Outside
    from tests.simulation.tables import Fact, Run, Tables

_GRAIN: Final = timedelta(milliseconds=1)
_NEVER: Final = EPOCH + timedelta(days=1)
_LATE: Final = timedelta(seconds=2)
"""How late a firing may be while nothing goes wrong."""


@dataclass(frozen=True, slots=True)
class Story:
    """A run, as its journal tells it."""

    run_id: str
    row: Run
    facts: Sequence[Fact]
    events: Sequence[ev.Event]
    state: RunState

    @property
    def created(self) -> ev.RunCreated:
        """How it began."""
        created = self.events[0]
        assert isinstance(created, ev.RunCreated)
        return created

    def when(self, kind: type[ev.Event]) -> datetime | None:
        """When the first event of this kind was recorded."""
        pairs = zip(self.events, self.facts, strict=True)
        return next((fact.recorded_at for event, fact in pairs if isinstance(event, kind)), None)

    @property
    def accepted(self) -> datetime:
        """When its first event was recorded."""
        return self.facts[0].recorded_at

    @property
    def begins(self) -> datetime | None:
        """When it may have done its first step; None: it never could."""
        return self.when(ev.RunAdmitted) if self.created.queued else self.facts[0].recorded_at

    @property
    def ends(self) -> datetime | None:
        """When its end was recorded."""
        return self.when(ev.RunFinished)


def judge_features(
    tables: Tables,
    states: Mapping[str, RunState],
    outside: Outside,
    told: Told,
    flows: Mapping[FlowId, Flow],
    *,
    calm: bool,
) -> list[str]:
    """Every promise that was broken, in words; empty for a good world. `states`: the folded journals."""
    stories = {}
    for run_id, row in tables.runs.items():
        facts = [fact for _, fact in sorted(tables.journal[run_id].items())]
        events = [codec.decode(fact.payload) for fact in facts]
        if (state := states.get(run_id)) is not None:
            stories[run_id] = Story(run_id, row, facts, events, state)
    problems = []
    for flow_id, flow in flows.items():
        mine = [story for story in stories.values() if story.row.flow_id == flow_id]
        problems += _limits(flow, mine, tables)
        problems += _paced(flow, mine)
        problems += _firings(flow_id, flow, mine, tables, calm=calm)
    problems += _signals(stories, tables, told)
    problems += _forks(stories)
    for story in stories.values():
        problems += _outputs(story, outside)
    return problems


def _shop(story: Story) -> str:
    given = story.created.input.value
    assert isinstance(given, dict)
    return str(given["shop"])


def _limits(flow: Flow, stories: Sequence[Story], tables: Tables) -> Iterator[str]:
    """Never more than the limit at once, nobody queued for ever, no slot left behind; see `_refusals`."""
    concurrency = flow.limits.concurrency
    if concurrency is None:
        return
    limit = concurrency.limit
    by_shop: defaultdict[str, list[Story]] = defaultdict(list)
    for story in stories:
        by_shop[_shop(story)].append(story)
    for shop, runs in by_shop.items():
        changes = [(story.begins, 1) for story in runs if story.begins is not None]
        changes += [(story.ends, -1) for story in runs if story.begins is not None and story.ends is not None]
        going = 0
        for at, change in sorted(changes):
            going += change
            if going > limit:
                yield f"{going} runs of {shop} go on at {at}, and {limit} may"
                break
        waiting = [
            story for story in runs if story.begins is None and not (story.ends or story.state.quarantine)
        ]
        # Who was put aside before it could begin keeps its slot until a person ends it.
        aside = [one for one in runs if one.begins is None and one.ends is None and one.state.quarantine]
        if waiting and going + len(aside) < limit:
            yield f"{waiting[0].run_id[-6:]} waits for a slot of {shop}, and {limit - going} are free"
        yield from _replaced(runs, limit)
        if concurrency.overflow is not Overflow.CANCEL_OLDEST:  # who was asked to end gets no slot
            yield from _overtaken(runs, limit)
        if concurrency.overflow is not Overflow.QUEUE:
            yield from _refusals(shop, runs, limit, tables)
    unfinished = {story.run_id for story in stories if story.ends is None}
    slots = {run_id for run_id in tables.limits.slots if run_id in tables.runs}
    flow_slots = (
        {one for one in slots if tables.runs[one].flow_id == str(stories[0].row.flow_id)}
        if stories
        else slots
    )
    if flow_slots != unfinished:
        yield f"slots of runs that have ended: {flow_slots - unfinished}; none: {unfinished - flow_slots}"
    for place, row in tables.limits.limits.items():
        mine = [slot for slot in tables.limits.slots.values() if slot.place == place]
        if (row.held, row.queued) != (sum(slot.held for slot in mine), sum(not slot.held for slot in mine)):
            yield f"{row} counts other slots than there are: {mine}"


def _refusals(shop: str, runs: Sequence[Story], limit: int, tables: Tables) -> Iterator[str]:
    """A run is refused only while as many as may go on had begun and not ended."""
    for at, (_, key) in tables.limits.refused:
        if key != shop:
            continue
        there = [
            one for one in runs if one.facts[0].recorded_at <= at and (one.ends is None or one.ends > at)
        ]
        if len(there) < limit:
            yield f"a run of {shop} was refused at {at}, with {len(there)} of {limit} going on"


def _replaced(runs: Sequence[Story], limit: int) -> Iterator[str]:
    """Who is cancelled for newer ones is older than as many as may go on."""
    for story in runs:
        for event, fact in zip(story.events, story.facts, strict=True):
            if not isinstance(event, ev.CancelRequested) or event.actor != "policies.concurrency":
                continue
            first = story.facts[0].recorded_at
            newer = [
                one
                for one in runs
                if one is not story and first <= one.facts[0].recorded_at <= fact.recorded_at
            ]
            if len(newer) < limit:
                yield f"{story.run_id[-6:]} was cancelled for newer runs, of which there are {len(newer)}"


def _overtaken(runs: Sequence[Story], limit: int) -> Iterator[str]:
    """Where one goes on at a time, whoever follows it is the first of those that wait at its end."""
    begun = sorted((one for one in runs if one.begins), key=lambda one: one.begins or _NEVER)
    waiting = [one for one in runs if not one.state.quarantine]
    for former, story in pairwise(begun if limit == 1 else ()):
        at, end = story.begins or _NEVER, former.ends or _NEVER
        if story.accepted > end:
            continue
        for other in waiting:
            waits = other.accepted < end and (other.begins or _NEVER) > at < (other.ends or _NEVER)
            if waits and _place(other) < _place(story):
                yield f"{story.run_id[-6:]} begins at {at}, and {other.run_id[-6:]} waits, which is before it"


def _place(story: Story) -> tuple[int, datetime]:
    """In a queue."""
    return -story.created.priority, story.accepted


def _paced(flow: Flow, stories: Sequence[Story]) -> Iterator[str]:
    """Of all that were accepted so far, no more have begun than a bucket of tokens would have let."""
    rate = flow.limits.rate
    if rate is None:
        return
    share, full_at, earliest = rate.per / rate.limit, EPOCH, []
    for story in sorted(stories, key=lambda one: one.accepted):
        full_at = max(full_at, story.accepted) + share
        earliest.append(full_at - rate.per)
    begun = sorted(story.begins for story in stories if story.begins is not None)
    for number, (at, bound) in enumerate(zip(begun, earliest, strict=False), 1):
        if at < bound - _GRAIN:
            yield f"run {number} of a rate of {rate.limit} per {rate.per} begins at {at}, before {bound}"


def _signals(stories: Mapping[str, Story], tables: Tables, told: Told) -> Iterator[str]:
    """A signal under a key is taken by those that wait when it comes, by nobody else, and is never lost."""
    heard: defaultdict[str, dict[str, datetime]] = defaultdict(dict)
    for run_id, story in stories.items():
        for event, fact in zip(story.events, story.facts, strict=True):
            if isinstance(event, ev.SignalReceived) and event.key:
                heard[event.key + ":" + event.word.rpartition(":")[2]][run_id] = fact.recorded_at
    rows = {f"{row.key}:{row.signal_id}": (number, row) for number, row in tables.signals.signals.items()}
    for name in set(told.signals) - set(rows):
        yield f"{name} was accepted, and is lost"
    for name, (number, row) in rows.items():
        coming = {word[1] for word in tables.inbox.values() if word[5] == number}
        lost = set(row.run_ids) - set(heard[name]) - coming
        if lost:
            yield f"{name} was given to {lost}, which never heard it"
        if set(heard[name]) - set(row.run_ids):
            yield f"{name} was heard by {set(heard[name])} and given to {row.run_ids}"
        if told.signals.get(name, set()) - set(heard[name]):
            yield f"{name} was said to be taken by {told.signals[name]}, and was by {set(heard[name])}"
        yield from _met(name, row.key, heard[name], stories)
        if not row.run_ids:
            idle = [one for one in stories.values() if _waits_now(one, row.key) and one.run_id not in coming]
            if idle:
                yield f"{name} is kept, and {idle[0].run_id[-6:]} waits for it"


def _met(name: str, key: str, heard: Mapping[str, datetime], stories: Mapping[str, Story]) -> Iterator[str]:
    """Nobody hears a signal whose wait began after somebody else had heard it."""
    if not heard:
        return
    first = min(heard.values())
    for run_id, at in heard.items():
        story = stories[run_id]
        waits = [
            fact.recorded_at
            for event, fact in zip(story.events, story.facts, strict=True)
            if isinstance(event, ev.StepEntered) and event.step.rpartition("/")[2].startswith("k")
        ]
        if at != first and all(begun > first for begun in waits):
            yield f"{run_id[-6:]} took {name} of {key}, for which it waited only after others had taken it"


def _waits_now(story: Story, key: str) -> bool:
    state = story.state
    if state.finished is not None or state.quarantine is not None:
        return False
    return any(awaited.signal == "ready" and awaited.key == key for awaited in state.awaited.values())


def _forks(stories: Mapping[str, Story]) -> Iterator[str]:
    """What a run takes over is what its origin has, and is not done again."""
    for run_id, story in stories.items():
        origin = story.created.origin
        kept = {event.step: event for event in story.events if isinstance(event, ev.OutcomeKept)}
        if origin is None:
            continue
        if origin.kept != len(kept):
            yield f"{run_id[-6:]} takes over {origin.kept} outcomes, and its journal has {len(kept)}"
        former = stories.get(origin.run_id)
        if former is None or former.ends is None:
            yield f"{run_id[-6:]} goes on from {origin.run_id}, which has not ended"
            continue
        for path, event in kept.items():
            known = former.state.steps.get(path)
            if known is not None and (known.state, known.output) != (event.state, event.output):
                yield f"{run_id[-6:]} keeps another outcome of {path} than {origin.run_id[-6:]} has"
        for event in story.events:
            if isinstance(event, ev.AttemptStarted | ev.AttemptFinished) and event.step in kept:
                yield f"{run_id[-6:]} executes {event.step} again, whose outcome it keeps"


def _outputs(story: Story, outside: Outside) -> Iterator[str]:
    """What a step has come to is what a node did for this very attempt, or for the same input before."""
    for event in story.events:
        if not isinstance(event, ev.AttemptFinished) or event.output is None:
            continue
        given = event.output.value
        assert isinstance(given, dict)
        of = str(given.get("of")).split(" ")
        made = (of[0], of[1], int(of[2])) if len(of) == 3 else None
        if made not in outside.answered:
            yield f"{event.step} is DONE, and nobody did it: {given}"
        elif event.assignment.reason != CACHED:
            if made != (story.run_id, event.step, event.attempt):
                yield f"attempt {event.attempt} of {event.step} has the output of {made}"
        elif _item(made[1]) != _item(event.step):
            yield f"{event.step} has an output of another input: that of {made[1]}"


def _item(step: str) -> int:
    """The input of an iteration of the loop with a cache."""
    loop, _, rest = step.partition("[")
    assert loop == "c0", "only that loop has a cache"
    return ITEMS[int(rest.partition("]")[0])]


def _successors(runs: Mapping[datetime, Sequence[Story]], *, refuses: bool) -> Iterator[str]:
    """A run is cancelled for a later firing when that has its run, unless a limit refuses this one before."""
    for moment, made in runs.items():
        asked = [event for event in made[0].events if isinstance(event, ev.CancelRequested)]
        replaced = any(event.actor == f"trigger:{TRIGGER}" for event in asked)
        if replaced and not refuses and moment == max(runs):
            yield f"the run of {moment} was cancelled for a later one, and there is none"


def _firings(
    flow_id: FlowId, flow: Flow, stories: Sequence[Story], tables: Tables, *, calm: bool
) -> Iterator[str]:
    """A firing is one run, none is passed over in silence, and none comes before its time."""
    trigger = flow.trigger(TRIGGER)
    if not isinstance(trigger, Scheduled):
        return
    row = tables.schedules.rows[flow_id, TRIGGER]
    runs: defaultdict[datetime, list[Story]] = defaultdict(list)
    for story in stories:
        if story.created.trigger and story.created.origin is None:
            assert story.created.scheduled_for is not None
            runs[story.created.scheduled_for].append(story)
    every = trigger.schedule.rule.next_after
    moments = [every(EPOCH)]
    while moments[-1] is not None and row.scheduled_for is not None and moments[-1] < row.scheduled_for:
        moments.append(every(moments[-1]))
    past = [
        moment
        for moment in moments
        if moment is not None and row.scheduled_for and moment < row.scheduled_for
    ]
    limit = flow.limits.concurrency
    prompt = calm and (
        limit is None or limit.overflow is not Overflow.REJECT
    )  # else it may have been refused
    for moment, made in runs.items():
        if len(made) > 1:
            yield f"the firing of {moment} has {len(made)} runs"
        fire_at = trigger.schedule.fires_at(moment, f"{flow_id}/{TRIGGER}")
        if made[0].facts[0].recorded_at < fire_at:
            yield f"the firing of {moment} has begun before its time"
        if prompt and made[0].facts[0].recorded_at > fire_at + _LATE:
            yield f"the firing of {moment} has begun at {made[0].facts[0].recorded_at}"
    yield from _successors(runs, refuses=limit is not None and limit.overflow is Overflow.REJECT)
    if row.fired != len([moment for moment in past if moment in runs]):
        yield f"{row.fired} firings are said to have started runs, and {sorted(runs)} did"
    if row.fired + row.skipped + row.missed + row.failed != len(past):
        yield f"{row} does not account for all of {past}"
    whole = trigger.schedule.catchup is Catchup.ALL and trigger.schedule.overlap is Overlap.ALLOW
    if whole and (missing := [moment for moment in past if moment not in runs]):
        yield f"no run of {missing}"
