"""A port that was chosen belongs to whoever listens there, and is chosen by nobody else meanwhile."""

import errno
import socket

import pytest

from reflux.cli.stack.ports import free_ports


def test_who_listens_gets_it_and_who_only_looks_for_a_free_one_does_not():
    """Servers ask to use an address again; a choice does not."""
    (port,) = free_ports(1)
    with socket.socket() as other, pytest.raises(OSError) as refused:
        other.bind(("127.0.0.1", port))
    assert refused.value.errno == errno.EADDRINUSE
    for _ in range(2):  # a part may be started again
        with socket.create_server(("127.0.0.1", port)) as server:
            assert server.getsockname() == ("127.0.0.1", port)


def test_all_are_different():
    """However many at once."""
    assert len(set(free_ports(50))) == 50
