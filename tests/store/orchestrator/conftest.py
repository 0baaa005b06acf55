"""A fresh database of the orchestrator for each test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from reflux.runtime.postgres import open_pool
from tests.store.orchestrator.support import Desk

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from reflux.cli.stack.postgres import PostgresServer


@pytest.fixture
async def desk(database_dsn: str, postgres_server: PostgresServer) -> AsyncIterator[Desk]:
    """What tests of the store work with: a pool, and short ways to members, runs and rows."""
    async with open_pool(database_dsn, service="orchestrator", max_size=6) as pool:
        yield Desk(database_dsn, postgres_server.admin_dsn(), pool)
