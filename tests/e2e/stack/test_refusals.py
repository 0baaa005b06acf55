"""What `reflux up` and `reflux down` refuse, and how they say it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from reflux.cli.stack import ports
from reflux.cli.stack.errors import PortError
from reflux.cli.stack.folder import DataFolder
from reflux.cli.stack.run import stop_stack
from tests.e2e.stack.running import alive, eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.e2e.stack.running import RunningStack


def reflux(*arguments: str, data_dir: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a command that is expected to end by itself."""
    command = [sys.executable, "-m", "reflux.cli", *arguments, "--data-dir", str(data_dir)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, env=os.environ | env
    )


@pytest.fixture
def taken() -> Iterator[int]:
    """A port somebody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_a_second_stack_on_the_same_folder_is_refused(start_stack: Callable[..., RunningStack]) -> None:
    """The message names the process and the URL of the first, and how to stop it; the first goes on."""
    stack = start_stack("valkey").until_up()
    second = reflux("up", data_dir=stack.folder.root)
    assert second.returncode == 1
    message = " ".join(second.stderr.split())
    assert (
        f"already runs on {stack.folder.root}: process {stack.process.pid} at http://127.0.0.1:4" in message
    )
    assert "reflux down --data-dir" in message
    assert stack.state()["up"]
    assert alive(stack.pid("valkey"))


def test_down_drains_the_running_stack(start_stack: Callable[..., RunningStack]) -> None:
    """`reflux down` returns when nothing is left."""
    stack = start_stack().until_up()
    down = reflux("down", data_dir=stack.folder.root)
    assert down.returncode == 0, down.stderr
    assert f"stopped: process {stack.process.pid}" in down.stdout
    assert stack.process.wait(10) == 0
    assert not any(map(alive, stack.seen))


def test_down_leaves_a_drain_in_peace(
    start_stack: Callable[..., RunningStack], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After Ctrl-C it only waits: its signal would be the second one, which ends everything at once."""
    stack = start_stack("stubborn").until_up()
    part = stack.pid("stubborn")
    stack.process.send_signal(signal.SIGINT)
    eventually(lambda: stack.state()["parts"]["stubborn"]["state"] == "stopping", "the stack drains")
    sent: list[tuple[int, int]] = []
    looks: list[int | None] = []

    def holder(
        folder: DataFolder, look: Callable[[DataFolder], int | None] = DataFolder.holder
    ) -> int | None:
        looks.append(look(folder))
        return looks[-1]

    with monkeypatch.context() as patched, ThreadPoolExecutor(1) as pool:
        patched.setattr("reflux.cli.stack.run.os.kill", lambda *signal: sent.append(signal))
        patched.setattr(DataFolder, "holder", holder)
        down = pool.submit(stop_stack, stack.folder)
        eventually(lambda: len(looks) > 1, "it waits")
        os.killpg(part, signal.SIGKILL)
        assert down.result(60) == stack.process.pid
    assert sent == []
    assert stack.process.wait(30) == 0


def test_down_says_when_there_is_nothing_to_stop(
    start_stack: Callable[..., RunningStack], tmp_path: Path
) -> None:
    """Neither a folder never used nor the stale state of a killed stack is taken for a running one."""
    assert "no stack runs on" in reflux("down", data_dir=tmp_path / "never").stderr
    stack = start_stack("valkey").until_up()
    stack.process.kill()
    stack.process.wait()
    assert stack.folder.state_file.exists()
    result = reflux("down", data_dir=stack.folder.root)
    assert result.returncode == 1
    assert "no stack runs on" in result.stderr


@pytest.mark.parametrize("option", ["--port", "--mesh-port", "--admin-port"])
def test_a_taken_port_is_named_with_its_option(tmp_path: Path, taken: int, option: str) -> None:
    """Nothing is started; the message says which option to change."""
    others = [argument for name in ("--port", "--mesh-port", "--admin-port") for argument in (name, "0")]
    result = reflux("up", *others, option, str(taken), data_dir=tmp_path)
    assert result.returncode == 1
    assert f"port {taken} ({option}) is taken: choose another with {option} N" in " ".join(
        result.stderr.split()
    )
    assert not (tmp_path / "postgres" / "data").exists()


def test_two_options_cannot_want_the_same_port() -> None:
    """Both are named."""
    port = ports.free_ports(1)[0]
    with pytest.raises(PortError, match=f"--mesh-port and --port both want port {port}"):
        ports.claim({"--port": ("127.0.0.1", port), "--mesh-port": ("127.0.0.1", port)})


def test_port_zero_means_a_free_one() -> None:
    """Each 0 becomes a different port that can be listened on."""
    claimed = ports.claim(dict.fromkeys("abc", ("127.0.0.1", 0)))
    assert len(set(claimed.values())) == 3
    for port in claimed.values():
        socket.create_server(("127.0.0.1", port)).close()


@pytest.mark.parametrize("listen", ["0.0.0.0", "::", "192.0.2.1"])
def test_listening_beyond_loopback_is_refused_without_the_explicit_flag(tmp_path: Path, listen: str) -> None:
    """There is no authentication yet; the message says so and names the flag."""
    result = reflux("up", "--listen", listen, data_dir=tmp_path)
    assert result.returncode == 2
    assert f"--listen {listen} is not loopback" in result.stderr
    assert "--insecure-listen" in result.stderr


def test_the_environment_cannot_open_the_stack_either(tmp_path: Path) -> None:
    """The flag is the only way: a variable left in a shell does not count as consent."""
    result = reflux("up", data_dir=tmp_path, REFLUX_LISTEN="0.0.0.0")
    assert result.returncode == 2
    assert "is not loopback" in result.stderr


@pytest.mark.parametrize("name", ["registry", "controlplane", "orchestrator", "gateway"])
def test_no_service_can_be_opened_behind_the_edge(tmp_path: Path, name: str) -> None:
    """Services trust whoever calls them; opening one needs the same explicit flag."""
    result = reflux("up", data_dir=tmp_path, **{f"REFLUX_{name.upper()}_ADDRESS": "0.0.0.0:0"})
    assert result.returncode == 2
    assert f"{name}_address 0.0.0.0 is not loopback" in result.stderr
    assert "--insecure-listen" in result.stderr


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    """A file in its place: the message says which path, and why, in one line."""
    (tmp_path / "file").touch()
    result = reflux("up", data_dir=tmp_path / "file")
    assert result.returncode == 1
    assert result.stderr == f"reflux: cannot keep data in {tmp_path / 'file'}: File exists\n"


def test_a_host_name_to_listen_on_is_refused(tmp_path: Path) -> None:
    """What a name means may change; an address does not."""
    result = reflux("up", "--listen", "example.test", data_dir=tmp_path)
    assert result.returncode == 2
    assert "give an IP address" in result.stderr


def test_an_unknown_setting_is_refused(tmp_path: Path) -> None:
    """With status 2 and the nearest known name."""
    result = reflux("up", data_dir=tmp_path, REFLUX_PORT="1")
    assert result.returncode == 2
    assert "unknown environment variable REFLUX_PORT; did you mean REFLUX_" in result.stderr


def test_an_unknown_service_is_refused_with_the_known_ones() -> None:
    """`reflux serve` lists what there is."""
    command = [sys.executable, "-m", "reflux.cli", "serve", "platfrom"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 2
    assert "no service 'platfrom'; there are: platform, registry" in result.stderr


def test_an_embedded_database_without_its_passwords_is_refused(
    start_stack: Callable[..., RunningStack],
) -> None:
    """They are made once; new ones would not open it."""
    first = start_stack("postgres").until_up()
    first.stop()
    (first.folder.part("postgres") / "passwords.json").unlink()
    second = start_stack("postgres")
    eventually(lambda: second.process.poll() is not None, "the second start has ended")
    assert "passwords of the database" in second.process.communicate()[1]
