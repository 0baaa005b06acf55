"""What all tests of faults share: the ledger, and places where orchestrators end when they are told to."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from reflux.cli.stack.postgres import PostgresServer
from tests.chaos.arena import Arena, Databases
from tests.chaos.crashing import Nursery, nursery
from tests.support.ledger import Ledger, running_ledger
from tests.support.postgres import fresh_database


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
def databases(postgres_server: PostgresServer, template_database: str) -> Databases:
    """Fresh, migrated databases, one for each block."""
    return partial(fresh_database, postgres_server, template_database)


@pytest.fixture
def arena(forks: Nursery, databases: Databases, valkey_url: str, ledger: Ledger, tmp_path: Path) -> Arena:
    """Plays scenarios, several at a time."""
    return Arena(forks, databases, valkey_url, ledger, tmp_path)
