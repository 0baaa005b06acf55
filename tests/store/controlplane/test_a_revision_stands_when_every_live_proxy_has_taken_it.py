"""PENDING, APPLIED, REJECTED: what the rows say, whichever control plane a proxy hangs on."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import psycopg

from reflux.controlplane import store as store_module
from reflux.controlplane.routes import Route, Target, everything_to
from reflux.controlplane.store import State

if TYPE_CHECKING:
    import pytest

    from reflux.controlplane.store import RouteStore

ALL = (Target("1.0.0", 10_000),)
SPLIT = (Target("1.0.0", 5_000, ("2.0.0",), 2, 250), Target("2.0.0", 5_000))


async def _propose(store: RouteStore, *targets: Target, node: str = "n", expected: int = 0) -> int | None:
    return await store.propose(Route(node, expected, targets or ALL), author="ada", note="why")


async def _serving(store: RouteStore, node: str = "n") -> tuple[int, State]:
    (found,) = (each for each in await store.serving() if each.route.node == node)
    return found.route.revision, found.newest_state


async def test_without_proxies_it_is_applied(stores: tuple[RouteStore, RouteStore]) -> None:
    """Nobody has to take it; it comes back as it was written, with who and why."""
    store, _ = stores
    assert await _propose(store, *SPLIT) == 1
    assert (await store.standing("n", 1)).state is State.PENDING
    assert await store.settle() == [("n", 1)]
    (stored,) = await store.serving()
    assert stored.route == Route("n", 1, SPLIT)
    assert (stored.author, stored.note, stored.newest_state) == ("ada", "why", State.APPLIED)


async def test_it_waits_for_the_proxies_of_every_control_plane(
    stores: tuple[RouteStore, RouteStore],
) -> None:
    """And names those that are missing."""
    one, other = stores
    await one.see_proxies(["a", "b"])
    await other.see_proxies(["c"])
    await _propose(one)
    await one.acknowledge("a", {"n": 1})
    await one.settle()
    standing = await other.standing("n", 1)
    assert (standing.state, standing.waiting_for) == (State.PENDING, ("b", "c"))
    await other.acknowledge("c", {"n": 1})
    await one.acknowledge("b", {"n": 1})
    assert await other.settle() == [("n", 1)]


async def test_a_proxy_that_left_holds_nobody_up(
    stores: tuple[RouteStore, RouteStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once when its control plane saw it leave, after a while when that is gone too."""
    monkeypatch.setattr(store_module, "ALIVE_SECONDS", 1.0)
    one, other = stores
    await one.see_proxies(["a"])
    await other.see_proxies(["c"])
    await _propose(one)
    await one.see_proxies([])
    assert (await one.standing("n", 1)).waiting_for == ("c",)
    async with asyncio.timeout(10):
        while not await one.settle():
            await asyncio.sleep(0.05)


async def test_a_proxy_that_moved_belongs_to_its_new_control_plane(
    stores: tuple[RouteStore, RouteStore],
) -> None:
    """The old one's farewell does not take it away."""
    one, other = stores
    await one.see_proxies(["a"])
    await other.see_proxies(["a"])
    await one.see_proxies([])
    await _propose(one)
    assert (await one.standing("n", 1)).waiting_for == ("a",)


async def test_a_newer_revision_settles_the_older(stores: tuple[RouteStore, RouteStore]) -> None:
    """Who has taken revision 2 will never be asked for revision 1 again."""
    store, _ = stores
    await store.see_proxies(["a"])
    await _propose(store)
    await _propose(store)
    await store.acknowledge("a", {"n": 2})
    assert sorted(await store.settle()) == [("n", 1), ("n", 2)]


async def test_a_refused_revision_leads_back(stores: tuple[RouteStore, RouteStore]) -> None:
    """To the newest one that nobody refused; numbers are never used again."""
    store, _ = stores
    await store.see_proxies(["a"])
    await _propose(store)
    await store.acknowledge("a", {"n": 1})
    await store.settle()
    await _propose(store, *SPLIT)
    assert await store.reject("a", {"n": 2}, "a: no") == [("n", 2)]
    standing = await store.standing("n", 2)
    assert (standing.state, standing.refusal) == (State.REJECTED, "a: no")
    assert await _serving(store) == (1, State.REJECTED)
    assert await _propose(store, expected=1) == 3
    assert await _serving(store) == (3, State.PENDING)


async def test_only_what_a_proxy_had_not_taken_is_blamed(stores: tuple[RouteStore, RouteStore]) -> None:
    """It took m before; so n is what it refused, although m still waits for somebody else."""
    store, _ = stores
    await store.see_proxies(["a", "b"])
    await _propose(store, node="m")
    await store.acknowledge("a", {"m": 1})
    await _propose(store, node="n")
    assert await store.reject("a", {"m": 1, "n": 1}, "no") == [("n", 1)]
    assert (await store.standing("m", 1)).state is State.PENDING


async def test_a_node_whose_only_revision_was_refused_has_no_route(
    stores: tuple[RouteStore, RouteStore],
) -> None:
    """Rather none than one that no proxy takes."""
    store, _ = stores
    await _propose(store)
    await store.reject("a", {"n": 1}, "no")
    assert await store.serving() == []


async def test_a_stale_revision_changes_nothing(stores: tuple[RouteStore, RouteStore]) -> None:
    """Nor does one of a route that does not exist yet."""
    store, _ = stores
    assert await _propose(store, expected=1) is None
    assert await _propose(store) == 1
    assert await _propose(store, expected=1) == 2
    assert await _propose(store, expected=1) is None
    assert await _serving(store) == (2, State.PENDING)


async def test_only_one_of_many_updates_of_the_same_revision_wins(
    stores: tuple[RouteStore, RouteStore],
) -> None:
    """Through both control planes at once."""
    await _propose(stores[0])
    proposals = (_propose(stores[turn % 2], expected=1) for turn in range(10))
    made = await asyncio.gather(*proposals)
    assert sorted(each for each in made if each) == [2]


async def test_a_first_route_is_given_once(stores: tuple[RouteStore, RouteStore]) -> None:
    """By whichever control plane sees the node first; what people said stays."""
    one, other = stores
    for store, version in ((one, "1.0.0"), (other, "2.0.0")):
        await store.found(everything_to("n", version), author="reflux", note="first")
    (stored,) = await one.serving()
    assert stored.route == everything_to("n", "1.0.0")


async def test_what_was_refused_together_says_so(stores: tuple[RouteStore, RouteStore]) -> None:
    """Nobody can know which of them it was, so none is blamed as if it were known."""
    store, _ = stores
    await store.see_proxies(["a"])
    for node in ("m", "n", "o"):
        await _propose(store, node=node)
    blamed = await store.reject("a", {"m": 1, "n": 1, "o": 1}, "a: no")
    assert sorted(blamed) == [("m", 1), ("n", 1), ("o", 1)]
    assert (await store.standing("n", 1)).refusal == (
        "a: no (refused together with revision 1 of m, revision 1 of o: any of them may be the cause)"
    )


async def test_a_history_keeps_everything(stores: tuple[RouteStore, RouteStore]) -> None:
    """Newest first, refused ones with their words; what a revision took over from is never a refused one."""
    store, _ = stores
    await _propose(store)
    await _propose(store, *SPLIT)
    await store.reject("a", {"n": 2}, "a: no")
    await _propose(store)
    await store.settle()
    found = await store.revisions("n", 10, 10)
    assert [(each.route.revision, each.state, each.refusal) for each in found] == [
        (3, State.APPLIED, ""),
        (2, State.REJECTED, "a: no"),
        (1, State.APPLIED, ""),
    ]
    assert found[1].route == Route("n", 2, SPLIT)
    assert await store.revisions("n", 3, 1) == [found[1]]
    assert await store.revision("n", 2) == found[1]
    assert await store.revision("n", 4) is None
    assert await store.former("n", 3) == found[2]
    assert await store.former("n", 1) is None


async def test_who_is_led_back_must_take_it_anew(stores: tuple[RouteStore, RouteStore]) -> None:
    """Having taken the refused one says nothing about the one before it that serves again."""
    store, other = stores
    await store.see_proxies(["a"])
    await other.see_proxies(["b"])
    await _propose(store)
    await store.acknowledge("a", {"n": 1})
    await _propose(store)
    await store.acknowledge("a", {"n": 2})
    assert await other.reject("b", {"n": 2}, "b: no") == [("n", 2)]
    # Its control plane has not heard of the refusal yet and says it once more.
    await store.acknowledge("a", {"n": 2})
    assert (await store.standing("n", 1)).waiting_for == ("a", "b")
    await store.acknowledge("a", {"n": 1})
    await other.acknowledge("b", {"n": 1})
    assert await store.settle() == [("n", 1)]


async def test_what_is_settled_leaves_nothing_behind(
    stores: tuple[RouteStore, RouteStore], database_dsn: str
) -> None:
    """Proxies that come and go under ever new names fill no table."""
    store, _ = stores
    for name in ("a", "b", "c"):
        await store.see_proxies([name])
        revision = await _propose(store)
        assert revision is not None
        await store.acknowledge(name, {"n": revision})
        assert await store.settle() == [("n", revision)]
    async with await psycopg.AsyncConnection.connect(database_dsn) as connection:
        found = await connection.execute("SELECT count(*) FROM controlplane.acknowledgements")
        assert await found.fetchone() == (0,)


async def test_words_of_any_kind_are_kept(stores: tuple[RouteStore, RouteStore]) -> None:
    """A proxy's words are not ours: long ones are cut, and what no text can hold is replaced."""
    store, _ = stores
    await _propose(store)
    await store.reject("a", {"n": 1}, "a: \0" + "x" * 10_000)
    refusal = (await store.standing("n", 1)).refusal
    assert refusal.startswith("a: \ufffdx")
    assert len(refusal) == store_module.MAX_WORDS


async def test_a_name_that_no_text_can_hold_has_no_history(stores: tuple[RouteStore, RouteStore]) -> None:
    """It is unknown like any other, not a defect."""
    store, _ = stores
    assert await store.revisions("n\0", 9, 9) == []
    assert await store.revision("n\0", 1) is None
