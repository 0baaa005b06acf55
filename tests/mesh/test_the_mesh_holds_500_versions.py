"""500 node versions: all of them can be called, and a change of one is told as that change alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reflux.controlplane import graph, snapshot
from reflux.controlplane.graph import Version
from reflux.controlplane.routes import Route, Target

if TYPE_CHECKING:
    from tests.mesh.support.mesh import Mesh

NODES = 125
VERSIONS = tuple(f"{major}.0.0" for major in range(1, 5))


async def test_every_one_of_them_is_reached_and_one_change_moves_one_node(mesh: Mesh) -> None:
    """Each node has four versions and a route with fallbacks; the endpoints are four real servers."""
    for version in VERSIONS:
        await mesh.node(version)
    names = [f"scale.n{number}" for number in range(NODES)]
    versions = [Version(name, node.version, (node.endpoint,)) for name in names for node in mesh.nodes]
    even = tuple(Target(each, 2_500, fallback=tuple(v for v in VERSIONS if v != each)) for each in VERSIONS)
    routes = {name: Route(name, 1, even) for name in names}
    mesh.fleet.publish(snapshot.build(graph.build(versions, routes.values())))
    await mesh.settled(90)
    for name in names:
        for version in VERSIONS:
            assert (await mesh.call(node=name, version=version)).answer == version

    before = mesh.fleet.snapshot
    moved = names[NODES // 2]
    targets = (Target("4.0.0", 10_000), *(Target(each, 0) for each in VERSIONS[:3]))
    routes[moved] = Route(moved, 2, targets)
    mesh.fleet.publish(snapshot.build(graph.build(versions, routes.values())))
    await mesh.settled(90)
    assert before is not None
    assert mesh.fleet.snapshot is not None
    kept = {name for name in before.clusters if not name.startswith(f"{moved}~")}
    assert kept <= mesh.fleet.snapshot.clusters.keys()
    assert (await mesh.call(node=moved, draw=0)).answer == "4.0.0"
    assert (await mesh.call(node=names[0], draw=0)).answer == "1.0.0"
