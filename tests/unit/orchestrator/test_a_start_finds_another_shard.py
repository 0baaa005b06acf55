"""While shards change hands a start that has begun nothing is tried in another shard of this orchestrator."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

import pytest

from reflux.core.document import Json
from reflux.core.names import FlowId
from reflux.orchestrator.flows.cache import Resolved
from reflux.orchestrator.launcher import MAX_TRIES, Cause, Launcher, StartOnce
from reflux.orchestrator.store.errors import CommitUnknown, ShardLost, Undecided
from reflux.orchestrator.store.journal import ShardLease
from reflux.orchestrator.store.start import Started, StartRequest
from tests.support.walk import flow_of, node

if TYPE_CHECKING:
    from collections.abc import Callable

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
ONCE = StartOnce("trigger:f/hook", "d", b"digest")


@dataclass
class Platform:
    """What a launcher stands on: leases it believes to hold, and a starter that does as told."""

    answer: Callable[[StartRequest], Started]
    leases: list[ShardLease]
    asked: list[StartRequest] = field(default_factory=list)
    runs: dict[str, Any] = field(default_factory=dict)
    launching: set[str] = field(default_factory=set)
    draining: bool = False
    skew: timedelta = timedelta()
    """Of the clock, until a shard is held."""

    def held(self) -> list[ShardLease]:
        self.skew = timedelta()
        return self.leases

    def full_for(self, flow_id: str) -> bool:
        return not flow_id

    def add(self, run: Any) -> None:
        self.runs[run.state.id] = run

    def now(self) -> datetime:
        return NOW + self.skew

    async def start(self, request: StartRequest) -> Started:
        assert request.run_id in self.launching, "somebody may read it before it is known here"
        self.asked.append(request)
        return self.answer(request)

    async def launch(self, lease: ShardLease | None = None) -> Any:
        part = cast("Any", self)
        launcher = Launcher(lease=part, starter=part, worker=part, clock=part, pool=part)
        flow = Resolved(FlowId("f"), "f", 1, flow_of(node("a")))
        return await launcher.launch(
            flow, Json(b"{}"), once=ONCE, actor="me", cause=Cause("hook"), lease=lease
        )


def begun(request: StartRequest) -> Started:
    return Started(request.run_id, created=True, recorded_at=NOW)


async def test_a_lost_shard_is_not_asked_twice():
    """Every other one is; the run is walked under the lease that took it."""
    leases = [ShardLease(shard, 1) for shard in range(MAX_TRIES)]
    good = leases[-1]

    def only_one(request: StartRequest) -> Started:
        if request.lease != good:
            raise ShardLost(request.lease.shard)
        return begun(request)

    platform = Platform(only_one, leases)
    launched = await platform.launch()
    asked = [request.lease for request in platform.asked]
    assert len(asked) == len(set(asked))
    assert asked[-1] == good
    assert {request.run_id for request in platform.asked} == {launched.run_id}
    assert platform.runs[launched.run_id].lease == good


async def test_a_start_that_is_bound_to_its_shard_is_tried_nowhere_else():
    """A schedule's run begins under the token that its firing was found under, or not at all."""

    def lost(request: StartRequest) -> Started:
        raise ShardLost(request.lease.shard)

    platform = Platform(lost, [ShardLease(shard, 2) for shard in range(4)])
    former = ShardLease(1, 1)
    with pytest.raises(ShardLost):
        await platform.launch(former)
    assert [request.lease for request in platform.asked] == [former]
    assert not platform.runs


async def test_a_handle_whose_run_is_not_known_yet_is_asked_again():
    """The request that holds it has just lost its shard, or will tell in a moment."""
    first = iter([True])

    def undecided_first(request: StartRequest) -> Started:
        if next(first, False):
            raise Undecided
        return Started(request.run_id, created=False, recorded_at=None)

    platform = Platform(undecided_first, [ShardLease(0, 1)])
    assert (await platform.launch()).first is None
    assert len(platform.asked) == 2


async def test_what_may_have_begun_is_not_tried_again():
    """Only the tables know, so only the sender's own repetition is safe."""

    def unknown(request: StartRequest) -> Started:
        raise CommitUnknown

    platform = Platform(unknown, [ShardLease(0, 1)])
    with pytest.raises(CommitUnknown):
        await platform.launch()
    assert len(platform.asked) == 1


async def test_the_search_ends():
    """After so many shards that are gone the caller is told to come again."""

    def gone(request: StartRequest) -> Started:
        raise ShardLost(request.lease.shard)

    platform = Platform(gone, [ShardLease(shard, 1) for shard in range(20)])
    with pytest.raises(ShardLost):
        await platform.launch()
    assert len(platform.asked) == MAX_TRIES


async def test_a_run_begins_by_the_clock_of_the_database():
    """Which is known once a shard is owned: before that the machine's own may be hours off."""
    platform = Platform(begun, [ShardLease(0, 1)], skew=timedelta(hours=-7))
    launched = await platform.launch()
    [request] = platform.asked
    assert request.created_at == NOW
    assert platform.runs[launched.run_id].state.created.time == NOW
    assert not platform.launching
