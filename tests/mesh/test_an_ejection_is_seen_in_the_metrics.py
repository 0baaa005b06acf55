"""Who is ejected is Envoy's own word, and the control plane passes it on."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from prometheus_client.parser import text_string_to_metric_families

from reflux.controlplane import ejections, metrics
from reflux.controlplane.ejections import ProxyWatch
from reflux.controlplane.routes import Target
from reflux.runtime.settings import Address
from tests.mesh.support.mesh import NODE
from tests.mesh.support.node import node_fault, work

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.mesh.support.mesh import Mesh


async def _until(watch: ProxyWatch, holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not holds():
            await watch.look()
            await asyncio.sleep(0.02)


async def test_an_ejected_version_is_active_until_it_is_back(mesh: Mesh) -> None:
    """Active rises for that version alone and falls again when it is let back in; the total stays."""
    settings = "outlier_detection.base_ejection_time_ms=500&outlier_detection.max_ejection_time_ms=500"
    await mesh.proxy.admin_post(f"/runtime_modify?{settings}")
    ill = await mesh.node("1.0.0")
    await mesh.node("2.0.0")
    await mesh.route(Target("1.0.0", 10_000, fallback=("2.0.0",)))
    address = Address("127.0.0.1", mesh.proxy.admin)
    proxy = str(address)
    watch = ProxyWatch(address)

    def active(version: str) -> float | None:
        return metrics.EJECTED.series().get((proxy, NODE, version))

    with watch.shown():
        await _until(watch, lambda: active("1.0.0") == 0)
        assert metrics.STATS_REACHABLE.series()[(proxy,)] == 1
        ill.behaviour = node_fault()
        for _ in range(5):
            await mesh.call(lane="safe")
        await _until(watch, lambda: active("1.0.0") == 1)
        assert active("2.0.0") == 0
        ill.behaviour = work
        await _until(watch, lambda: active("1.0.0") == 0)
    assert metrics.EJECTIONS.at(proxy, NODE, "1.0.0").value >= 1
    assert metrics.EJECTIONS.at(proxy, NODE, "2.0.0").value == 0


async def test_the_question_asks_for_ejections_alone(mesh: Mesh) -> None:
    """Envoy has thousands of figures; the answer has the two per version that are asked for."""
    await mesh.node("1.0.0")
    await mesh.route(Target("1.0.0", 10_000))
    text = await mesh.proxy.admin_get(ejections.PATH)
    assert ejections.read(text.encode()) == {(NODE, "1.0.0"): (0, 0)}
    assert text.count('"name"') < 10


async def test_a_version_is_one_label_to_prometheus(mesh: Mesh) -> None:
    """Envoy takes stat names apart at dots, which names of nodes and versions have."""
    await mesh.node("1.0.0")
    await mesh.node("2.0.0-rc.1")
    await mesh.route(Target("1.0.0", 10_000, fallback=("2.0.0-rc.1",)))
    await mesh.call()
    text = await mesh.proxy.admin_get("/stats/prometheus")
    clusters = {
        sample.labels["envoy_cluster_name"]: sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "envoy_cluster_upstream_rq_total"
    }
    assert clusters[f"{NODE}@1.0.0"] >= 1
    assert clusters[f"{NODE}@2.0.0-rc.1"] == 0
    assert "controlplane" in clusters
    assert any(name.startswith(f"{NODE}~broad~") for name in clusters)
    assert "payment" not in clusters
