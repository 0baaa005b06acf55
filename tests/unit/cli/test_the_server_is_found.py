"""Which server a command talks to: flag, variable, the stack that runs here, the default, in this order."""

from __future__ import annotations

import fcntl
import json
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from reflux.cli import target
from reflux.runtime.settings import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def stack_on(data_dir: Path, edge: str) -> Iterator[None]:
    """What a running stack leaves on its folder: the state, and the lock it holds."""
    (data_dir / "run").mkdir(parents=True, exist_ok=True)
    state = {"pid": 1, "urls": {"edge": edge}, "ports": {}, "parts": {}, "up": True}
    (data_dir / "run" / "stack.json").write_text(json.dumps(state))
    with (data_dir / "run" / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def test_first_match_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen by taking the sources away one by one."""
    data = tmp_path / ".reflux"
    with stack_on(data, "http://127.0.0.1:4321"):
        monkeypatch.setenv("REFLUX_SERVER", "there:2")
        assert target.find("here:1", None).address == "here:1"
        assert target.find(None, None).address == "there:2"
        monkeypatch.delenv("REFLUX_SERVER")
        found = target.find(None, None)
        assert (found.address, found.source) == ("127.0.0.1:4321", f"the stack on {data}")
        assert found.stack is not None
    found = target.find(None, None)
    assert (found.address, found.source, found.stack) == ("127.0.0.1:4000", "the default", None)


def test_a_stack_on_another_folder(tmp_path: Path) -> None:
    """--data-dir names it."""
    with (
        stack_on(tmp_path / "other", "http://127.0.0.1:1"),
        stack_on(tmp_path / ".reflux", "http://127.0.0.1:2"),
    ):
        assert target.find(None, tmp_path / "other").address == "127.0.0.1:1"


def test_a_stack_that_was_killed_is_not_one(tmp_path: Path) -> None:
    """Its file is still there, its lock is not."""
    with stack_on(tmp_path / ".reflux", "http://127.0.0.1:4321"):
        pass
    assert target.find(None, None).address == target.DEFAULT


def test_a_url_is_an_address_too(tmp_path: Path) -> None:
    """People copy what `reflux up` prints."""
    assert target.find("http://localhost:4000/", None).address == "localhost:4000"


@pytest.mark.parametrize("text", ["localhost", "https://localhost:4000", "http://localhost", "a:b"])
def test_what_is_no_address_is_refused(text: str) -> None:
    """Before anything is called."""
    with pytest.raises(SettingsError, match="server"):
        target.find(text, None)
