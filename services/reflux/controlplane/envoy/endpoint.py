"""EDS: the live endpoints of a leaf. A leaf without any gets an empty assignment, so that it never hangs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reflux.controlplane.graph import Endpoint, Leaf


def assignment(of: Leaf) -> dict[str, Any]:
    """The assignment of a node version; its metadata is what a reply's x-reflux-answered-by tells."""
    return {
        "cluster_name": of.name,
        "endpoints": [{"lb_endpoints": [_endpoint(each, of.version) for each in of.endpoints]}]
        if of.endpoints
        else [],
    }


def _endpoint(of: Endpoint, version: str) -> dict[str, Any]:
    return {
        "endpoint": {"address": {"socket_address": {"address": of.host, "port_value": of.port}}},
        "metadata": {"filter_metadata": {"reflux": {"version": version}}},
    }
