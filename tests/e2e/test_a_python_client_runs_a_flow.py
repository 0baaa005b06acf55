"""The Python client, as a reader of the example would run it, against a whole stack."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

from tests.clients.story import told_whole

CLIENT = Path(__file__).parents[1] / "examples" / "clients" / "python" / "client.py"


def _run(edge: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(CLIENT), edge], capture_output=True, text=True, timeout=60, check=False
    )


def test_the_client_saves_executes_watches_and_reads(edge_url: str) -> None:
    """Every line of the example holds, and it can be run again: an equal document makes no new version."""
    for _ in range(2):
        told = _run(edge_url)
        assert told.returncode == 0, told.stderr
        told_whole(told.stdout, "python")


def test_the_client_says_why_it_cannot() -> None:
    """A call that fails is explained in one line, not with a traceback."""
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    failed = _run(f"127.0.0.1:{port}")
    assert failed.returncode == 1
    assert failed.stderr.startswith("UNAVAILABLE: ")
    assert "Traceback" not in failed.stderr
