"""A whole stack for one benchmark: `reflux up` on free ports and a fresh folder, and the echo node beside it.

The folder lies in the checkout, not under /tmp: that is often memory, where `fsync` costs nothing and every
figure would flatter. All settings are default, but the log keeps warnings only.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reflux.cli.stack.child import Launch, spawn, stop

if TYPE_CHECKING:
    import subprocess
    from collections.abc import AsyncIterator, Mapping

ROOT = Path(__file__).parents[1]
UP_SECONDS = 120.0
STOP_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Stack:
    """Where a benchmark finds what it asks. `postgres_dsn` holds a password."""

    edge: str
    mesh: str
    postgres_dsn: str
    registry: str
    data: Path
    echo: int
    """Process id of the echo nodes."""

    @classmethod
    def of(cls, data: Path, echo: int = 0) -> Stack:
        """The stack that is up on a data folder; `echo`: 0 where nobody serves them."""
        ports = (_read(data / "run" / "stack.json") or {})["ports"]
        return cls(
            edge=f"127.0.0.1:{ports['port']}",
            mesh=f"127.0.0.1:{ports['mesh-port']}",
            postgres_dsn=_dsn(data, ports["postgres"]),
            registry=f"127.0.0.1:{ports['registry']}",
            data=data,
            echo=echo,
        )

    def pid(self, part: str) -> int:
        """Process id of a part of `reflux up`, e.g. `orchestrator`."""
        state = _read(self.data / "run" / "stack.json") or {}
        return int(state["parts"][part]["pid"])

    def url(self, of: str) -> str:
        """What `reflux up` serves over HTTP, e.g. `admin`: Envoy's own interface."""
        return str((_read(self.data / "run" / "stack.json") or {})["urls"][of])


@asynccontextmanager
async def running_stack(**settings: str) -> AsyncIterator[Stack]:
    """A stack with the echo nodes within the body, nothing of it afterwards.

    Args:
        settings: of REFLUX, beside the defaults: `trace_ratio="0.01"`.

    Raises:
        RuntimeError: it did not come up; the last lines of its log are in the message.
    """
    given = {f"REFLUX_{name.upper()}": value for name, value in settings.items()}
    parent = ROOT / ".reflux"
    parent.mkdir(mode=0o700, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="bench-", dir=parent))
    try:
        async with AsyncExitStack() as processes:
            ports = ("--port", "0", "--mesh-port", "0", "--admin-port", "0")
            up = ("reflux.cli", "up", "--data-dir", str(folder / "data"), *ports)
            stack = await processes.enter_async_context(child(folder / "stack.log", up, given))
            state = await _state_of(folder / "data", stack)
            registry = f"127.0.0.1:{state['ports']['registry']}"
            settings_of_nodes = given | {"REFLUX_REGISTRY_ADDRESS": registry}
            nodes = child(folder / "echo.log", ("bench.echo",), settings_of_nodes)
            echo = await processes.enter_async_context(nodes)
            yield Stack.of(folder / "data", echo.process.pid)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class Child:
    """A process of a benchmark."""

    process: subprocess.Popen[bytes]
    log: Path

    def explain(self) -> str:
        """The last lines of its log."""
        return f"{self.log.stem}:\n" + "\n".join(self.log.read_text().splitlines()[-20:])


@asynccontextmanager
async def child(log: Path, module: tuple[str, ...], settings: Mapping[str, str]) -> AsyncIterator[Child]:
    """`python -m module…` within the body. It ends when this process does, however that happens."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("REFLUX_")}
    environment |= {"PYTHONPATH": f"{ROOT}:{ROOT / 'services'}", "REFLUX_LOG_LEVEL": "warning", **settings}
    launch = Launch((sys.executable, "-m", *module), log, environment, death_signal=signal.SIGTERM)
    process = spawn(launch)
    try:
        yield Child(process, log)
    finally:
        await stop(process, signal.SIGTERM, STOP_SECONDS)


async def _state_of(data: Path, stack: Child) -> dict[str, Any]:
    """What `run/stack.json` says once everything is up."""
    deadline = time.monotonic() + UP_SECONDS
    while time.monotonic() < deadline and stack.process.poll() is None:
        if (state := _read(data / "run" / "stack.json")) and state["up"]:
            return state
        await asyncio.sleep(0.1)
    raise RuntimeError(f"the stack did not come up within {UP_SECONDS:.0f} s; {stack.explain()}")


def _read(path: Path) -> dict[str, Any] | None:
    return dict(json.loads(path.read_text())) if path.exists() else None


def _dsn(data: Path, port: int) -> str:
    """Of the login that REFLUX itself uses; its password lies beside the cluster."""
    password = json.loads((data / "postgres" / "passwords.json").read_text())["reflux"]
    return f"postgresql://reflux:{password}@127.0.0.1:{port}/reflux"
