"""How long a proxy takes for a configuration is measured once for each, from when it could know of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from reflux.controlplane import metrics
from reflux.controlplane.envoy import xds
from reflux.controlplane.fleet import Fleet, Link
from reflux.controlplane.snapshot import Proxy, Snapshot
from tests.unit.controlplane.support import FakeEnvoy, view

if TYPE_CHECKING:
    import pytest

TIMES = metrics.ACKNOWLEDGEMENT.at()


def snapshot() -> Snapshot:
    """Another one each time."""
    return Snapshot({}, {}, {})


def take(fleet: Fleet, link: Link, envoy: FakeEnvoy, target: Any) -> None:
    """The stream pushes the newest snapshot as `target`, and the proxy takes all of it."""
    link.snapshot = fleet.snapshot
    link.subscription = envoy.subscription
    envoy.push(target)
    envoy.ask(xds.LISTENER)
    envoy.ask(xds.CLUSTER)
    envoy.ask(xds.ENDPOINT, "ab")
    envoy.ack_all()
    envoy.ask(xds.ROUTE, ["mesh"])
    envoy.ack_all()


def test_each_configuration_is_timed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """However much the proxy says afterwards; a proxy that comes late is timed from its arrival."""
    clock = [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    fleet = Fleet(lambda: None)
    fleet.publish(snapshot())
    clock[0] += 3600
    envoy = FakeEnvoy()
    count, total = TIMES.count, TIMES.total
    with fleet.connected(Proxy("late", ("127.0.0.1", 1))) as link:
        assert fleet.connections() == {(): 1}
        fleet.answered()
        assert TIMES.count == count
        clock[0] += 0.5
        take(fleet, link, envoy, view("ab"))
        for _ in range(3):
            fleet.answered()
        assert (TIMES.count, TIMES.total) == (count + 1, total + 0.5)
        fleet.publish(snapshot())
        clock[0] += 0.25
        fleet.answered()
        assert TIMES.count == count + 1
        take(fleet, link, envoy, view("ab", "other weights"))
        fleet.answered()
        assert (TIMES.count, TIMES.total) == (count + 2, total + 0.75)
    assert fleet.connections() == {(): 0}
