"""A program: the real supervisor over the three real servers, without REFLUX's own services.

Usage: small_stack.py DATA_DIR [PART …], parts being postgres, valkey, envoy and the made-up ones below;
all three servers if none is named.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from reflux.cli.progress import Progress
from reflux.cli.stack import ports, wheels
from reflux.cli.stack.child import Launch, base_environment, spawn, unprivileged_user
from reflux.cli.stack.envoy import EnvoyProxy
from reflux.cli.stack.errors import StackError
from reflux.cli.stack.folder import DataFolder
from reflux.cli.stack.part import Backoff, Part
from reflux.cli.stack.plan import Plan, envoy_part, postgres_part, valkey_part
from reflux.cli.stack.postgres import PostgresServer
from reflux.cli.stack.run import run_until_signal
from reflux.cli.stack.valkey import ValkeyServer
from reflux.runtime import logs
from reflux.runtime.settings import Settings

if TYPE_CHECKING:
    import subprocess

SERVERS = ("postgres", "valkey", "envoy")


def postgres(folder: DataFolder, port: int) -> Part:
    """The embedded PostgreSQL."""
    home = folder.part("postgres")
    user = unprivileged_user(home / "data")
    programs = wheels.postgres_programs(user, home)
    return postgres_part(PostgresServer(home, programs, port, folder.logs.path("postgres"), user))


def valkey(folder: DataFolder, port: int) -> Part:
    """The embedded Valkey."""
    home, log = folder.part("valkey"), folder.logs.path("valkey")
    return valkey_part(ValkeyServer(home, wheels.valkey_program(), port, log))


def envoy(folder: DataFolder, port: int) -> Part:
    """Envoy with nothing but its admin interface."""
    admin = {"address": {"socket_address": {"address": "127.0.0.1", "port_value": port}}}
    home, log = folder.part("envoy"), folder.logs.path("envoy")
    return envoy_part(EnvoyProxy(home, wheels.envoy_program(), {"admin": admin}, port, log))


def stubborn(folder: DataFolder, _: int) -> Part:
    """A part that announces itself, has a child of its own, and takes no notice of SIGTERM."""

    async def start(ready_fd: int | None) -> subprocess.Popen[bytes]:
        assert ready_fd is not None
        script = f"trap '' TERM; sleep 600 & echo >&{ready_fd}; while :; do wait; done"
        log = folder.logs.path("stubborn")
        return spawn(Launch(("/bin/bash", "-c", script), log, base_environment(), pass_fds=(ready_fd,)))

    return Part("stubborn", start, ready=None, stop_signal=signal.SIGTERM, stop_seconds=60)


MAKERS = {"postgres": postgres, "valkey": valkey, "envoy": envoy, "stubborn": stubborn}


def main() -> None:
    """Run until a signal."""
    folder = DataFolder(Path(sys.argv[1]).absolute())
    names = sys.argv[2:] or SERVERS
    try:
        with folder.held(), folder.logs.path("supervisor").open("a", buffering=1) as stream:
            logs.configure(service="supervisor", level="info", log_format="json", stream=stream)
            taken = dict(zip(names, ports.free_ports(len(names)), strict=True))
            steps = tuple(MAKERS[name](folder, port) for name, port in taken.items())
            settings = Settings.load(data_dir=folder.root)
            plan = Plan(steps, settings, {"edge": "http://127.0.0.1:4", "admin": "http://127.0.0.1:5"}, taken)
            run_until_signal(plan, folder, Progress(Console(), plan), backoff=Backoff(first=0.05))
    except StackError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
