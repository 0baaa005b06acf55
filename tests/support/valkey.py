"""The real Valkey for tests: one server per session, one empty database per test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import redis

from reflux.cli.stack import ports, wheels
from reflux.cli.stack.valkey import ValkeyServer
from tests.support.server import running_server

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def valkey_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    """A running server; `url()` says how to reach it."""
    folder = tmp_path_factory.mktemp("valkey")
    server = ValkeyServer(folder, wheels.valkey_program(), ports.free_ports(1)[0], folder / "valkey.log")
    with running_server(server):
        yield server


@pytest.fixture
def valkey_url(valkey_server: ValkeyServer) -> str:
    """URL of an emptied database."""
    url = valkey_server.url()
    with redis.Redis.from_url(url) as client:
        client.flushall()
    return url
