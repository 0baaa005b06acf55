"""Database sessions of a service: walled off, bounded, and alive again after the database was away."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import psycopg
import pytest

from reflux.runtime.migrate import Migration, migrate
from reflux.runtime.postgres import open_pool

if TYPE_CHECKING:
    from reflux.cli.stack.postgres import PostgresServer

TABLES = {
    "registry": [Migration("registry", 1, "nodes", "CREATE TABLE nodes (id int)")],
    "orchestrator": [Migration("orchestrator", 1, "runs", "CREATE TABLE runs (id int)")],
}


async def test_a_session_sees_its_own_schema_first_and_no_other(empty_dsn: str) -> None:
    """Plain names are the service's; another service's tables are closed, even for the same login."""
    await migrate(empty_dsn, TABLES)
    async with open_pool(empty_dsn, service="registry") as pool, pool.connection() as connection:
        await connection.execute("INSERT INTO nodes VALUES (1)")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await connection.execute("SELECT * FROM orchestrator.runs")


async def test_a_session_is_named_and_bounded(empty_dsn: str) -> None:
    """Operators see whose session it is; no statement and no idle transaction lasts for ever."""
    query = """SELECT current_setting('application_name'), current_setting('statement_timeout'),
                      current_setting('idle_in_transaction_session_timeout')"""
    async with open_pool(empty_dsn, service="registry") as pool, pool.connection() as connection:
        row = await (await connection.execute(query)).fetchone()
        assert row == ("reflux-registry", "30s", "10s")
        assert connection.autocommit


async def test_a_pool_is_not_poisoned_when_its_sessions_are_cut(
    postgres_server: PostgresServer, empty_dsn: str
) -> None:
    """After every session was ended by the server, whoever takes one from the pool gets a working one."""
    async with open_pool(empty_dsn, service="registry", min_size=3, max_size=3) as pool:
        with psycopg.connect(postgres_server.admin_dsn(), autocommit=True) as admin:
            ours = "FROM pg_stat_activity WHERE application_name = 'reflux-registry'"
            assert len(admin.execute(f"SELECT pg_terminate_backend(pid) {ours}").fetchall()) == 3

        async def one() -> object:
            async with pool.connection() as connection:
                return await (await connection.execute("SELECT current_setting('search_path')")).fetchone()

        async with asyncio.timeout(20):
            assert await asyncio.gather(*(one() for _ in range(6))) == [("registry",)] * 6
