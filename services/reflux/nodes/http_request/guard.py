"""Which addresses a flow may reach: the guard against server-side request forgery.

A flow's author chooses the URL, so it must not become a way into the network REFLUX stands in. Only globally
routable unicast addresses are reached, and the networks of `REFLUX_HTTP_ALLOW`. An address that carries
another one inside (IPv4-mapped, 6to4, Teredo, NAT64) is judged by both.

Names are resolved once, here, by the connector itself: what was checked is what is connected to, so a name
that changes its answer (DNS rebinding) gains nothing. Odd spellings of IPv4 (`2130706433`, `0x7f.1`,
`0177.1`) are judged by what the C library makes of them.
"""

from __future__ import annotations

import asyncio
import socket
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING, Final

from aiohttp.abc import AbstractResolver, ResolveResult

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from concurrent.futures import Executor

    from reflux.runtime.settings import Network

Ip = IPv4Address | IPv6Address

# Special-purpose networks (IANA registries, RFC 6890) that `is_global` does not know in every Python.
_SPECIAL: Final = tuple(
    ip_network(text)
    for text in ("192.0.0.0/24", "192.88.99.0/24", "fec0::/10", "2001::/23", "3fff::/20", "5f00::/16")
)
_NAT64: Final = (IPv6Network("64:ff9b::/96"), IPv6Network("64:ff9b:1::/48"))
_COMPATIBLE: Final = IPv6Network("::/96")


class AddressRefused(Exception):
    """The target's address is not one that may be reached."""


class AddressGuard:
    """Judges addresses.

    >>> AddressGuard([ip_network("10.1.0.0/16")]).allows(ip_address("10.1.2.3"))
    True
    """

    def __init__(self, allowed: Sequence[Network]) -> None:
        self._allowed = tuple(allowed)

    def allows(self, address: Ip) -> bool:
        """Whether `address`, and each one it carries inside, may be reached."""
        return all(self._allowed_itself(each) for each in _with_embedded(address))

    def check_literal(self, host: str) -> None:
        """Judge a host that is written as an address; a name is judged when it is resolved.

        Raises:
            AddressRefused: it may not be reached.
        """
        address = _literal(host)
        if address is not None and not self.allows(address):
            raise AddressRefused(f"{host} is not a public address, and REFLUX_HTTP_ALLOW does not name it")

    def _allowed_itself(self, address: Ip) -> bool:
        if any(address in network for network in self._allowed if network.version == address.version):
            return True
        special = any(address in network for network in _SPECIAL if network.version == address.version)
        return address.is_global and not (special or address.is_multicast or address.is_reserved)


def _literal(host: str) -> Ip | None:
    try:
        return ip_address(host)
    except ValueError:
        pass
    try:
        return IPv4Address(socket.inet_aton(host))
    except (OSError, ValueError):
        return None


def _with_embedded(address: Ip) -> Iterator[Ip]:
    if isinstance(address, IPv4Address):
        yield address
        return
    if address.ipv4_mapped is not None:
        # The kernel connects to the IPv4 address itself; there is no other.
        yield address.ipv4_mapped
        return
    low = IPv4Address(int(address) & 0xFFFFFFFF)
    if any(address in network for network in _NAT64):
        # Whether the prefix itself is global does not matter: a translator stands before the target.
        yield low
        return
    yield address
    if address.sixtofour is not None:
        yield address.sixtofour
    if address.teredo is not None:
        yield from address.teredo
    if address in _COMPATIBLE:
        yield low


class GuardedResolver(AbstractResolver):
    """Resolves with the system's resolver and gives only addresses that may be reached.

    Args:
        guard: judges what is found.
        threads: where lookups wait, one per connection at most. The event loop's own are a handful (uvloop:
            two), and as many names whose servers are silent would hold up everybody else's.

    """

    def __init__(self, guard: AddressGuard, threads: Executor) -> None:
        self._guard = guard
        self._threads = threads

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The addresses of `host` that may be reached.

        Raises:
            AddressRefused: there are addresses, but none may be reached.
            OSError: the name cannot be resolved.
        """
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(
            self._threads, lambda: socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)
        )
        allowed = [
            ResolveResult(
                hostname=host,
                host=str(sockaddr[0]),
                port=port,
                family=kind,
                proto=proto,
                flags=socket.AI_NUMERICHOST,
            )
            for kind, _, proto, _, sockaddr in found
            if self._guard.allows(ip_address(str(sockaddr[0])))
        ]
        if not allowed:
            raise AddressRefused(
                f"{host} resolves to no public address, and REFLUX_HTTP_ALLOW names none of those it has"
            )
        return allowed

    async def close(self) -> None:
        """Nothing is kept."""
