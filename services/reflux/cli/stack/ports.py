"""Ports: taken ones are named before anything starts, free ones are chosen to stay free.

The kernel hands out ports for outgoing connections from 32768 upwards. A part that listens there may find
its port taken by somebody's connection when it is started again; so free ports are chosen below. Between the
choice and the first listener are seconds in which another stack may choose too; so whoever has chosen keeps
the port **held** until its process ends: bound, not listening, and shared with whoever asks to reuse it, as
servers do and this choice does not.
"""

from __future__ import annotations

import errno
import random
import socket
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any, Final

from reflux.cli.stack.errors import PortError

if TYPE_CHECKING:
    from collections.abc import Mapping


_CANDIDATES: Final = range(10_000, 32_768)
_TRIES: Final = 100


_held: Final[list[socket.socket]] = []


def free_ports(count: int, host: str = "127.0.0.1") -> list[int]:
    """`count` different ports of `host`, free for whoever listens there, and held until this process ends."""
    return [_hold_free_one(host) for _ in range(count)]


def claim(wanted: Mapping[str, tuple[str, int]]) -> dict[str, int]:
    """The port for each option, such as `{"--port": ("127.0.0.1", 4000)}`; 0 becomes a free port.

    Raises:
        PortError: a port is taken or not ours to take, or two options want the same one.
    """
    claimed: dict[str, int] = {}
    with ExitStack() as stack:
        for option, (host, port) in sorted(wanted.items(), key=lambda item: item[1][1] == 0):
            try:
                if port:
                    stack.enter_context(_listener(host, port))
                claimed[option] = port or _hold_free_one(host)
            except OSError as error:
                raise PortError(_explain(option, host, port, error, claimed)) from None
    return claimed


def _hold_free_one(host: str) -> int:
    for port in random.sample(_CANDIDATES, _TRIES):
        with suppress(OSError):
            return _hold(host, port)
    return _hold(host, 0)


def _hold(host: str, port: int) -> int:
    with ExitStack() as undo:
        holder, address = _socket(host, port)
        undo.enter_context(holder)
        holder.bind(address)
        # Only now: whoever else chooses is refused the port, whoever listens is not.
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        undo.pop_all()
    _held.append(holder)
    return int(holder.getsockname()[1])


def _listener(host: str, port: int) -> socket.socket:
    with ExitStack() as undo:
        listener, address = _socket(host, port)
        undo.enter_context(listener)
        # Ports in TIME_WAIT are free; listening ones are not. Envoy would share a port with another Envoy.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(1)
        undo.pop_all()
    return listener


def _socket(host: str, port: int) -> tuple[socket.socket, Any]:
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    return socket.socket(family, kind, protocol), address


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
