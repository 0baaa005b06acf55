"""Catalog and routes become leaves, composites and choices."""

from __future__ import annotations

from reflux.controlplane.graph import Endpoint, Graph, Version, build
from reflux.controlplane.routes import Route, Target
from reflux.core.effect import Lane

ONE = Version("n", "1", (Endpoint("127.0.0.1", 2), Endpoint("127.0.0.1", 1)))
TWO = Version("n", "2", ())


def _members(graph: Graph, cluster: str) -> tuple[str, ...]:
    (found,) = (each.members for each in graph.composites if each.name == cluster)
    return found


def test_every_version_named_anywhere_has_a_leaf() -> None:
    """Registered or only wanted: no cluster that is pointed at is ever missing."""
    graph = build([ONE], [Route("n", 1, (Target("1", 10_000, fallback=("3",)),))])
    assert [leaf.name for leaf in graph.leaves] == ["n@1", "n@3"]
    leaves = {leaf.name for leaf in graph.leaves}
    assert all(set(each.members) <= leaves for each in graph.composites)


def test_a_chain_repeats_each_version_as_often_as_its_own_target_says() -> None:
    """And a version that is no target is tried once."""
    route = Route("n", 1, (Target("1", 10_000, ("2", "3"), tries=2), Target("2", 0, tries=3)))
    graph = build([ONE, TWO], [route])
    (share,) = graph.nodes[0].shares
    for lane in Lane:
        assert _members(graph, share.cluster(lane)) == ("n@1", "n@1", "n@2", "n@2", "n@2", "n@3")


def test_a_chain_with_repetitions_has_one_without() -> None:
    """In the same order. A version alone stands as often as a call may ask for; its policy says how often."""
    targets = (Target("1", 6000, ("2", "3"), tries=2), Target("2", 3000, tries=3), Target("3", 1000))
    route = Route("n", 1, targets)
    graph = build([ONE, TWO], [route])
    long, alone, plain = graph.nodes[0].shares
    retries = {each.name: each.retries for each in graph.composites}
    for lane in Lane:
        assert _members(graph, long.thin(lane)) == ("n@1", "n@2", "n@3")
        assert (retries[long.thin(lane)], retries[long.cluster(lane)]) == (2, 5)
        assert _members(graph, alone.thin(lane)) == _members(graph, alone.cluster(lane)) == ("n@2",) * 5
        assert (retries[alone.thin(lane)], retries[alone.cluster(lane)]) == (0, 2)
        assert plain.thin(lane) == plain.cluster(lane)


def test_shares_keep_the_order_of_the_route_and_leave_out_no_weight() -> None:
    """Order is meaning: it decides which draws belong to whom."""
    route = Route("n", 7, (Target("2", 3000), Target("3", 0), Target("1", 7000)))
    (node,) = build([ONE, TWO], [route]).nodes
    assert [(each.version, each.weight) for each in node.shares] == [("2", 3000), ("1", 7000)]
    assert node.revision == 7


def test_equal_chains_share_a_composite_and_the_lanes_do_not() -> None:
    """A pin on a version and its whole share lead to the same cluster, one per lane."""
    (node,) = build([ONE], [Route("n", 1, (Target("1", 10_000),))]).nodes
    (share,), (pin,) = node.shares, node.pins
    assert {share.cluster(lane) for lane in Lane} == {pin.cluster(lane) for lane in Lane}
    assert pin.broad != pin.safe


def test_another_chain_is_another_cluster() -> None:
    """So what is in use is never changed, it is left behind."""
    before = build([ONE, TWO], [Route("n", 1, (Target("1", 10_000),))])
    after = build([ONE, TWO], [Route("n", 2, (Target("1", 10_000, ("2",)),))])
    assert before.nodes[0].shares[0].safe != after.nodes[0].shares[0].safe


def test_a_node_without_a_route_is_reached_by_pin_only() -> None:
    """Between its registration and its first route."""
    (node,) = build([ONE], []).nodes
    assert (node.shares, [pin.version for pin in node.pins]) == ((), ["1"])


def test_the_order_of_what_comes_in_does_not_matter() -> None:
    """Equal input gives an equal graph, and so nothing to push."""
    routes = [Route("n", 1, (Target("1", 10_000),)), Route("m", 1, (Target("1", 10_000),))]
    turned = Version("n", "1", ONE.endpoints[::-1])
    assert build([ONE, TWO], routes) == build([TWO, turned], routes[::-1])
