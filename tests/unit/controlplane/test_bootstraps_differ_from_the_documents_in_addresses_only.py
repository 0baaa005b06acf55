"""`envoy/*.yaml` is what operators read, `render` is what `reflux up` starts. They are one policy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from reflux.controlplane import bootstrap
from reflux.controlplane.envoy.vanishing import NOTICED

FOLDER = Path(__file__).parents[3] / "envoy"
UPSTREAMS = {
    "controlplane": ("10.0.0.1", 1),
    "orchestrator": ("orchestrators", 2),
    "registry": ("10.0.0.3", 3),
    "gateway": ("10.0.0.4", 4),
}
ADMIN = {"admin": ("127.0.0.1", 9901)}


def _render(cluster: str, stats: tuple[str, int] | None = ("127.0.0.3", 9902)) -> dict[str, Any]:
    return bootstrap.render(
        edge=("127.0.0.1", 4000),
        mesh=("127.0.0.2", 4001),
        admin=("127.0.0.1", 9901),
        upstreams=UPSTREAMS,
        node_id="me",
        node_cluster=cluster,
        stats=stats,
    )


def _without_places(value: Any) -> Any:
    """A document without addresses, node and file names: its policy."""
    if isinstance(value, dict):
        places = {"socket_address", "node", "proto_descriptor"}
        return {key: _without_places(each) for key, each in value.items() if key not in places}
    return [_without_places(each) for each in value] if isinstance(value, list) else value


@pytest.mark.parametrize(("cluster", "name"), [("all", "edge"), ("edge", "edge"), ("mesh", "mesh")])
def test_only_places_differ(cluster: str, name: str) -> None:
    """Policy comes from the document alone."""
    document = yaml.safe_load((FOLDER / f"{name}.yaml").read_text())
    assert _without_places(_render(cluster)) == _without_places(document)


def test_places_are_put_in() -> None:
    """Addresses by name, the proxy's own name, and where its mesh listener shall bind."""
    document = _render("all")
    assert document["node"] == {
        "id": "me",
        "cluster": "all",
        "metadata": {"reflux": {"mesh_address": "127.0.0.2", "mesh_port": 4001}},
    }
    listener = document["static_resources"]["listeners"][0]
    assert listener["address"] == {"socket_address": {"address": "127.0.0.1", "port_value": 4000}}
    for cluster in document["static_resources"]["clusters"]:
        (endpoint,) = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"]
        place = endpoint["endpoint"]["address"]["socket_address"]
        assert (place["address"], place["port_value"]) == (UPSTREAMS | ADMIN)[cluster["name"]]
    transcoder = bootstrap.transcoder(listener)
    assert Path(transcoder["proto_descriptor"]).is_file()


def test_a_mesh_proxy_has_no_door_to_the_outside() -> None:
    """No listener of its own but the one for statistics, and nothing upstream but the control plane."""
    static = _render("mesh")["static_resources"]
    assert [each["name"] for each in static["clusters"]] == ["controlplane", "admin"]
    (listener,) = static["listeners"]
    assert listener["name"] == "stats"
    assert listener["address"] == {"socket_address": {"address": "127.0.0.3", "port_value": 9902}}


@pytest.mark.parametrize("cluster", bootstrap.CLUSTERS)
def test_statistics_have_no_listener_where_nobody_asked_for_one(cluster: str) -> None:
    """Where the admin interface is in reach, as in an embedded stack, no second port leads to it."""
    static = _render(cluster, stats=None)["static_resources"]
    assert "stats" not in [each["name"] for each in static["listeners"]]
    assert "admin" not in [each["name"] for each in static["clusters"]]


def test_another_kind_of_proxy_is_refused() -> None:
    """With the names there are."""
    with pytest.raises(ValueError, match="all, edge, mesh"):
        _render("ingress")


@pytest.mark.parametrize("name", ["edge", "mesh"])
def test_a_machine_that_vanished_is_noticed_everywhere_alike(name: str) -> None:
    """Every cluster of another machine says what the clusters of node versions say."""
    document = yaml.safe_load((FOLDER / f"{name}.yaml").read_text())
    others = [each for each in document["static_resources"]["clusters"] if each["name"] != "admin"]
    assert others
    for cluster in others:
        assert {key: cluster[key] for key in NOTICED} == NOTICED, cluster["name"]
