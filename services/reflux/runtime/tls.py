"""Who is who between services: mutual TLS, with a certificate that names a role and not a place.

Theory. `reflux certs` makes an authority and an identity for each role, each in a folder of its own:

    identity.pem    private key, then certificate; replaced in one step
    authority.pem   whose certificates are believed

`tls_dir` of a process is such a folder; without it everything is plaintext, which is for loopback only. A
certificate says `ROLE.reflux.internal` as a DNS name, whatever the address: addresses change with every
container, and whoever asks knows which role it wants there, so it checks that name. Both ends show a
certificate, and both check:

- who calls: the chain, the dates, and that the name is that of the role it wants to talk to;
- who is called: the chain, the dates, and that the role may call that service at all (`CALLERS`): a node may
  claim an effect, it may not start runs.

Files are looked at again for every handshake on the server's side, and every `LOOK_SECONDS` on the client's,
where a changed file means a new connection while calls on the former one finish. So certificates are replaced
without a restart.

Nothing here makes or judges certificates: gRPC and OpenSSL do the checking.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, Self, cast

import grpc

from reflux.core.errors import Unauthenticated
from reflux.core.reasons import Reason
from reflux.runtime import logs

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping
    from pathlib import Path

    from reflux.runtime.settings import Settings

DOMAIN: Final = "reflux.internal"
IDENTITY: Final = "identity.pem"
AUTHORITY: Final = "authority.pem"
ENVOY_CERTIFICATE: Final = "envoy-certificate.json"
"""What Envoy reads its certificate from, in the folders of the proxies: PEM in it, so it changes whole."""
ENVOY_AUTHORITY: Final = "envoy-authority.json"
ENVOY_API: Final = "envoy.extensions.transport_sockets.tls.v3"
LOOK_SECONDS: Final = 5.0

_CERTIFICATE: Final = "-----BEGIN CERTIFICATE-----"
_SAN: Final = "x509_subject_alternative_name"

log = logs.get_logger("tls")


class Role(StrEnum):
    """What a process is to the others."""

    REGISTRY = "registry"
    CONTROLPLANE = "controlplane"
    ORCHESTRATOR = "orchestrator"
    GATEWAY = "gateway"
    NODE = "node"
    MESH = "mesh"
    EDGE = "edge"

    @property
    def name_in_certificates(self) -> str:
        """The DNS name of a certificate of this role."""
        return f"{self}.{DOMAIN}"


_PUBLIC: Final = frozenset({Role.EDGE, Role.GATEWAY})
CALLERS: Final[Mapping[str, frozenset[Role]]] = {
    "envoy.service.accesslog.v3.AccessLogService": frozenset({Role.MESH, Role.EDGE}),
    "envoy.service.discovery.v3.AggregatedDiscoveryService": frozenset({Role.MESH, Role.EDGE}),
    "reflux.api.effect.v1.EffectService": frozenset({Role.NODE}),
    "reflux.api.flow.v1.ContractService": _PUBLIC | {Role.CONTROLPLANE},
    "reflux.api.flow.v1.FlowService": _PUBLIC,
    "reflux.api.node.v1.NodeService": frozenset({Role.MESH}),
    "reflux.api.operation.v1.OperationService": _PUBLIC,
    "reflux.api.registry.v1.EndpointService": frozenset({Role.NODE, Role.CONTROLPLANE, Role.ORCHESTRATOR}),
    "reflux.api.registry.v1.RegistryService": _PUBLIC | {Role.ORCHESTRATOR},
    "reflux.api.routing.v1.RoutingService": _PUBLIC | {Role.ORCHESTRATOR},
    "reflux.api.routing.v1.TryService": frozenset({Role.ORCHESTRATOR}),
    "reflux.api.run.v1.RunService": _PUBLIC,
    "reflux.api.shadow.v1.ShadowService": _PUBLIC | {Role.NODE},
    "reflux.api.trigger.v1.TriggerService": _PUBLIC,
}
"""Who may call a service. One that is not here may be called by nobody."""
ANYBODY: Final = frozenset(
    {
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
    }
)
"""Services that everybody with a certificate may call."""


class TlsError(Exception):
    """A file of an identity is missing or is not what it should be; the message names it."""


@dataclass(frozen=True, slots=True)
class Material:
    """What is shown and believed, as PEM."""

    key: bytes
    chain: bytes
    authorities: bytes


@dataclass(frozen=True, slots=True)
class Identity:
    """The folder of one identity."""

    folder: Path

    @classmethod
    def of(cls, settings: Settings) -> Self | None:
        """That of this process; None: it speaks plaintext.

        Raises:
            TlsError: `tls_dir` does not hold one.
        """
        if settings.tls_dir is None:
            return None
        identity = cls(settings.tls_dir.absolute())
        identity.read()
        return identity

    @property
    def stamp(self) -> tuple[int, ...]:
        """Another one means other files.

        Raises:
            OSError: one is missing.
        """
        found = [(self.folder / name).stat() for name in (IDENTITY, AUTHORITY)]
        return tuple(value for each in found for value in (each.st_ino, each.st_mtime_ns, each.st_size))

    def read(self) -> Material:
        """The files as they are now.

        Raises:
            TlsError: see there.
        """
        try:
            identity = (self.folder / IDENTITY).read_text(encoding="ascii")
            authorities = (self.folder / AUTHORITY).read_bytes()
        except (OSError, ValueError) as error:
            raise TlsError(f"tls_dir: {error}; `reflux certs make` writes such folders") from None
        key, marker, chain = identity.partition(_CERTIFICATE)
        if "PRIVATE KEY" not in key or not marker or _CERTIFICATE.encode() not in authorities:
            raise TlsError(
                f"tls_dir: {self.folder} does not hold a key, its certificate and an authority as PEM; "
                "`reflux certs make` writes such folders"
            )
        return Material(key.encode(), (marker + chain).encode(), authorities)

    def server_credentials(self) -> grpc.ServerCredentials:
        """Of a gRPC server: who has no certificate of the authority gets no connection.

        Raises:
            TlsError: see there.
        """
        seen: list[tuple[int, ...]] = [self.stamp]

        def fetch() -> grpc.ServerCertificateConfiguration | None:
            """Called for every handshake; None: as before."""
            try:
                if (stamp := self.stamp) == seen[0]:
                    return None
                made = _configuration(self.read())
            except (OSError, TlsError) as error:
                log.warning("identity_unreadable", error=str(error))
                return None
            seen[0] = stamp
            log.info("identity_replaced", folder=str(self.folder))
            return made

        return grpc.dynamic_ssl_server_credentials(
            _configuration(self.read()),
            cast("Any", fetch),  # None is in gRPC's contract and not in its types
            require_client_authentication=True,
        )

    def channel_credentials(self) -> grpc.ChannelCredentials:
        """Of a gRPC client, with the files as they are now.

        Raises:
            TlsError: see there.
        """
        material = self.read()
        return grpc.ssl_channel_credentials(material.authorities, material.key, material.chain)

    def renew(self, context: ssl.SSLContext) -> None:
        """Take the files as they are now; connections that are open stay as they are."""
        context.load_cert_chain(self.folder / IDENTITY)
        context.load_verify_locations(self.folder / AUTHORITY)


def target_options(role: Role) -> tuple[tuple[str, str], ...]:
    """Options of a channel to `role`: its name is checked, and not the address."""
    return (("grpc.ssl_target_name_override", role.name_in_certificates),)


def roles(names: list[bytes] | tuple[bytes, ...]) -> frozenset[Role]:
    """The roles that a certificate's names say."""
    by_name = {role.name_in_certificates: role for role in Role}
    return frozenset(by_name[text] for name in names if (text := name.decode(errors="replace")) in by_name)


def admit(method: str, context: Any) -> None:
    """Let a call in, or not. The connection has shown a certificate that the authority signed.

    Args:
        method: `/package.Service/Method`.
        context: of the call.

    Raises:
        Unauthenticated: CALLER_REFUSED.
    """
    service = method.split("/")[1]
    if service in ANYBODY:
        return
    names = context.auth_context().get(_SAN, [])
    if not roles(names) & CALLERS.get(service, frozenset()):
        shown = ", ".join(name.decode(errors="replace") for name in names) or "no name"
        log.warning("caller_refused", method=method, names=shown)
        raise Unauthenticated(Reason.CALLER_REFUSED, f"a certificate of {shown} may not call {service}")


def _configuration(material: Material) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration(
        [(material.key, material.chain)], root_certificates=material.authorities
    )
