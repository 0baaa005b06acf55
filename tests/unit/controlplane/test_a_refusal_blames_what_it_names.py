"""Of clusters Envoy names those it does not take, and only routes that have one of them are to blame."""

from reflux.controlplane.controller import blamed
from reflux.controlplane.envoy import xds
from reflux.controlplane.subscription import Refusal

PENDING = {"http.request": 3, "http.req": 4, "ai.chat": 5}


def test_a_cluster_of_a_route_is_its_fault_and_nobody_elses():
    """By the name of a chain or of a version; a node whose name begins alike is another one."""
    words = "Error adding/updating cluster(s) http.request~broad~12dedaa63d3c: bad"
    assert blamed(Refusal(xds.CLUSTER, words), PENDING) == {"http.request": 3}
    assert blamed(Refusal(xds.CLUSTER, "cluster(s) ai.chat@openai: bad"), PENDING) == {"ai.chat": 5}


def test_a_cluster_of_no_route_is_no_routes_fault():
    """The collector's, for one: no route is taken back for it."""
    words = "Error adding/updating cluster(s) otel: Failed to load trusted CA certificates"
    assert blamed(Refusal(xds.CLUSTER, words), PENDING) == {}


def test_a_refused_route_configuration_may_be_anybodys_fault():
    """Envoy refuses it whole, and mostly does not say for which route."""
    assert blamed(Refusal(xds.ROUTE, "Sum of weights"), PENDING) == PENDING
