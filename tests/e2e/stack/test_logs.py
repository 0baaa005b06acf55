"""Logs of the parts: bounded, and readable while they are written."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from reflux.cli.stack.folder import DataFolder
from reflux.cli.stack.logfiles import LogFiles

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def folder(tmp_path: Path) -> DataFolder:
    """A data folder with the logs of two parts."""
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "envoy.log").write_text("e1\ne2\n")
    (tmp_path / "logs" / "postgres.log").write_text("p1\np2\np3\n")
    return DataFolder(tmp_path)


def reflux(*arguments: str, folder: DataFolder) -> subprocess.CompletedProcess[str]:
    """Run `reflux logs` on a folder."""
    command = [sys.executable, "-m", "reflux.cli", "logs", "--data-dir", str(folder.root), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


def test_one_part_is_shown_as_it_wrote(folder: DataFolder) -> None:
    """`reflux logs PART` adds nothing; `-n` limits the lines."""
    assert reflux("postgres", folder=folder).stdout == "p1\np2\np3\n"
    assert reflux("postgres", "-n", "1", folder=folder).stdout == "p3\n"


def test_all_parts_are_shown_with_their_names(folder: DataFolder) -> None:
    """`reflux logs` says who wrote each line."""
    assert reflux("-n", "1", folder=folder).stdout == "envoy    | e2\npostgres | p3\n"


def test_an_unknown_part_is_refused_with_the_known_ones(folder: DataFolder) -> None:
    """A misspelt name is not an empty log."""
    result = reflux("postgre", folder=folder)
    assert result.returncode == 1
    assert "no log of a part 'postgre'; there are: envoy, postgres" in result.stderr


def add(path: Path, text: str) -> None:
    """Write like a part does."""
    with path.open("a") as file:
        file.write(text)


def test_a_folder_without_logs_is_told_from_empty_logs(tmp_path: Path) -> None:
    """A misspelt folder is not a silent stack."""
    result = reflux(folder=DataFolder(tmp_path / "nothing"))
    assert result.returncode == 1
    assert "there are no logs" in result.stderr


def test_a_reader_that_has_seen_enough_is_no_error(folder: DataFolder) -> None:
    """`reflux logs | head -1` shows one line and no complaint."""
    folder.logs.path("postgres").write_text("a line\n" * 100_000)
    command = f"{sys.executable} -m reflux.cli logs -n 100000 postgres --data-dir '{folder.root}' | head -1"
    result = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=60, check=False)
    assert (result.stdout, result.stderr) == ("a line\n", "")


def test_following_shows_whole_lines_that_are_added(folder: DataFolder) -> None:
    """Nothing is missed, nothing shown twice; half a line waits for its end."""
    follower = folder.logs.follow(["envoy"])
    assert list(follower.read()) == [("envoy", "e1"), ("envoy", "e2")]
    assert list(follower.read()) == []
    add(folder.logs.path("envoy"), "e3\nhal")
    assert list(follower.read()) == [("envoy", "e3")]
    add(folder.logs.path("envoy"), "f\n")
    assert list(follower.read()) == [("envoy", "half")]


def test_following_goes_on_when_a_file_is_cut_or_replaced(folder: DataFolder) -> None:
    """Both ways of bounding a log leave the reader at the right place."""
    follower = folder.logs.follow(["postgres"])
    assert len(list(follower.read())) == 3
    path = folder.logs.path("postgres")
    os.truncate(path, 0)
    add(path, "p4\n")
    assert list(follower.read()) == [("postgres", "p4")]
    path.replace(path.with_name("postgres.log.1"))
    assert list(follower.read()) == []
    add(path, "p5\n")
    assert list(follower.read()) == [("postgres", "p5")]


def test_following_all_includes_parts_that_start_later(folder: DataFolder) -> None:
    """A new part is shown from its first line."""
    follower = folder.logs.follow(None)
    assert {part for part, _ in follower.read()} == {"envoy", "postgres"}
    add(folder.logs.path("nodes"), "n1\n")
    assert list(follower.read()) == [("nodes", "n1")]


@pytest.mark.timeout(60)
def test_the_command_follows_until_it_is_interrupted(folder: DataFolder) -> None:
    """`reflux logs -f` prints the tail, then new lines as they come; Ctrl-C ends it quietly."""
    command = [sys.executable, "-m", "reflux.cli", "logs", "-f", "envoy", "--data-dir", str(folder.root)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert [process.stdout.readline() for _ in range(2)] == ["e1\n", "e2\n"]
        add(folder.logs.path("envoy"), "e3\n")
        assert process.stdout.readline() == "e3\n"
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=20)
        assert stderr == ""
        assert process.returncode == 130
    finally:
        process.kill()
        process.communicate()


def test_a_log_that_has_grown_too_large_is_moved_aside_before_its_part_starts(tmp_path: Path) -> None:
    """One older file is kept; a small log is left alone."""
    logs = LogFiles(tmp_path, limit=10)
    logs.path("envoy").write_text("123456789012\n")
    logs.path("valkey").write_text("1\n")
    logs.rotate("envoy")
    logs.rotate("valkey")
    assert not logs.path("envoy").exists()
    assert logs.path("valkey").read_text() == "1\n"
    add(logs.path("envoy"), "new\n")
    assert logs.tail("envoy", 5) == ["123456789012", "new"]


def test_a_log_that_grows_too_large_is_cut_while_its_part_writes(tmp_path: Path) -> None:
    """The writer goes on in the same, now short, file; what was cut is in the older one."""
    logs = LogFiles(tmp_path, limit=10)
    with logs.path("envoy").open("a", buffering=1) as writer:
        writer.write("123456789012\n")
        logs.cut_large()
        writer.write("new\n")
    assert logs.path("envoy").read_text() == "new\n"
    assert logs.tail("envoy", 5) == ["123456789012", "new"]
