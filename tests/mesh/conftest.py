"""Fixtures of the mesh level: every test of the mesh has an Envoy of its own, those of the edge share one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from tests.mesh.support.edge import Edge, edge_on
from tests.mesh.support.mesh import Mesh, mesh_on
from tests.mesh.support.platform import Platform, platform_on

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def mesh(tmp_path: Path) -> AsyncIterator[Mesh]:
    """A mesh without nodes and routes yet."""
    async with mesh_on(tmp_path) as running:
        yield running


@pytest.fixture
async def platform(database_dsn: str, tmp_path: Path) -> AsyncIterator[Platform]:
    """Registry, control plane and one Envoy."""
    async with platform_on(database_dsn, tmp_path) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def _edge(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Edge]:
    async with edge_on(tmp_path_factory.mktemp("edge")) as running:
        yield running


@pytest.fixture
def edge(_edge: Edge) -> Edge:
    """An edge with small services behind it that have heard nothing; one Envoy per module."""
    _edge.heard.requests.clear()
    _edge.heard.metadata.clear()
    return _edge
