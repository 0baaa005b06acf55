"""The transport sockets of mutual TLS: what Envoy shows, whom it believes, and whom it wants there.

Certificate and authority are secrets that Envoy reads from two files in the folder of the proxy's identity
(`reflux certs` writes them), each replaced in one step: Envoy sees the rename and uses the new one for the
handshakes that follow. The control plane sends the path and never a key. `reflux.runtime.tls` has the theory.

Source: Envoy, "Secret discovery service", `UpstreamTlsContext`, `CertificateValidationContext`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from reflux.controlplane.envoy.xds import typed
from reflux.runtime.tls import ENVOY_API, ENVOY_AUTHORITY, ENVOY_CERTIFICATE

if TYPE_CHECKING:
    from pathlib import Path

    from reflux.runtime.tls import Role

CERTIFICATE_NAME: Final = "certificate"
AUTHORITY_NAME: Final = "authority"

_SOCKET: Final = "envoy.transport_sockets.tls"


def upstream(folder: Path | str, role: Role, *, http2: bool = True) -> dict[str, Any]:
    """`transport_socket` of a cluster whose endpoints have this role."""
    return _socket(
        "UpstreamTlsContext",
        {
            "sni": role.name_in_certificates,
            "common_tls_context": _common(folder, role, ["h2"] if http2 else ["http/1.1"]),
        },
    )


def downstream(folder: Path | str, role: Role) -> dict[str, Any]:
    """`transport_socket` of a listener that only this role may call."""
    return _socket(
        "DownstreamTlsContext",
        {"require_client_certificate": True, "common_tls_context": _common(folder, role, ["h2"])},
    )


def _socket(kind: str, content: dict[str, Any]) -> dict[str, Any]:
    return {"name": _SOCKET, "typed_config": typed(f"{ENVOY_API}.{kind}", content)}


def _common(folder: Path | str, role: Role, protocols: list[str]) -> dict[str, Any]:
    names = [{"san_type": "DNS", "matcher": {"exact": role.name_in_certificates}}]
    return {
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
        "alpn_protocols": protocols,
        "tls_certificate_sds_secret_configs": [_secret(folder, CERTIFICATE_NAME, ENVOY_CERTIFICATE)],
        "combined_validation_context": {
            "default_validation_context": {"match_typed_subject_alt_names": names},
            "validation_context_sds_secret_config": _secret(folder, AUTHORITY_NAME, ENVOY_AUTHORITY),
        },
    }


def _secret(folder: Path | str, name: str, file: str) -> dict[str, Any]:
    source = {"path_config_source": {"path": f"{folder}/{file}"}, "resource_api_version": "V3"}
    return {"name": name, "sds_config": source}
