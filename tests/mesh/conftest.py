"""Fixtures of the mesh level: every test has an Envoy of its own."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

# Read when gRPC starts, so before anything that uses it: tests start Envoy while channels are open, and
# gRPC's fork handlers would close descriptors in the child.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "false"

from tests.mesh.support.edge import Edge, edge_on
from tests.mesh.support.mesh import Mesh, mesh_on

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def mesh(tmp_path: Path) -> AsyncIterator[Mesh]:
    """A mesh without nodes and routes yet."""
    async with mesh_on(tmp_path) as running:
        yield running


@pytest.fixture
async def edge(tmp_path: Path) -> AsyncIterator[Edge]:
    """An edge with small services behind it."""
    async with edge_on(tmp_path) as running:
        yield running
