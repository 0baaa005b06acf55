"""What `reflux up` will start, in which order, and what it tells its children."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from reflux.cli.stack.errors import ListenError
from reflux.cli.stack.folder import DataFolder
from reflux.cli.stack.plan import Plan, make_plan
from reflux.cli.stack.scale import Wanted
from reflux.runtime.settings import Address, Settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FREE = {"edge_port": 0, "admin_port": 0, "mesh_address": "127.0.0.1:0"}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DataFolder]:
    """A data folder that is ours."""
    monkeypatch.chdir(tmp_path)
    folder = DataFolder(tmp_path / "data")
    with folder.held():
        yield folder


def plan(folder: DataFolder, *node_versions: str, insecure: bool = False, **flags: object) -> Plan:
    """The plan for some settings; ports are free ones."""
    settings = Settings.load(**(FREE | flags))
    return make_plan(settings, folder, node_versions=node_versions, insecure_listen=insecure)


def test_the_order_of_the_start_is_the_drain_backwards(folder: DataFolder) -> None:
    """Backwards: orchestrator, nodes, proxy, platform, stores. Migrations run before any service."""
    assert [step.name for step in plan(folder).steps] == [
        "postgres",
        "database",
        "valkey",
        "migrations",
        "platform",
        "envoy",
        "nodes",
        "orchestrator",
        "routes",
    ]


def test_every_node_version_can_have_a_process_of_its_own(folder: DataFolder) -> None:
    """With `--processes` the one process of all nodes is replaced by one each; the rest is the same."""
    names = [step.name for step in plan(folder, "http.request@1.0.0", "http.request@2.0.0").steps]
    assert names[6:] == ["node-http.request@1.0.0", "node-http.request@2.0.0", "orchestrator", "routes"]


def test_stores_that_are_given_are_not_embedded(folder: DataFolder) -> None:
    """Your own PostgreSQL and Redis are used as they were named."""
    given = plan(folder, postgres_dsn="postgresql://u@h/d", redis_url="redis://h")
    assert given.steps[0].name == "migrations"
    assert given.settings.postgres_dsn == "postgresql://u@h/d"
    assert given.settings.redis_url == "redis://h"


def test_children_are_told_decided_ports_and_the_stores(folder: DataFolder) -> None:
    """No 0 is left, no two services share an address, the embedded stores have their passwords."""
    made = plan(folder)
    settings = made.settings
    addresses = {
        settings.mesh_address,
        settings.registry_address,
        settings.controlplane_address,
        settings.orchestrator_address,
        settings.gateway_address,
    }
    assert len(addresses) == 5
    assert all(
        port > 0 for port in (settings.edge_port, settings.admin_port, *(port for _, port in addresses))
    )
    assert f"@127.0.0.1:{made.ports['postgres']}/reflux" in settings.postgres_dsn
    assert f"@127.0.0.1:{made.ports['valkey']}/" in settings.redis_url
    assert made.urls["edge"] == f"http://127.0.0.1:{settings.edge_port}"


def test_a_second_plan_names_the_same_passwords(folder: DataFolder) -> None:
    """They are made once for the life of the data."""
    first, second = plan(folder), plan(folder)
    password = first.settings.postgres_dsn.split(":")[2].split("@")[0]
    assert password in second.settings.postgres_dsn


def test_an_explicit_flag_opens_the_edge_and_only_the_edge(folder: DataFolder) -> None:
    """Mesh and admin stay on loopback."""
    made = plan(folder, insecure=True, listen="0.0.0.0")
    assert made.urls["edge"].startswith("http://0.0.0.0:")
    assert made.settings.mesh_address.host == "127.0.0.1"
    assert made.urls["admin"].startswith("http://127.0.0.1:")


def test_every_process_of_ours_serves_its_metrics_on_a_loopback_port_of_its_own(folder: DataFolder) -> None:
    """The state file names them, and Envoy's; the control plane is told where Envoy's statistics are."""
    made = plan(folder, "http.request@1.0.0", "http.request@2.0.0")
    urls = {
        name.removeprefix("metrics."): url for name, url in made.urls.items() if name.startswith("metrics.")
    }
    nodes = ("node-http.request@1.0.0", "node-http.request@2.0.0")
    assert set(urls) == {"platform", *nodes, "orchestrator", "envoy"}
    assert len(set(urls.values())) == 5
    for part in ("platform", *nodes, "orchestrator"):
        assert urls[part] == f"http://127.0.0.1:{made.ports[f'metrics.{part}']}/metrics"
    assert urls["envoy"] == f"{made.urls['admin']}/stats/prometheus"
    assert made.settings.proxy_stats_addresses == (("127.0.0.1", made.settings.admin_port),)
    assert "metrics.nodes" in plan(folder).urls


def test_metrics_leave_loopback_only_with_consent(folder: DataFolder) -> None:
    """They are read without authentication, like everything else."""
    with pytest.raises(ListenError, match=r"metrics_address 0\.0\.0\.0 is not loopback.*--insecure-listen"):
        plan(folder, metrics_address="0.0.0.0:0")
    made = plan(folder, insecure=True, metrics_address="0.0.0.0:0")
    assert made.urls["metrics.orchestrator"].startswith("http://0.0.0.0:")
    assert made.urls["admin"].startswith("http://127.0.0.1:")


def test_one_port_for_the_metrics_of_all_processes_is_refused(folder: DataFolder) -> None:
    """Instead of being given to whoever starts first."""
    with pytest.raises(ListenError, match=r"give 127\.0\.0\.1:0, and find the ports in run/stack\.json"):
        plan(folder, metrics_address="127.0.0.1:9464")


def test_only_nodes_are_told_what_to_advertise(folder: DataFolder) -> None:
    """The orchestrator binds its own address, and claims must find it there."""
    made = plan(folder, advertise="10.9.8.7:0")
    told = {
        step.name: step.start.__self__.settings.advertise
        for step in made.steps
        if step.name in ("nodes", "orchestrator")
    }
    assert told == {"nodes": Address("10.9.8.7", 0), "orchestrator": None}


def test_a_stack_is_not_told_what_is_for_single_services(folder: DataFolder) -> None:
    """`bind` would open every service of the stack past `--insecure-listen`."""
    with pytest.raises(ListenError, match="unset REFLUX_BIND"):
        plan(folder, insecure=True, bind="0.0.0.0")


def test_a_stack_has_no_certificates(folder: DataFolder) -> None:
    """Everything in it is on loopback; a setting that would not be heeded is refused."""
    with pytest.raises(ListenError, match="unset REFLUX_TLS_DIR"):
        plan(folder, tls_dir="/srv/tls")


def test_a_stack_has_one_proxy(folder: DataFolder) -> None:
    """Orchestrators of a stack call that one; others that they would not call are refused."""
    with pytest.raises(ListenError, match="unset REFLUX_MESH_ADDRESSES"):
        plan(folder, mesh_addresses="10.0.0.5:4001")


def test_a_version_starts_with_as_many_processes_as_it_was_scaled_to(folder: DataFolder) -> None:
    """Each has a part, a log and metrics of its own; the first has those it has without being scaled."""
    Wanted.of(folder.root, "http.request@1.0.0").write(3)
    made = plan(folder, "http.request@1.0.0", "http.request@2.0.0")
    (step,) = (each for each in made.steps if each.name == "node-http.request@1.0.0")
    assert step.wanted() == 3
    parts = [step.part(number) for number in (1, 2, 3)]
    assert [part.name for part in parts] == [f"node-http.request@1.0.0{end}" for end in ("", "~2", "~3")]
    assert len({part.metrics for part in parts}) == 3
    assert parts[0].metrics == made.urls["metrics.node-http.request@1.0.0"]
