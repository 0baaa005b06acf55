"""ADS without a network: the order in which a proxy is told, and what it is told again."""

from __future__ import annotations

import pytest

from reflux.controlplane.envoy import xds
from reflux.controlplane.snapshot import KINDS
from reflux.controlplane.subscription import Request
from tests.unit.controlplane.support import FakeEnvoy, view


@pytest.fixture
def envoy() -> FakeEnvoy:
    """A proxy that has not said anything yet."""
    return FakeEnvoy()


def test_a_proxy_that_starts_gets_what_it_asks_for(envoy: FakeEnvoy) -> None:
    """Listener and routes only after clusters and endpoints are in place."""
    assert envoy.push(view("ab")) == []
    assert envoy.ask(xds.LISTENER) == []
    assert envoy.ask(xds.CLUSTER) == ["CDS a b"]
    assert envoy.ask(xds.ENDPOINT, "ab") == ["EDS a b"]
    assert envoy.ack() == []
    assert envoy.ack() == ["LDS listener"]
    assert envoy.ask(xds.ROUTE, ["mesh"]) == ["RDS routes"]
    assert not envoy.subscription.settled
    assert envoy.ack_all() == []
    assert envoy.subscription.settled


def test_before_there_is_a_view_nothing_is_said(envoy: FakeEnvoy) -> None:
    """A control plane that knows nothing must not look like one that knows there is nothing."""
    for kind in KINDS:
        assert envoy.ask(kind) == []
    assert not envoy.subscription.settled


def test_new_is_made_before_old_is_broken(envoy: FakeEnvoy) -> None:
    """Both clusters, then the route, then the old cluster goes; each step after the answers before."""
    envoy.start(view("a"), "a")
    assert envoy.push(view("b", "to b")) == ["CDS a b", "EDS a"]
    assert envoy.ask(xds.ENDPOINT, "ab") == []  # with an old nonce: endpoints are on their way to it
    assert envoy.ack() == []  # the clusters
    assert envoy.ack() == ["EDS a b"]  # the endpoints, with the names as they are now
    assert envoy.ack() == ["RDS to b"]
    assert envoy.ack() == ["CDS b", "EDS b"]
    assert envoy.ack_all() == []
    assert envoy.ask(xds.ENDPOINT, "b") == []
    assert envoy.subscription.settled


def test_a_change_of_weights_is_one_response(envoy: FakeEnvoy) -> None:
    """What did not change is not sent again."""
    envoy.start(view("a"), "a")
    assert envoy.push(view("a", "other weights")) == ["RDS other weights"]
    assert envoy.ack_all() == []
    assert envoy.subscription.settled


def test_a_change_of_endpoints_is_one_response(envoy: FakeEnvoy) -> None:
    """Processes come and go without touching clusters and routes."""
    envoy.start(view("ab"), "ab")
    assert envoy.push(view("ab", endpoints="2")) == ["EDS a2 b2"]
    assert envoy.ack_all() == []
    assert envoy.subscription.settled


def test_the_same_view_again_says_nothing(envoy: FakeEnvoy) -> None:
    """Versions are content hashes, so equal content is known to be there."""
    envoy.start(view("a"), "a")
    assert envoy.push(view("a")) == []
    assert envoy.subscription.settled


def test_names_that_grow_are_answered_at_once_and_names_that_shrink_are_not(envoy: FakeEnvoy) -> None:
    """Envoy holds a new cluster back until its endpoints are there."""
    envoy.start(view("ab"), "a")
    assert envoy.ask(xds.ENDPOINT, "ab") == ["EDS a b"]
    envoy.ack()
    assert envoy.ask(xds.ENDPOINT, "b") == []


def test_an_old_nonce_is_answered_by_nothing(envoy: FakeEnvoy) -> None:
    """The answer that counts is on its way."""
    envoy.start(view("a"), "a")
    old = envoy.nonces[xds.ROUTE]
    assert envoy.push(view("a", "two")) == ["RDS two"]
    assert envoy.stale(xds.ROUTE, old) == []
    assert not envoy.subscription.settled
    assert envoy.ack_all() == []
    assert envoy.subscription.settled


def test_what_is_refused_is_not_sent_again(envoy: FakeEnvoy) -> None:
    """The refusal has the proxy's words and stops the way; a view without it leads on."""
    envoy.start(view("a", "good"), "a")
    envoy.push(view("a", "bad"))
    assert envoy.nack("no such cluster") == []
    assert envoy.subscription.refusal is not None
    assert envoy.subscription.refusal.words == "no such cluster"
    assert not envoy.subscription.settled
    assert envoy.push(view("a", "bad")) == []
    assert not envoy.subscription.settled
    assert envoy.push(view("a", "good")) == ["RDS good"]
    assert envoy.subscription.refusal is None
    assert envoy.ack_all() == []
    assert envoy.subscription.settled


def test_a_refused_cluster_is_not_carried_into_the_next_view(envoy: FakeEnvoy) -> None:
    """Else the next update, which has no part in it, would be refused for it and blamed."""
    envoy.start(view("a"), "a")
    assert envoy.push(view("ax")) == ["CDS a x", "EDS a"]
    assert envoy.nack("x is bad") == []
    assert envoy.ack() == []
    assert envoy.push(view("ab", "to b")) == ["CDS a b", "EDS a"]
    assert envoy.ask(xds.ENDPOINT, "ab") == []
    envoy.ack_all()
    assert envoy.subscription.refusal is None
    assert envoy.subscription.settled
    assert not any("x" in each.split() for each in envoy.told[-4:])


def test_who_asks_again_after_a_refusal_gets_what_was_good(envoy: FakeEnvoy) -> None:
    """Names that grow are answered from what the proxy accepted, not from what it refused."""
    envoy.start(view("a", "good"), "a")
    envoy.push(view("a", "bad"))
    envoy.nack("no")
    assert envoy.ask(xds.ROUTE, ["mesh", "more"]) == ["RDS good"]


def test_a_refused_route_keeps_the_clusters_of_the_old_one(envoy: FakeEnvoy) -> None:
    """Removals come last, so they never come after a refusal."""
    envoy.start(view("a", "to a"), "a")
    envoy.push(view("b", "bad"))
    envoy.ack()
    assert envoy.ack() == ["RDS bad"]
    assert envoy.nack("no") == []
    assert envoy.told[-1] == "RDS bad"
    assert envoy.push(view("a", "to a")) == ["RDS to a"]
    assert envoy.ack() == ["CDS a", "EDS a"]


def test_a_newer_view_replaces_what_still_waits(envoy: FakeEnvoy) -> None:
    """A proxy that is slow gets the newest route, not every one there was."""
    envoy.start(view("a", "1"), "a")
    envoy.push(view("a", "2"))
    assert envoy.push(view("a", "3")) == []
    assert envoy.push(view("a", "4")) == []
    assert envoy.ack() == ["RDS 4"]


def test_endpoints_follow_clusters_even_if_they_did_not_change(envoy: FakeEnvoy) -> None:
    """A cluster that was replaced waits for its endpoints."""
    envoy.start(view("a"), "a")
    changed = {**view("a"), xds.CLUSTER: {"a": b"A"}}
    assert envoy.push(changed) == ["CDS A", "EDS a"]


def test_a_type_that_we_do_not_serve_is_answered_by_nothing(envoy: FakeEnvoy) -> None:
    """Whatever a future Envoy may ask for."""
    envoy.start(view("a"), "a")
    assert envoy.subscription.receive(Request("envoy.service.runtime.v3.Runtime")) == []
    assert envoy.subscription.settled


def test_a_proxy_that_needs_nothing_settles_with_nothing(envoy: FakeEnvoy) -> None:
    """An edge asks for clusters and listeners and is told that there are none, so that it starts."""
    envoy.push({kind: {} for kind in KINDS})
    assert envoy.ask(xds.CLUSTER) == ["CDS"]
    envoy.ack()
    assert envoy.ask(xds.LISTENER) == ["LDS"]
    envoy.ack()
    assert envoy.subscription.settled
