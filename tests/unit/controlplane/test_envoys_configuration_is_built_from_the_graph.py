"""What the pure builders promise, and that Envoy's own API accepts every field."""

from __future__ import annotations

from typing import Any

from reflux.api.registry.v1 import registry_service_pb2 as pb
from reflux.controlplane import catalog, snapshot
from reflux.controlplane.envoy import cluster, faults, gate, listener, route, xds
from reflux.controlplane.graph import Endpoint, Version, build
from reflux.controlplane.routes import Limits, Route, Target
from reflux.controlplane.snapshot import KINDS, Proxy
from reflux.core.effect import Lane

VERSIONS = [Version("n", "1", (Endpoint("127.0.0.1", 1),)), Version("n", "2", ())]
ROUTE = Route("n", 3, (Target("1", 7000, ("2",), 2, 250), Target("2", 3000)))


def test_a_snapshot_points_at_nothing_that_is_not_in_it() -> None:
    """Every cluster of the routes is there, and every leaf has an assignment, be it empty."""
    graph = build(VERSIONS, [ROUTE])
    made = snapshot.build(graph)
    used = {
        each.cluster(lane) for node in graph.nodes for each in (*node.shares, *node.pins) for lane in Lane
    }
    assert used <= made.clusters.keys()
    assert made.endpoints.keys() == {leaf.name for leaf in graph.leaves}
    assert made.revisions == {"n": 3}


def test_a_mesh_proxy_gets_its_listener_where_it_says_and_an_edge_gets_nothing() -> None:
    """Who needs nothing is told so, and starts."""
    made = snapshot.build(build(VERSIONS, [ROUTE]))
    view = made.view(Proxy("a", ("127.0.0.7", 4001)))
    assert view[xds.LISTENER] == {
        "mesh": xds.encode(xds.LISTENER, listener.mesh("127.0.0.7", 4001)),
        "gate": xds.encode(xds.LISTENER, gate.listener()),
    }
    assert made.view(Proxy("b", None)) == {kind: {} for kind in KINDS}


def test_equal_graphs_have_equal_versions() -> None:
    """A control plane that restarts says the same as the one before."""
    one, two = (snapshot.build(build(order, [ROUTE])) for order in (VERSIONS, VERSIONS[::-1]))
    assert snapshot.version(one.clusters) == snapshot.version(two.clusters)
    other = snapshot.build(build(VERSIONS[:1], [ROUTE]))
    assert snapshot.version(one.routes) == snapshot.version(other.routes)
    changed = snapshot.build(build(VERSIONS, [Route("n", 4, ROUTE.targets)]))
    assert snapshot.version(one.routes) != snapshot.version(changed.routes)


def test_a_leaf_is_the_same_whatever_its_endpoints() -> None:
    """Else a process that comes or goes would make its cluster warm up again and forget who is ejected."""
    before, after = (build([Version("n", "1", ends)], []) for ends in ((), VERSIONS[0].endpoints))
    assert cluster.leaf(before.leaves[0]) == cluster.leaf(after.leaves[0])


def test_only_the_broad_lane_tries_again_what_may_have_been_processed() -> None:
    """The safe lane needs proof: not connected, refused by the stream, or the node's own word."""
    assert set(cluster.RETRY_ON[Lane.SAFE].split(",")) == {
        "connect-failure",
        "refused-stream",
        "retriable-headers",
    }
    assert "retriable-headers" not in cluster.RETRY_ON[Lane.BROAD]
    assert {"reset", "unavailable", "internal"} <= set(cluster.RETRY_ON[Lane.BROAD].split(","))


def test_pins_come_before_weights_and_unknown_pins_between() -> None:
    """First match wins, so the order is the promise."""
    (node,) = build(VERSIONS, [ROUTE]).nodes
    names = [each.get("name", "refused") for each in route.entries(node)]
    lanes = [
        [f"n@1 {lane}", f"n@2 {lane}", "refused", f"n {lane} once", f"n {lane}"]  # once: its chain repeats
        for lane in Lane
    ]
    (plain,) = build(VERSIONS, [Route("n", 3, (Target("1", 10_000, ("2",)),))]).nodes
    assert not [each for each in route.entries(plain) if each.get("name", "").endswith("once")]
    assert names == lanes[0] + lanes[1]


def test_the_route_configuration_is_the_sum_of_its_parts() -> None:
    """Put together from serialized parts, so that a change of one node costs that node only."""
    graph = build([*VERSIONS, Version("m", "1", ())], [ROUTE])
    plain = [*(entry for node in graph.nodes for entry in route.entries(node)), route.last()]
    whole = {**route.frame(), "virtual_hosts": [{**route.host(), "routes": [faults.refused(), *plain]}]}
    gates = {**gate.routes(), "virtual_hosts": [gate.host(leaf) for leaf in graph.leaves]}
    assert snapshot.build(graph).routes == {
        "mesh": xds.encode(xds.ROUTE, whole),
        "gate": xds.encode(xds.ROUTE, gates),
    }


def test_where_faults_are_allowed_nothing_of_the_real_way_differs() -> None:
    """Its twins are beside it, where calls meet them first; every cluster that is named is there."""
    graph = build(VERSIONS, [ROUTE])
    plain, twinned = snapshot.build(graph), snapshot.build(graph, allow_faults=True)
    assert plain.clusters.items() < twinned.clusters.items()
    assert plain.endpoints == twinned.endpoints
    (node,) = graph.nodes
    routes = [*faults.entries(node), *route.entries(node), route.last()]
    whole = {**route.frame(), "virtual_hosts": [{**route.host(), "routes": routes}]}
    assert twinned.routes["mesh"] == xds.encode(xds.ROUTE, whole)
    members = {name for each in graph.composites for name in each.members}
    assert {f"{name}{mark}" for name in members for mark in ("!", "!drop")} <= twinned.clusters.keys()


def test_limits_stand_behind_a_gate_on_every_way() -> None:
    """The leaf has them, the gate before it has none; so has a call of a test run, whose twin has no gate."""
    limited = Route("n", 3, (Target("1", 10_000, ("2",), limits=Limits(max_requests=7)), Target("2", 0)))
    graph = build(VERSIONS, [limited])
    made = snapshot.build(graph, allow_faults=True)
    (leaf,) = [leaf for leaf in graph.leaves if leaf.limits]
    assert cluster.leaf(leaf)["circuit_breakers"] == cluster.limits(Limits(max_requests=7))
    assert made.clusters["n@1!gate"] == xds.encode(xds.CLUSTER, gate.cluster(leaf))
    assert gate.cluster(leaf)["circuit_breakers"] == cluster.limits()
    assert "n@2!gate" not in made.clusters
    members = {name for each in graph.composites for name in each.members}
    assert members == {"n@1!gate", "n@2"}
    twins = {name["name"] for each in graph.composites for name in _members(faults.chain(each))}
    assert twins == {"n@1!", "n@2!"}
    assert all(
        entry["route"]["auto_host_rewrite"] for entry in route.entries(graph.nodes[0]) if "route" in entry
    )


def _members(chain: dict[str, Any]) -> list[dict[str, str]]:
    found: list[dict[str, str]] = chain["cluster_type"]["typed_config"]["clusters"]
    return found


def test_the_catalog_keeps_order_and_leaves_out_what_envoy_cannot_call() -> None:
    """Versions of a node in the order of their registration, whatever their names."""
    message = pb.Catalog(
        versions=[
            pb.NodeVersion(node="n", version="9"),
            pb.NodeVersion(
                node="n",
                version="1",
                endpoints=[pb.Endpoint(address="[::1]:7"), pb.Endpoint(address="a.host:7")],
            ),
        ]
    )
    message.versions[0].create_time.FromSeconds(100)
    message.versions[1].create_time.FromSeconds(200)
    read = catalog.read(message)
    assert read.of("n") == ("9", "1")
    assert read.versions[1].endpoints == (Endpoint("::1", 7),)
    assert read.nodes() == ("n",)
    assert read.of("m") == ()
