"""Every client example, built and run by the commands of its README, against one stack.

A language whose toolchain is not there is skipped, with the tool that is missing.
"""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.clients.cut import EVENTS, CutOnce
from tests.clients.story import told_whole

if TYPE_CHECKING:
    from tests.support.stack import Stack

FOLDER = Path(__file__).parents[1] / "examples" / "clients"
ADDRESS = "127.0.0.1:4000"
BUILD_SECONDS = 1_500.0
RUN_SECONDS = 120.0

pytestmark = pytest.mark.timeout(BUILD_SECONDS + 4 * RUN_SECONDS)


@dataclass(frozen=True, slots=True)
class Client:
    """A language: its title in the README, its folder, and what must be on PATH."""

    title: str
    folder: str
    tools: tuple[str, ...] = ()

    @property
    def commands(self) -> list[str]:
        """What the README says to type; the last one runs the client."""
        section = (FOLDER / "README.md").read_text().split(f"\n## {self.title}\n")[1].split("\n## ")[0]
        blocks: list[str] = re.findall(r"```bash\n(.*?)```", section, re.DOTALL)
        return blocks[0].splitlines()

    def build(self) -> None:
        """Every command but the last."""
        for command in self.commands[:-1]:
            built = self._bash(command, BUILD_SECONDS)
            assert built.returncode == 0, f"{command}\n{built.stdout}{built.stderr}"

    def run(self, address: str, seconds: float = RUN_SECONDS) -> subprocess.CompletedProcess[str]:
        """The last command, with another address."""
        command = self.commands[-1]
        assert ADDRESS in command
        return self._bash(command.replace(ADDRESS, address), seconds)

    def _bash(self, command: str, seconds: float) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-c", command],
            cwd=FOLDER / self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )


CLIENTS = [
    Client("Python", "python"),
    Client("Go", "go", ("go",)),
    Client("JavaScript", "javascript", ("node", "npm")),
    Client("Java", "java", ("java", "javac", "mvn")),
    Client("Rust", "rust", ("cargo",)),
    Client("C++", "cpp", ("cmake", "g++", "protoc", "grpc_cpp_plugin")),
]


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.folder)
def test_the_client_tells_the_whole_story(client: Client, stack: Stack, cut: CutOnce) -> None:
    """Built as its README says, it does the round, resumes a broken watch, and explains a failure."""
    for tool in client.tools:
        if shutil.which(tool) is None:
            pytest.skip(f"{client.title} needs {tool}, which is not on PATH")
    client.build()

    first = client.run(stack.edge, BUILD_SECONDS)  # where the tool runs what it builds, this builds
    assert first.returncode == 0, first.stdout + first.stderr
    told_whole(first.stdout, client.folder)

    resumed = client.run(cut.address)
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    told_whole(resumed.stdout, client.folder)
    assert cut.asked_after == [0, EVENTS], "resumed after the last event it had"

    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    failed = client.run(f"127.0.0.1:{port}")
    assert failed.returncode == 1
    assert failed.stdout == ""
    assert "UNAVAILABLE: " in failed.stderr
    assert "Traceback" not in failed.stderr
    assert "Exception" not in failed.stderr


def test_every_folder_is_a_client() -> None:
    """A language that is added here is run here."""
    assert {client.folder for client in CLIENTS} == {each.name for each in FOLDER.iterdir() if each.is_dir()}
