"""Old and new orchestrators side by side on one database: that is what an upgrade is.

The old one is the code of a former commit, taken from the history; it was there before the releases of
journals were counted.
"""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from reflux.cli.stack.ports import free_ports
from reflux.runtime import rpc
from reflux.runtime.settings import Address
from tests.chaos.corpus import CORPUS, Case
from tests.chaos.crashing import PATIENCE, judge, world
from tests.support.ledger import Ledger
from tests.support.scripted_mesh import Client, running_mesh

pytestmark = pytest.mark.timeout(600)

FORMER = "fa495535b1775860030d33c3965b6c76f45a6f43"
"""The last commit whose orchestrator knew nothing of releases."""
ROOT = Path(__file__).parents[2]
RUNS = 4
"""Of each flow, at each stage."""


@pytest.fixture(scope="module")
def former(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source root of the former release."""
    folder = tmp_path_factory.mktemp("former")
    archive = subprocess.run(
        ("git", "archive", FORMER, "services"), cwd=ROOT, capture_output=True, check=False
    )
    if archive.returncode != 0:
        pytest.skip("this checkout has no history")
    subprocess.run(("tar", "-x", "-C", str(folder)), input=archive.stdout, check=True)
    return folder / "services"


def environment_of(settings: dict[str, Any], source: Path) -> dict[str, str]:
    """Settings as a process gets them, and where its code is."""
    given = {f"REFLUX_{name.upper()}": str(value) for name, value in settings.items()}
    return {**os.environ, **given, "PYTHONPATH": str(source)}


def migrate(settings: dict[str, Any], source: Path, folder: Path) -> None:
    """Brings the database to the release of that code."""
    command = (sys.executable, "-m", "reflux.cli", "migrate")
    subprocess.run(command, env=environment_of(settings, source), cwd=folder, check=True)


@asynccontextmanager
async def orchestrator(settings: dict[str, Any], source: Path, log: Path) -> AsyncIterator[Client]:
    """A process of that code, drained after the block."""
    address = Address("127.0.0.1", free_ports(1)[0])
    environment = environment_of({**settings, "orchestrator_address": address}, source)
    command = (sys.executable, "-m", "reflux.cli", "serve", "orchestrator")
    with log.open("wb") as sink:
        process = subprocess.Popen(command, env=environment, cwd=log.parent, stdout=sink, stderr=sink)
    try:
        async with rpc.channel(address) as channel:
            yield Client(address, channel)
    finally:
        process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait, 30) == 0, log.read_text()


async def save(client: Client) -> dict[str, str]:
    """The corpus, by the one that is asked first; ids by name."""
    async with asyncio.timeout(60):
        while True:
            try:
                return {case.name: await client.save(case.name, *case.steps) for case in CORPUS}
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise
                await asyncio.sleep(0.1)


async def start(client: Client, flows: dict[str, str], stage: str) -> list[tuple[Case, str]]:
    """Runs of every flow, each asked for until it is accepted."""

    async def one(case: Case, number: int) -> tuple[Case, str]:
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    request_id = f"{stage}-{number}"
                    run = await client.start(flows[case.name], {"n": number}, request_id=request_id)
                    return case, str(run["id"])
                except grpc.aio.AioRpcError as error:
                    if error.code() is not grpc.StatusCode.UNAVAILABLE:
                        raise
                    await asyncio.sleep(0.1)

    return await asyncio.gather(*(one(case, number) for case in CORPUS for number in range(RUNS)))


async def test_old_and_new_share_the_work_until_the_old_one_leaves(
    former: Path, empty_dsn: str, valkey_url: str, ledger: Ledger, tmp_path: Path
) -> None:
    """Started before, during and after the change: every run ends well, whoever began it."""
    ours = ROOT / "services"
    async with running_mesh() as mesh, world(ledger, mesh), AsyncExitStack() as newer:
        settings = {
            "postgres_dsn": empty_dsn,
            "redis_url": valkey_url,
            "lease_seconds": 2.0,
            "shards": 8,
            **{f"{name}_address": mesh.address for name in ("mesh", "registry", "controlplane")},
        }
        migrate(settings, former, tmp_path)
        async with orchestrator(settings, former, tmp_path / "old.log") as old:
            flows = await save(old)
            runs = await start(old, flows, "before")
            migrate(settings, ours, tmp_path)
            new = await newer.enter_async_context(orchestrator(settings, ours, tmp_path / "new.log"))
            runs += await start(old, flows, "beside")
            runs += await start(new, flows, "with")
        # The old one has left, as it does in an upgrade; what it had in hand is the new one's.
        runs += await start(new, flows, "after")
        for case, run_id in runs:
            final = await new.until(run_id, "SUCCEEDED", "FAILED", "CANCELED", "PARKED", seconds=PATIENCE)
            assert judge(case, final, await new.events(run_id), ledger, [run_id]) == []
            assert final["state"] == "SUCCEEDED", final
