"""The real PostgreSQL for tests: one server per session, one fresh database per test.

A migrated database is made once and copied for each test, which takes a few tens of milliseconds. The
server spares the disk (`fsync=off`): tests of crashes start their own.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg import sql

from reflux.cli.stack import ports, wheels
from reflux.cli.stack.child import unprivileged_user
from reflux.cli.stack.postgres import PostgresServer
from reflux.runtime.migrate import migrate
from tests.support.server import running_server

if TYPE_CHECKING:
    from collections.abc import Iterator

_TEMPLATE = "reflux_template"
_numbers = itertools.count(1)
_FAST = (
    "fsync=off", "synchronous_commit=off", "full_page_writes=off", "max_connections=200",
    "autovacuum=off",  # databases live for a second
)  # fmt: skip


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """A running server; `dsn(database)` and `admin_dsn()` say how to reach it."""
    folder = tmp_path_factory.mktemp("postgres")
    user = unprivileged_user()
    server = PostgresServer(
        folder=folder,
        programs=wheels.postgres_programs(user, folder),
        port=ports.free_ports(1)[0],
        log=folder / "postgres.log",
        user=user,
        options=_FAST,
        sync=False,
    )
    with running_server(server, stop=signal.SIGINT):
        asyncio.run(server.provision())
        yield server


@pytest.fixture(scope="session")
def template_database(postgres_server: PostgresServer) -> str:
    with psycopg.connect(postgres_server.dsn("postgres", "postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {_TEMPLATE} OWNER reflux")
    asyncio.run(migrate(postgres_server.dsn(_TEMPLATE)))
    return _TEMPLATE


@pytest.fixture
def empty_dsn(postgres_server: PostgresServer) -> Iterator[str]:
    """DSN of a fresh database without any table, dropped after the test."""
    with fresh_database(postgres_server, "template0") as dsn:
        yield dsn


@pytest.fixture
def database_dsn(postgres_server: PostgresServer, template_database: str) -> Iterator[str]:
    """DSN of a fresh, migrated database, dropped after the test."""
    with fresh_database(postgres_server, template_database) as dsn:
        yield dsn


@contextmanager
def fresh_database(server: PostgresServer, template: str) -> Iterator[str]:
    """DSN of a copy of `template`, dropped after the block."""
    name = f"test_{os.getpid()}_{next(_numbers)}"
    made = sql.SQL("CREATE DATABASE {} OWNER reflux TEMPLATE {} STRATEGY FILE_COPY")
    with psycopg.connect(server.admin_dsn(), autocommit=True) as connection:
        connection.execute(made.format(sql.Identifier(name), sql.Identifier(template)))
        yield server.dsn(name)
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
