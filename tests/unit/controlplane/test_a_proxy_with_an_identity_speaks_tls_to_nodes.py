"""What leads to nodes has a transport socket for a proxy that has an identity."""

from __future__ import annotations

from typing import Any

import pytest

from reflux.controlplane import graph, snapshot
from reflux.controlplane.envoy import xds
from reflux.controlplane.graph import Endpoint, Version
from reflux.controlplane.routes import Route, Target
from reflux.controlplane.snapshot import Proxy, Snapshot

VERSIONS = [Version("a.b", number, (Endpoint("10.0.0.1", 1),)) for number in ("1.0.0", "2.0.0")]
ROUTE = Route("a.b", 1, (Target("1.0.0", 10_000, fallback=("2.0.0",)), Target("2.0.0", 0, shadow=500)))


def built(*, allow_faults: bool) -> Snapshot:
    return snapshot.build(graph.build(VERSIONS, [ROUTE]), allow_faults=allow_faults)


def messages(of: Snapshot, proxy: Proxy, kind: str) -> dict[str, Any]:
    made = xds.message_class(kind)
    return {name: made.FromString(raw) for name, raw in of.view(proxy)[kind].items()}


@pytest.mark.parametrize("allow_faults", [False, True])
def test_every_cluster_with_endpoints_of_nodes_has_one(*, allow_faults: bool) -> None:
    """Those of copies, and those on which replies are lost; chains and twins lead to other clusters."""
    secured = messages(built(allow_faults=allow_faults), Proxy("p", ("0.0.0.0", 1), "/srv/tls"), xds.CLUSTER)
    to_nodes = {
        name for name, each in secured.items() if each.type == each.EDS and not each.cluster_type.name
    }
    assert len(to_nodes) == (5 if allow_faults else 3)
    assert {name for name, each in secured.items() if each.HasField("transport_socket")} == to_nodes


def test_the_rest_of_a_cluster_is_as_it_is_without() -> None:
    """The same clusters, one field more."""
    of = built(allow_faults=True)
    plain = messages(of, Proxy("p", ("0.0.0.0", 1)), xds.CLUSTER)
    secured = messages(of, Proxy("p", ("0.0.0.0", 1), "/srv/tls"), xds.CLUSTER)
    for each in secured.values():
        each.ClearField("transport_socket")
    assert secured == plain


def test_only_the_mesh_listener_asks_for_a_certificate() -> None:
    """That of faults has no port."""
    of = built(allow_faults=True)
    for tls_dir in (None, "/srv/tls"):
        listeners = messages(of, Proxy("p", ("0.0.0.0", 1), tls_dir), xds.LISTENER)
        asking = {
            name
            for name, each in listeners.items()
            if any(chain.HasField("transport_socket") for chain in each.filter_chains)
        }
        assert asking == ({"mesh"} if tls_dir else set())
