"""Real processes, real load, and something breaks: no run is lost, none is stuck, no effect is doubled.

See `tests.chaos.storm` for the load and the verdict. `tests/e2e/test_kills_lose_nothing.py` kills each part
once over pure steps; here the steps act.
"""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import redis

from reflux.cli.stack.postgres import PostgresServer
from reflux.cli.stack.valkey import ValkeyServer
from tests.chaos.proxy import Proxy, proxy
from tests.chaos.storm import storm
from tests.e2e.stack.running import eventually
from tests.support.ledger import Ledger
from tests.support.stack import Stack, running_stack

pytestmark = pytest.mark.timeout(600)

LEASE = "2"
"""Seconds; the default would only make the tests longer."""
DISK = "400m"


@pytest.fixture(scope="module")
def small_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A file system of its own that can be filled."""
    folder = tmp_path_factory.mktemp("disk")
    mount = ("mount", "-t", "tmpfs", "-o", f"size={DISK},mode=755", "tmpfs", str(folder))
    if subprocess.run(mount, check=False).returncode != 0:
        yield folder  # who may not mount goes without the one test of a full disk
        return
    try:
        yield folder
    finally:
        subprocess.run(("umount", "-l", str(folder)), check=True)


@pytest.fixture(scope="module")
def stack(small_disk: Path) -> Iterator[Stack]:
    """A stack with its own stores, all of it on the small disk."""
    with running_stack(small_disk / "data", environment={"REFLUX_LEASE_SECONDS": LEASE}) as stack:
        yield stack


@pytest.mark.parametrize("part", ["orchestrator", "nodes", "envoy", "platform"])
def test_a_part_is_killed_again_and_again(stack: Stack, ledger: Ledger, part: str) -> None:
    """SIGKILL, and once it is back once more."""
    with storm(stack, ledger, f"killed-{part}"):
        for _ in range(2):
            killed = stack.kill(part)
            eventually(lambda killed=killed: stack.pid(part) not in (None, killed), f"{part} runs again")
            time.sleep(0.5)


def test_an_orchestrator_sleeps_past_its_lease(stack: Stack, ledger: Ledger) -> None:
    """SIGSTOP for longer than the lease, SIGCONT."""
    with storm(stack, ledger, "asleep"):
        stack.kill("orchestrator", signal.SIGSTOP)
        time.sleep(float(LEASE) + 1)
        stack.kill("orchestrator", signal.SIGCONT)


def test_postgres_crashes(stack: Stack, ledger: Ledger) -> None:
    """An immediate shutdown: what was committed is recovered from the log, everything else is unknown."""
    with storm(stack, ledger, "crashed"):
        killed = stack.kill("postgres", signal.SIGQUIT)
        eventually(lambda: stack.pid("postgres") not in (None, killed), "PostgreSQL runs again")


def test_valkey_forgets_everything_and_dies(stack: Stack, ledger: Ledger) -> None:
    """Flushed, then killed: it holds nothing that cannot be lost."""
    with storm(stack, ledger, "forgot"):
        folder = stack.data / "valkey"
        port = stack.state["ports"]["valkey"]
        with redis.Redis.from_url(ValkeyServer(folder, folder, port, folder / "log").url()) as client:
            client.flushall()
        killed = stack.kill("valkey")
        eventually(lambda: stack.pid("valkey") not in (None, killed), "Valkey runs again")


def test_the_disk_is_full_for_a_while(stack: Stack, ledger: Ledger, small_disk: Path) -> None:
    """Not one more byte for the database, for logs, for anybody; then there is room again."""
    if not os.path.ismount(small_disk):
        pytest.skip("this user may not mount a file system")
    ballast = small_disk / "ballast"
    with storm(stack, ledger, "full"):
        _fill(ballast)
        time.sleep(3)
        ballast.unlink()


def _fill(path: Path) -> None:
    """Takes the last byte."""
    with path.open("wb", buffering=0) as file:
        for size in (1 << 20, 4096, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue


@pytest.fixture(scope="module")
def database_proxy(postgres_server: PostgresServer) -> Iterator[Proxy]:
    """The network between the stack and its database."""
    with proxy("127.0.0.1", postgres_server.port) as made:
        yield made


@pytest.fixture(scope="module")
def far_stack(
    tmp_path_factory: pytest.TempPathFactory, postgres_server: PostgresServer, database_proxy: Proxy
) -> Iterator[Stack]:
    """A stack whose database is somewhere else."""
    name = "far"
    with psycopg.connect(postgres_server.admin_dsn(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} OWNER reflux TEMPLATE template0")
    dsn = postgres_server.dsn(name).replace(f":{postgres_server.port}/", f":{database_proxy.port}/")
    environment = {"REFLUX_POSTGRES_DSN": dsn, "REFLUX_LEASE_SECONDS": LEASE}
    with running_stack(tmp_path_factory.mktemp("far") / "data", environment=environment) as stack:
        yield stack


def test_the_network_to_the_database_is_cut(far_stack: Stack, ledger: Ledger, database_proxy: Proxy) -> None:
    """Every connection is reset, and for a while there are no others."""
    with storm(far_stack, ledger, "cut"):
        for _ in range(3):
            database_proxy.cut(refuse=True)
            time.sleep(0.7)
            database_proxy.speak()
            time.sleep(0.7)


def test_the_network_to_the_database_falls_silent(
    far_stack: Stack, ledger: Ledger, database_proxy: Proxy
) -> None:
    """No byte passes for longer than the lease, and then all that was held back: a zombie's dream."""
    with storm(far_stack, ledger, "silent"):
        database_proxy.silence()
        time.sleep(float(LEASE) * 2)
        database_proxy.speak()


def test_every_connection_is_terminated(
    far_stack: Stack, ledger: Ledger, postgres_server: PostgresServer
) -> None:
    """The administrator ends them, several times."""
    with (
        storm(far_stack, ledger, "terminated"),
        psycopg.connect(postgres_server.admin_dsn(), autocommit=True) as connection,
    ):
        for _ in range(5):
            connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'far'")
            time.sleep(0.3)
