"""Bootstraps: what an Envoy is started with.

The documents are `envoy/edge.yaml` and `envoy/mesh.yaml`: complete bootstraps that Envoy accepts as they are,
written for containers. `render` loads the one that fits and puts addresses, names and the descriptor set's
place in; it decides nothing else, so a document and a running proxy never differ in policy.

In a wheel the documents lie in this package's folder `bootstraps/`; in a checkout they are read where they
are kept, in `envoy/`.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

from reflux.controlplane.envoy import tls
from reflux.runtime.tls import Role

if TYPE_CHECKING:
    from collections.abc import Mapping

Host = tuple[str, int]
"""host, port"""

CLUSTERS: Final = ("all", "edge", "mesh")
"""Values of `node.cluster`: both listeners (an embedded stack), the edge alone, the mesh alone."""

DESCRIPTORS: Final = Path(str(files("reflux.api"))) / "reflux.binpb"
"""The descriptor set of our API: the edge needs it to speak REST."""

_CHECKOUT: Final = Path(__file__).resolve().parents[3] / "envoy"


def render(
    *,
    edge: Host,
    mesh: Host,
    admin: Host,
    upstreams: Mapping[str, Host],
    node_id: str,
    node_cluster: str,
    stats: Host | None = None,
    tls_dir: Path | None = None,
    descriptors: Path | None = None,
) -> dict[str, Any]:
    """Build the bootstrap of one proxy, ready for `json.dumps`.

    >>> document = render(
    ...     edge=("127.0.0.1", 4000),
    ...     mesh=("127.0.0.1", 4001),
    ...     admin=("127.0.0.1", 9901),
    ...     upstreams={"controlplane": ("127.0.0.1", 4102), "registry": ("127.0.0.1", 4101), …},
    ...     node_id="envoy-1",
    ...     node_cluster="all",
    ... )

    Args:
        edge: where the edge listener binds; not used by a `mesh` proxy.
        mesh: where the mesh listener binds once the control plane sends it; not used by an `edge` proxy.
        admin: where the admin interface binds.
        upstreams: addresses of `controlplane`, `orchestrator`, `registry` and `gateway`; a `mesh` proxy needs
            `controlplane` alone. A host may be a name with several addresses.
        node_id: unique among the proxies; acknowledgements name it.
        node_cluster: one of CLUSTERS.
        stats: where the read-only listener for statistics binds; None: there is none, which is right where
            whoever reads them reaches the admin interface.
        tls_dir: folder of the proxy's identity, as the proxy sees it; None: plaintext to everybody.
        descriptors: where the proxy finds a copy of DESCRIPTORS; default: that file itself.

    Raises:
        ValueError: `node_cluster` is not one of CLUSTERS.
        KeyError: an upstream is missing.
    """
    if node_cluster not in CLUSTERS:
        raise ValueError(f"{node_cluster!r} is not one of {', '.join(CLUSTERS)}")
    document = _load("mesh" if node_cluster == "mesh" else "edge")
    document["node"] = {
        "id": node_id,
        "cluster": node_cluster,
        "metadata": {"reflux": {"mesh_address": mesh[0], "mesh_port": mesh[1]}},
    }
    document["admin"]["address"] = _address(admin)
    static = document["static_resources"]
    if stats is None:
        static["listeners"] = [each for each in static["listeners"] if each["name"] != "stats"]
        static["clusters"] = [each for each in static["clusters"] if each["name"] != "admin"]
    if tls_dir is not None:
        _secure(document, tls_dir)
    hosts = {**upstreams, "admin": admin}
    for cluster in static["clusters"]:
        (locality,) = cluster["load_assignment"]["endpoints"]
        locality["lb_endpoints"] = [{"endpoint": {"address": _address(hosts[cluster["name"]])}}]
    for listener in static["listeners"]:
        if listener["name"] == "stats":
            assert stats is not None
            listener["address"] = _address(stats)
        else:
            listener["address"] = _address(edge)
            transcoder(listener)["proto_descriptor"] = str(descriptors or DESCRIPTORS)
    return document


def _secure(document: dict[str, Any], tls_dir: Path) -> None:
    """Let the proxy show its identity to the services, and say to the control plane where it has it."""
    document["node"]["metadata"]["reflux"]["tls_dir"] = str(tls_dir)
    for cluster in document["static_resources"]["clusters"]:
        if cluster["name"] != "admin":
            http2 = cluster["name"] != "gateway"
            cluster["transport_socket"] = tls.upstream(tls_dir, Role(cluster["name"]), http2=http2)


def _load(name: str) -> dict[str, Any]:
    packaged = Path(str(files("reflux.controlplane"))) / "bootstraps" / f"{name}.yaml"
    path = packaged if packaged.exists() else _CHECKOUT / f"{name}.yaml"
    document: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return document


def _address(host: Host) -> dict[str, Any]:
    return {"socket_address": {"address": host[0], "port_value": host[1]}}


def transcoder(listener: dict[str, Any]) -> dict[str, Any]:
    """The transcoder's configuration in the edge listener."""
    (chain,) = listener["filter_chains"]
    manager = chain["filters"][0]["typed_config"]
    (config,) = (
        each["typed_config"]
        for each in manager["http_filters"]
        if each["name"].endswith("grpc_json_transcoder")
    )
    found: dict[str, Any] = config
    return found
