"""The real answer and the shadow's report meet, whichever comes first; what is found is kept, and bounded."""

import asyncio
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from reflux.core.attempt import AttemptResult
from reflux.core.document import Json
from reflux.core.effect import EffectClass, Lane
from reflux.core.event import Assignment, Failure, Outcome
from reflux.core.names import RunId, StepPath
from reflux.orchestrator.caller import Order
from reflux.orchestrator.shadows import desk as desk_module
from reflux.orchestrator.shadows import store
from reflux.orchestrator.shadows.compare import digest
from reflux.orchestrator.shadows.desk import Desk, Report
from reflux.runtime.postgres import open_pool

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def order(step: str) -> Order:
    """An attempt of which 2.0.0 gets a copy."""
    return Order(
        run_id=RunId("r"),
        step=StepPath(step),
        attempt=1,
        fencing_token=1,
        idempotency_key="k",
        node="n",
        version=None,
        input=Json(b"{}"),
        assignment=Assignment(EffectClass.PURE, Lane.BROAD, draw=0),
        limit=timedelta(seconds=1),
        total_deadline=None,
        shadow="2.0.0",
    )


def real(value: object, *, by: str = "1.0.0") -> AttemptResult:
    """DONE."""
    seen = Assignment(EffectClass.PURE, Lane.BROAD, draw=0, chosen=by, answered_by=by)
    return AttemptResult(Outcome.DONE, seen, NOW, NOW, output=Json.of(value))


def report(value: object) -> Report:
    """What 2.0.0 gave."""
    return Report("2.0.0", Json.of(value).raw, digest(value), "")


def tell(desk: Desk, step: str, told: Report) -> None:
    """A report arrives."""
    desk.reported(RunId("r"), StepPath(step), 1, told)


async def test_they_meet_whichever_comes_first(database_dsn: str) -> None:
    """Equal, different with its place and examples, failed; what cannot be compared is counted too."""
    async with open_pool(database_dsn, service="orchestrator", max_size=2) as pool:
        desk = Desk(pool)
        desk.answered(order("a"), real({"x": 1}))
        tell(desk, "a", report({"x": 1}))
        for number in range(5):
            tell(desk, f"b{number}", report({"x": 2}))
            desk.answered(order(f"b{number}"), real({"x": 1}))
        desk.answered(order("c"), real({}))
        tell(desk, "c", Report("2.0.0", b"", b"", "INTERNAL NODE_FAULT"))
        desk.answered(order("d"), real({}, by="2.0.0"))
        tell(desk, "d", report({}))
        failure = Failure("UNAVAILABLE", "NODE_FAULT", "ill")
        desk.answered(
            order("e"), AttemptResult(Outcome.NO_EFFECT, real({}).assignment, NOW, NOW, failure=failure)
        )
        tell(desk, "e", report({}))
        large = {"x": "y" * (desk_module.MAX_OUTPUT + 1)}
        desk.answered(order("f"), real(large))
        tell(desk, "f", Report("2.0.0", b"", digest(large), ""))
        await desk.write()
        desk.answered(order("g"), real({"x": 1}))
        tell(desk, "g", report({"x": 3}))
        await desk.write()
        rows = {(row.kind, row.pointer): row for row in await store.of_node(pool, "n")}
        assert {place: row.count for place, row in rows.items()} == {
            ("equal", "total"): 2,
            ("different", "total"): 6,
            ("failed", "total"): 1,
            ("uncompared", "total"): 2,
            ("changed", "/x"): 6,
            ("failed", ""): 1,
        }
        steps = [each["step"] for each in rows["changed", "/x"].examples]
        assert steps == ["g", "b4", "b3"]
        first = {"run_id": "r", "step": "g", "attempt": 1, "answered": "1", "shadowed": "3"}
        assert rows["changed", "/x"].examples[0] == first
        assert await store.of_node(pool, "other") == []


async def test_what_never_comes_is_given_up(database_dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """After its time, or when too much waits, an answer is unheard; a report alone is nothing."""
    monkeypatch.setattr(desk_module, "MAX_WAITING", 3)
    async with open_pool(database_dsn, service="orchestrator", max_size=2) as pool:
        desk = Desk(pool)
        tell(desk, "nobody's", report({}))
        for number in range(4):
            desk.answered(order(f"s{number}"), real({}))
        desk.expire(asyncio.get_running_loop().time() + desk_module.WAIT_SECONDS - 1)
        tell(desk, "s3", report({}))
        desk.expire(asyncio.get_running_loop().time() + desk_module.WAIT_SECONDS + 1)
        await desk.write()
        found = {row.kind: row.count for row in await store.of_node(pool, "n")}
        assert found == {"unheard": 3, "equal": 1}


async def test_findings_wait_for_the_database_and_are_forgotten(database_dsn: str) -> None:
    """What could not be written is written later, added up; what is not seen any more goes."""
    async with open_pool(database_dsn, service="orchestrator", max_size=2) as pool:
        desk = Desk(pool)
        async with pool.connection() as connection:
            await connection.execute("ALTER TABLE shadow_findings RENAME TO hidden")
        desk.answered(order("a"), real(1))
        tell(desk, "a", report(2))
        with pytest.raises(psycopg.Error):
            await desk.write()
        desk.answered(order("b"), real(1))
        tell(desk, "b", report(2))
        async with pool.connection() as connection:
            await connection.execute("ALTER TABLE hidden RENAME TO shadow_findings")
        await desk.write()
        assert {row.count for row in await store.of_node(pool, "n")} == {2}
        async with pool.connection() as connection:
            await connection.execute("UPDATE shadow_findings SET seen_at = seen_at - interval '8 days'")
        await store.forget(pool)
        assert await store.of_node(pool, "n") == []


async def test_places_of_a_version_are_bounded(database_dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Further ones are left out; those that are there go on counting, and so do the totals."""
    monkeypatch.setattr(store, "MAX_PLACES", 3)
    async with open_pool(database_dsn, service="orchestrator", max_size=2) as pool:
        desk = Desk(pool)
        for key in ("a", "b", "c", "d", "a"):
            desk.answered(order(key), real({key: 1}))
            tell(desk, key, report({}))
            await desk.write()
        found = {(row.kind, row.pointer): row.count for row in await store.of_node(pool, "n")}
        assert found == {("different", "total"): 5, ("missing", "/a"): 2, ("missing", "/b"): 1}
