"""The command line in this process, against a server in this process, over real gRPC."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from typer.testing import CliRunner

from reflux.cli.__main__ import app
from tests.unit.cli.fakes import FakeServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Ended:
    """A command that has ended."""

    status: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        """The one document on stdout."""
        return orjson.loads(self.stdout)

    @property
    def refusal(self) -> Any:
        """The one google.rpc.Status on stderr."""
        return orjson.loads(self.stderr)


class Reflux:
    """Runs commands as a person types them."""

    def __call__(self, *arguments: str, given: str | bytes | None = None, ok: bool = False) -> Ended:
        result = CliRunner().invoke(app, [*arguments], input=given, prog_name="reflux")
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        ended = Ended(result.exit_code, result.stdout, result.stderr)
        assert not ok or ended.status == 0, ended
        return ended


@pytest.fixture(autouse=True)
def _clean_surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in os.environ:
        if name.startswith("REFLUX_"):
            monkeypatch.delenv(name)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeServer]:
    """A server that every command finds."""
    server = FakeServer()
    with server.serving():
        monkeypatch.setenv("REFLUX_SERVER", server.address)
        yield server


@pytest.fixture
def reflux() -> Reflux:
    """The command line."""
    return Reflux()
