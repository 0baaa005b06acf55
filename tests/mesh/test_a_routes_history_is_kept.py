"""Every revision stays: who made it and why, what it changed, and the way back. Over REST, at the edge."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
import psycopg
import pytest

from reflux.api.routing.v1 import routing_service_pb2 as pb
from reflux.core.reasons import Reason
from reflux.runtime import rpc
from tests.mesh.support.node import Node

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.mesh.support.platform import Platform
    from tests.support.rest import Answer

ROUTE = "/api/routes/demo.chat"
CANARY = ({"version": "1.0.0", "weight": 9000}, {"version": "2.0.0", "weight": 1000, "fallback": ["1.0.0"]})
ALL_NEW = ({"version": "1.0.0", "weight": 0}, {"version": "2.0.0", "weight": 10_000, "try_timeout": "2s"})


def _reason(answer: Answer) -> str:
    (info,) = (each for each in answer.json["details"] if each["@type"].endswith("ErrorInfo"))
    return str(info["reason"])


@pytest.fixture
async def changed(platform: Platform) -> AsyncIterator[Platform]:
    """Revisions 1 (the first version registered), 2 (a canary of ada's) and 3 (all to the new one)."""
    async with Node("1.0.0").serving() as first, Node("2.0.0").serving() as second:
        await platform.register(first)
        await platform.register(second)
        await platform.answered_by("2.0.0", version="2.0.0")
        await platform.update(*CANARY, note="a tenth")
        put = await platform.rest("PUT", ROUTE, {"targets": ALL_NEW, "note": "all of it"})
        assert put.ok()["revision"] == 3
        yield platform


async def test_every_revision_says_who_when_and_why(changed: Platform) -> None:
    """Newest first, in pages; one by one they are the same."""
    listed = (await changed.rest("GET", f"{ROUTE}/revisions?page_size=2")).ok()
    more = (
        await changed.rest("GET", f"{ROUTE}/revisions?page_size=2&page_token={listed['next_page_token']}")
    ).ok()
    revisions = [*listed["revisions"], *more["revisions"]]
    assert more["next_page_token"] == ""
    assert [(each["revision"], each["author"], each["note"], each["state"]) for each in revisions] == [
        (3, "anonymous", "all of it", "APPLIED"),
        (2, "ada", "a tenth", "APPLIED"),
        (1, "reflux", "the first version registered", "APPLIED"),
    ]
    times = [each["update_time"] for each in revisions]
    assert times == sorted(times, reverse=True)
    assert (await changed.rest("GET", f"{ROUTE}/revisions/2")).ok() == revisions[1]
    assert [each["fallback"] for each in revisions[1]["targets"]] == [[], ["1.0.0"]]


async def test_a_difference_is_told_by_target(changed: Platform) -> None:
    """Between any two; without numbers, between what serves and what it took over from."""
    told = (await changed.rest("GET", f"{ROUTE}:diff")).ok()
    assert (told["from_revision"], told["to_revision"]) == (2, 3)
    assert told["changes"] == [
        {"version": "1.0.0", "field": "weight", "before": "9000", "after": "0"},
        {"version": "2.0.0", "field": "weight", "before": "1000", "after": "10000"},
        {"version": "2.0.0", "field": "fallback", "before": '["1.0.0"]', "after": "[]"},
        {"version": "2.0.0", "field": "try_timeout", "before": "", "after": '"2s"'},
    ]
    told = (await changed.rest("GET", f"{ROUTE}:diff?from_revision=3&to_revision=1")).ok()
    assert [(each["version"], each["field"]) for each in told["changes"]] == [
        ("1.0.0", "weight"),
        ("2.0.0", "target"),
    ]
    told = (await changed.rest("GET", f"{ROUTE}:diff?to_revision=1")).ok()
    assert (told["from_revision"], [each["field"] for each in told["changes"]]) == (0, ["target"])


async def test_going_back_is_a_new_revision_that_serves(changed: Platform) -> None:
    """Equal to the old one, acknowledged as an update is, and it says where it went back to."""
    await changed.answered_by("2.0.0", draw="0")
    back = (await changed.rest("POST", f"{ROUTE}/revisions/2:rollback?expected_revision=3")).ok()
    assert (back["revision"], back["state"], back["author"]) == (4, "APPLIED", "anonymous")
    assert back["note"] == "back to revision 2"
    await changed.answered_by("1.0.0", draw="8999")
    await changed.answered_by("2.0.0", draw="9000")
    assert (await changed.rest("GET", f"{ROUTE}:diff?from_revision=2")).ok()["changes"] == []
    request = pb.RollbackRouteRequest(node="demo.chat", revision=1, note="enough")
    route = await changed.routing.RollbackRoute(request, timeout=20, metadata=(("x-reflux-actor", "grace"),))
    assert (route.revision, route.author, route.note) == (5, "grace", "enough")


REFUSED: tuple[tuple[str, str, Any, int, Reason], ...] = (
    ("POST", "/revisions/2:rollback?expected_revision=2", None, 409, Reason.REVISION_STALE),
    ("POST", "/revisions/9:rollback", None, 404, Reason.REVISION_NOT_FOUND),
    ("POST", "/revisions/-1:rollback", None, 404, Reason.REVISION_NOT_FOUND),
    ("POST", "/revisions/1:rollback?note=" + "x" * 1001, None, 400, Reason.ARGUMENT_INVALID),
    ("POST", "/revisions/two:rollback", None, 400, Reason.EDGE_REFUSED),
    ("GET", "/revisions/9", None, 404, Reason.REVISION_NOT_FOUND),
    ("GET", "/revisions?page_size=-1", None, 400, Reason.ARGUMENT_INVALID),
    ("GET", "/revisions?page_token=abc", None, 400, Reason.PAGE_TOKEN_INVALID),
    ("GET", ":diff?from_revision=9", None, 404, Reason.REVISION_NOT_FOUND),
    ("GET", ":diff?to_revision=9", None, 404, Reason.REVISION_NOT_FOUND),
    ("PUT", "", {"targets": CANARY, "revision": 2}, 409, Reason.REVISION_STALE),
    ("PUT", "", {"targets": ALL_NEW, "note": "a\0b"}, 400, Reason.ROUTE_INVALID),
    ("PUT", "", {"targets": CANARY[:1]}, 400, Reason.ROUTE_INVALID),
    (
        "PUT",
        "",
        {"targets": [{"version": "1.0.0", "weight": 10_000, "fallback": ["2.0.0", "1.0.0"]}]},
        400,
        Reason.ROUTE_INVALID,
    ),
    ("PUT", "", {"targets": [{"version": "9.9.9", "weight": 10_000}]}, 400, Reason.ROUTE_INVALID),
)


async def test_what_cannot_be_is_refused_and_changes_nothing(changed: Platform) -> None:
    """Each with its own reason; no proxy hears of it, and no revision is made."""
    for method, path, document, status, reason in REFUSED:
        answer = await changed.rest(method, ROUTE + path, document)
        assert (answer.status, _reason(answer)) == (status, reason), (method, path)
    revisions = (await changed.rest("GET", f"{ROUTE}/revisions")).ok()["revisions"]
    assert [each["revision"] for each in revisions] == [3, 2, 1]


async def test_a_node_without_a_route_has_no_history(changed: Platform) -> None:
    """A mistyped name is told from a wrong number."""
    for method, path in (
        ("GET", "/revisions"),
        ("GET", "/revisions/1"),
        ("GET", ":diff"),
        ("POST", "/revisions/1:rollback"),
    ):
        answer = await changed.rest(method, f"/api/routes/ai.chta{path}")
        assert (answer.status, _reason(answer)) == (404, Reason.ROUTE_NOT_FOUND)


async def test_a_revision_whose_version_is_no_longer_known_is_refused_by_name(
    changed: Platform, database_dsn: str
) -> None:
    """Its share would fail, so it does not come back in silence."""
    async with await psycopg.AsyncConnection.connect(database_dsn, autocommit=True) as connection:
        await connection.execute(
            """UPDATE controlplane.route_revisions
                  SET document = replace(document::text, '2.0.0', '0.9.0')::jsonb WHERE revision = 2"""
        )
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await changed.routing.RollbackRoute(pb.RollbackRouteRequest(node="demo.chat", revision=2), timeout=20)
    failure = rpc.read(refused.value)
    assert (failure.code, failure.reason) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        Reason.NODE_VERSION_NOT_FOUND,
    )
    assert failure.metadata == {"node": "demo.chat", "revision": "2", "versions": "0.9.0"}
    assert "0.9.0" in failure.message
    assert (await changed.get()).revision == 3
