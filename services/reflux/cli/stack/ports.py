"""Ports: taken ones are named before anything starts, free ones are chosen to stay free.

The kernel hands out ports for outgoing connections from 32768 upwards. A part that listens there may find
its port taken by somebody's connection when it is started again; so free ports are chosen below.
"""

from __future__ import annotations

import errno
import random
import socket
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Final

from reflux.cli.stack.errors import PortError

if TYPE_CHECKING:
    from collections.abc import Mapping


_CANDIDATES: Final = range(10_000, 32_768)
_TRIES: Final = 100


def free_ports(count: int, host: str = "127.0.0.1") -> list[int]:
    """`count` different free ports of `host`. Free now: what listens soon, gets them."""
    with ExitStack() as stack:
        listeners = [stack.enter_context(_free_listener(host)) for _ in range(count)]
        return [listener.getsockname()[1] for listener in listeners]


def claim(wanted: Mapping[str, tuple[str, int]]) -> dict[str, int]:
    """The port for each option, such as `{"--port": ("127.0.0.1", 4000)}`; 0 becomes a free port.

    Raises:
        PortError: a port is taken or not ours to take, or two options want the same one.
    """
    claimed: dict[str, int] = {}
    with ExitStack() as stack:
        for option, (host, port) in sorted(wanted.items(), key=lambda item: item[1][1] == 0):
            try:
                listener = stack.enter_context(_listener(host, port) if port else _free_listener(host))
            except OSError as error:
                raise PortError(_explain(option, host, port, error, claimed)) from None
            claimed[option] = listener.getsockname()[1]
    return claimed


def _free_listener(host: str) -> socket.socket:
    for port in random.sample(_CANDIDATES, _TRIES):
        with suppress(OSError):
            return _listener(host, port)
    return _listener(host, 0)


def _listener(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, kind, protocol)
    # Ports in TIME_WAIT are free; listening ones are not. Envoy would share a port with another Envoy.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
        listener.listen(1)
    except OSError:
        listener.close()
        raise
    return listener


def _explain(option: str, host: str, port: int, error: OSError, claimed: Mapping[str, int]) -> str:
    other = next((name for name, taken in claimed.items() if taken == port), None)
    if error.errno == errno.EADDRINUSE and other:
        return (
            f"{option} and {other} both want port {port}: give one of them another port, or 0 for a free one"
        )
    if error.errno == errno.EADDRINUSE:
        return (
            f"port {port} ({option}) is taken: choose another with {option} N, or {option} 0 for a free one"
        )
    return f"cannot listen on {host} port {port} ({option}): {error.strerror}"
