"""The way from an orchestrator to the mesh proxies, of which there may be several.

They are told as one name with several addresses (`mesh_address`) or, where no name means them all, as a list
of IP addresses (`mesh_addresses`). Which of them gets a call is gRPC's own business, by its own means:

- `round_robin`: a connection to each, calls by turns over those that are connected. So both are known to work
  before one is needed alone, and one that dies takes its share of the calls in flight and not all of them;
- a proxy whose connection breaks gets no call from then on, and is tried again after 0.1 s to 2 s;
- a machine that vanished breaks no connection. What is sent and not acknowledged within `NOTICED_SECONDS`
  does, and where nothing comes for `SILENT_SECONDS` the proxy is asked, with the same time for its answer.
  Unlike gRPC servers, Envoy minds no pings.

A call that was in flight over a broken connection says nothing of what became of it. Its attempt is not
counted, and goes out again as its effect class and its claim allow.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from reflux.runtime import rpc
from reflux.runtime.tls import Identity, Role

if TYPE_CHECKING:
    import grpc

    from reflux.runtime.settings import Address, Settings

SILENT_SECONDS: Final = 5
NOTICED_SECONDS: Final = 10
"""As long as a lease: who stands still for less, with all that it does, must lose no call by that."""

_OPTIONS: Final = (
    ("grpc.service_config", json.dumps({"loadBalancingConfig": [{"round_robin": {}}]})),
    ("grpc.keepalive_time_ms", SILENT_SECONDS * 1_000),
    ("grpc.keepalive_timeout_ms", NOTICED_SECONDS * 1_000),  # gRPC's TCP_USER_TIMEOUT as well
    ("grpc.http2.max_pings_without_data", 0),  # no bound: else the third one waits for a minute
)


def addresses(settings: Settings) -> tuple[Address, ...]:
    """Where the proxies are found, at least one."""
    return settings.mesh_addresses or (settings.mesh_address,)


def channel(settings: Settings) -> grpc.aio.Channel:
    """A lazy channel to all of them, for the orchestrator; closed by the caller.

    Raises:
        TlsError: `tls_dir` does not hold an identity.
    """
    return rpc.channel(_target(addresses(settings)), Role.MESH, Identity.of(settings), _OPTIONS)


def _target(proxies: tuple[Address, ...]) -> str:
    """What gRPC takes: one address of any kind, or several of one family, which the settings see to."""
    if len(proxies) == 1:
        return str(proxies[0])
    family = "ipv6" if ":" in proxies[0].host else "ipv4"
    return f"{family}:{','.join(map(str, proxies))}"
