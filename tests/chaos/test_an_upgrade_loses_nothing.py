"""Old and new orchestrators side by side on one database: that is what an upgrade is.

The old one is the code of a former commit, taken from the history; it was there before the releases of
journals were counted.
"""

import asyncio
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.corpus import CORPUS, Case
from tests.chaos.crashing import judge, world
from tests.support.ledger import Ledger
from tests.support.orchestrators import (
    PATIENCE,
    SOURCE,
    Orchestrators,
    environment_of,
    insist,
    orchestrators,
    store_settings,
)
from tests.support.scripted_mesh import Client, running_mesh

pytestmark = pytest.mark.timeout(600)

FORMER = "fa495535b1775860030d33c3965b6c76f45a6f43"
"""The last commit whose orchestrator knew nothing of releases."""
KNOWN = [case for case in CORPUS if not case.policies]
"""What the former one can do: it knew no limits of flows."""
RUNS = 4
"""Of each flow, at each stage."""


@pytest.fixture(scope="module")
def former(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source root of the former release."""
    folder = tmp_path_factory.mktemp("former")
    archive = subprocess.run(
        ("git", "archive", FORMER, "services"), cwd=SOURCE.parent, capture_output=True, check=False
    )
    if archive.returncode != 0:
        pytest.skip("this checkout has no history")
    subprocess.run(("tar", "-x", "-C", str(folder)), input=archive.stdout, check=True)
    return folder / "services"


def migrate(settings: dict[str, Any], source: Path, folder: Path) -> None:
    """Brings the database to the release of that code."""
    command = (sys.executable, "-m", "reflux.cli", "migrate")
    subprocess.run(command, env=environment_of(settings, source), cwd=folder, check=True)


async def save(client: Client) -> dict[str, str]:
    """The corpus, by the one that is asked first; ids by name."""
    return {case.name: await insist(partial(client.save, case.name, *case.steps)) for case in KNOWN}


async def start(some: Orchestrators, flows: dict[str, str], stage: str) -> list[tuple[Case, str]]:
    """Runs of every flow, each asked for until it is accepted."""

    async def one(case: Case, number: int) -> tuple[Case, str]:
        given = {"n": number}
        return case, await some.start(number, flows[case.name], given, f"{stage}-{number}")

    return await asyncio.gather(*(one(case, number) for case in KNOWN for number in range(RUNS)))


async def test_old_and_new_share_the_work_until_the_old_one_leaves(
    former: Path, empty_dsn: str, valkey_url: str, ledger: Ledger, tmp_path: Path
) -> None:
    """Started before, during and after the change: every run ends well, whoever began it."""
    async with running_mesh() as mesh, world(ledger, mesh):
        settings = store_settings(empty_dsn, valkey_url, mesh.address)
        async with (
            orchestrators(settings, tmp_path, former) as older,
            orchestrators(settings, tmp_path) as newer,
        ):
            migrate(settings, former, tmp_path)
            flows = await save(await older.serving("old"))
            runs = await start(older, flows, "before")
            migrate(settings, SOURCE, tmp_path)
            new = await newer.serving("new")
            runs += await start(older, flows, "beside")
            runs += await start(newer, flows, "with")
            await older.drained("old")
            # It has left, as it does in an upgrade; what it had in hand is the new one's.
            runs += await start(newer, flows, "after")
            for case, run_id in runs:
                final = await new.until(run_id, "SUCCEEDED", "FAILED", "CANCELED", "PARKED", seconds=PATIENCE)
                assert judge(case, final, await new.events(run_id), ledger, [run_id]) == []
                assert final["state"] == "SUCCEEDED", final
            await newer.drained("new")
