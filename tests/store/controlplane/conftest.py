"""Two control planes' stores on one database."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest

from reflux.controlplane.store import RouteStore
from reflux.runtime.postgres import open_pool

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def stores(database_dsn: str) -> AsyncIterator[tuple[RouteStore, RouteStore]]:
    """Of two control planes."""
    async with open_pool(database_dsn, service="controlplane", max_size=4) as pool:
        yield RouteStore(pool, str(uuid.uuid4())), RouteStore(pool, str(uuid.uuid4()))
