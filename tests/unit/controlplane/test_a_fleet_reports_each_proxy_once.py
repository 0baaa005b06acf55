"""How far a proxy is, whatever streams it has."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from reflux.controlplane import graph, snapshot
from reflux.controlplane.envoy import xds
from reflux.controlplane.fleet import Fleet
from reflux.controlplane.snapshot import KINDS, Proxy
from reflux.controlplane.subscription import Request

if TYPE_CHECKING:
    from collections.abc import Iterator

    from reflux.controlplane.fleet import Link

MESH = Proxy("mesh-1", ("127.0.0.1", 4001))


@pytest.fixture
def fleet() -> Fleet:
    """With a goal and no streams."""
    made = Fleet(lambda: None)
    made.publish(snapshot.build(graph.build([], [])))
    return made


@pytest.fixture
def streams() -> Iterator[ExitStack]:
    """Streams that are open as long as the test runs."""
    with ExitStack() as stack:
        yield stack


def _follow(fleet: Fleet, link: Link, *, refuse: str = "") -> None:
    """Lead a stream to the goal as Envoy goes there; it refuses the routes if there are words for that."""
    assert fleet.snapshot is not None
    link.snapshot = fleet.snapshot
    sent = link.subscription.push(fleet.snapshot.view(link.proxy))
    for kind in KINDS:
        names = frozenset({"mesh"} if kind == xds.ROUTE else ())
        sent += link.subscription.receive(Request(kind, names))
        while sent:
            response = sent.pop(0)
            error = refuse if response.kind == xds.ROUTE else ""
            sent += link.subscription.receive(Request(response.kind, names, response.nonce, error))


def test_a_proxy_with_two_streams_has_settled_when_both_have(fleet: Fleet, streams: ExitStack) -> None:
    """One may be dead and not yet noticed, or belong to another proxy that was given the same name."""
    links = [streams.enter_context(fleet.connected(MESH)) for _ in range(2)]
    _follow(fleet, links[0])
    assert [(each.proxy, each.settled) for each in fleet.reports()] == [("mesh-1", False)]
    _follow(fleet, links[1])
    assert [(each.proxy, each.settled) for each in fleet.reports()] == [("mesh-1", True)]


def test_a_refusal_on_either_stream_is_the_proxys(fleet: Fleet, streams: ExitStack) -> None:
    """Whichever of them says so."""
    links = [streams.enter_context(fleet.connected(MESH)) for _ in range(2)]
    _follow(fleet, links[0])
    _follow(fleet, links[1], refuse="no")
    (report,) = fleet.reports()
    assert not report.settled
    assert report.refusal is not None
    assert report.refusal.words == "no"


def test_nothing_waits_for_an_edge(fleet: Fleet, streams: ExitStack) -> None:
    """It has no routes of nodes, so whether it answers says nothing about them."""
    streams.enter_context(fleet.connected(Proxy("edge-1", None)))
    assert fleet.reports() == []


def test_what_was_said_of_a_former_goal_counts_for_nothing(fleet: Fleet, streams: ExitStack) -> None:
    """Neither an acceptance nor a refusal."""
    link = streams.enter_context(fleet.connected(MESH))
    _follow(fleet, link, refuse="no")
    fleet.publish(snapshot.build(graph.build([graph.Version("n", "1", ())], [])))
    (report,) = fleet.reports()
    assert (report.settled, report.refusal) == (False, None)
