"""A command starts without what it does not use: people and scripts wait for each import."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("grpc", "psycopg", "pydantic", "rich", "yaml")


@pytest.mark.parametrize(
    ("module", "needed"),
    [("reflux.cli.__main__", set()), ("reflux.runtime.rpc", {"grpc"})],
    ids=["the commands", "a client"],
)
def test_it_waits_for_nothing_else(module: str, needed: set[str]) -> None:
    """What `--help` loads, and what a call to a server adds."""
    code = f"import sys, {module}; print(*(each for each in {HEAVY} if each in sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(loaded.stdout.split()) == needed
