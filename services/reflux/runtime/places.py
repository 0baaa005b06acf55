"""Where a service listens, and where others reach the one process of it that this is.

On one machine these are the same: `registry_address` is where the registry binds and where it is found. In
containers they are three things:

| | the registry | one of two orchestrators |
|---|---|---|
| found at (`*_address`) | `registry:4101` | `orchestrator:4103`, a name with an address for each replica |
| listens on (`bind`) | `0.0.0.0:4101` | `0.0.0.0:4103` |
| reached at (`advertise`) | | `172.18.0.7:4103`: this replica alone |

Nobody needs to know its own address in advance: a process that binds all of them has the one that its
connections come from.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from reflux.runtime.settings import Address

if TYPE_CHECKING:
    from reflux.runtime.settings import Settings


def listening(settings: Settings, found: Address) -> Address:
    """Where the service that is found at `found` binds."""
    return found if settings.bind is None else Address(str(settings.bind), found.port)


def reached(settings: Settings, found: Address, *, through: Address) -> Address:
    """Where others reach this very process of the service that is found at `found`.

    First of: what `advertise` says; where it is found, when it binds there; what it binds, when that is one
    address; the local address of its connections to `through`, which must be where the others are.

    Raises:
        OSError: `through` is a name that means nothing, or no way leads there.
    """
    if settings.advertise is not None:
        return Address(settings.advertise.host, settings.advertise.port or found.port)
    if settings.bind is None:
        return found
    if not settings.bind.is_unspecified:
        return Address(str(settings.bind), found.port)
    return Address(_local_address(through), found.port)


def _local_address(peer: Address) -> str:
    """Ask the routing table; a datagram socket that is connected has sent nothing."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(*peer, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.connect(address)
            return str(probe.getsockname()[0])
    except OSError as error:
        raise OSError(
            f"cannot tell where this process is reached: no way leads to {peer} ({error}); set advertise"
        ) from None
