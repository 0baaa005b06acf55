"""Tracing in what a proxy is sent: there with a collector, and without one nowhere."""

from __future__ import annotations

from typing import Any

import pytest

from reflux.controlplane import snapshot
from reflux.controlplane.envoy import listener, tracing, xds
from reflux.controlplane.graph import build
from reflux.controlplane.snapshot import Proxy
from reflux.runtime.collector import Collector, Endpoint

PLAIN = Collector(Endpoint("collector", 4317, tls=False), (("x-key", "k"),))
PROXY = Proxy("a", ("127.0.0.7", 4001))


def decoded(kind: str, raw: bytes) -> Any:
    return xds.message_class(kind).FromString(raw)


def test_without_a_collector_nothing_of_it_is_sent() -> None:
    """Neither a cluster nor a tracer: Envoy does nothing for it."""
    view = snapshot.build(build([], [])).traced(None).view(PROXY)
    assert view[xds.CLUSTER] == {}
    assert view[xds.LISTENER]["mesh"] == xds.encode(xds.LISTENER, listener.mesh("127.0.0.7", 4001))
    assert b"opentelemetry" not in view[xds.LISTENER]["mesh"]


def test_with_one_the_proxy_gets_its_cluster_and_a_tracer() -> None:
    """Both, or the listener would name a cluster that is not there."""
    view = snapshot.build(build([], [])).traced(PLAIN).view(PROXY)
    cluster = decoded(xds.CLUSTER, view[xds.CLUSTER][tracing.CLUSTER])
    [host] = cluster.load_assignment.endpoints[0].lb_endpoints
    address = host.endpoint.address.socket_address
    assert (address.address, address.port_value) == ("collector", 4317)
    assert b"envoy.tracers.opentelemetry" in view[xds.LISTENER]["mesh"]
    assert b"x-key" in view[xds.LISTENER]["mesh"]


def test_a_key_with_a_percent_sign_is_what_envoy_sends() -> None:
    """It reads values as format strings; a lone % would cost every span of every try."""
    collector = Collector(PLAIN.endpoint, (("authorization", "Basic a%b"),))
    [header] = tracing.manager(collector)["provider"]["typed_config"]["grpc_service"]["initial_metadata"]
    assert header == {"key": "authorization", "value": "Basic a%%b"}


def test_a_collector_can_hold_nothing_up() -> None:
    """Its name need not resolve before everything else is served, and what hangs is bounded."""
    cluster = decoded(xds.CLUSTER, xds.encode(xds.CLUSTER, tracing.cluster(PLAIN)))
    assert cluster.HasField("wait_for_warm_on_init")
    assert cluster.wait_for_warm_on_init.value is False
    [limits] = cluster.circuit_breakers.thresholds
    assert 0 < limits.max_requests.value <= 64
    assert 0 < limits.max_pending_requests.value <= 64


def test_no_node_can_have_the_collectors_name() -> None:
    """Clusters of nodes are `node@version` and `node~lane~digest`."""
    assert not {"@", "~"} & set(tracing.CLUSTER)


@pytest.mark.parametrize(("host", "kind"), [("collector", "DNS"), ("10.0.0.1", "IP_ADDRESS")])
def test_with_tls_the_collector_must_be_who_it_says(host: str, kind: str) -> None:
    """The authorities travel with the configuration, and the name in the certificate counts."""
    secure = Collector(Endpoint(host, 4317, tls=True), (), b"-----PEM-----")
    made = tracing.cluster(secure)
    xds.encode(xds.CLUSTER, made)
    context = made["transport_socket"]["typed_config"]
    validation = context["common_tls_context"]["validation_context"]
    assert validation["trusted_ca"] == {"inline_string": "-----PEM-----"}
    assert validation["match_typed_subject_alt_names"] == [{"san_type": kind, "matcher": {"exact": host}}]
    assert ("sni" in context) is (kind == "DNS")
