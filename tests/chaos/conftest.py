"""What all tests of faults share: the ledger, and places where orchestrators end when they are told to."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from reflux.cli.stack.postgres import PostgresServer
from tests.chaos.arena import Arena
from tests.chaos.crashing import Nursery, nursery
from tests.support.ledger import Ledger, running_ledger


@pytest.fixture(scope="session")
def ledger() -> Iterator[Ledger]:
    """The outside world."""
    with running_ledger() as ledger:
        yield ledger


@pytest.fixture(scope="session")
def forks() -> Iterator[Nursery]:
    """Where orchestrators come from."""
    with nursery() as made:
        yield made


@pytest.fixture
def arena(
    forks: Nursery,
    postgres_server: PostgresServer,
    template_database: str,
    valkey_url: str,
    ledger: Ledger,
    tmp_path: Path,
) -> Arena:
    """Plays scenarios, several at a time."""
    return Arena(forks, postgres_server, template_database, valkey_url, ledger, tmp_path)
