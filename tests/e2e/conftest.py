"""Whole stacks, as people run them: the same tests for all nodes in one process, and for a process each."""

from collections.abc import Iterator

import pytest

from tests.support.ledger import Ledger, running_ledger
from tests.support.rest import Rest
from tests.support.stack import Stack, running_stack


@pytest.fixture(scope="session", params=["monolith", "processes"])
def stack(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A running stack of either kind."""
    options = ("--processes",) if request.param == "processes" else ()
    with running_stack(tmp_path_factory.mktemp(request.param) / "data", *options) as stack:
        yield stack


@pytest.fixture
def rest(stack: Stack) -> Rest:
    """REST through the edge."""
    return stack.rest


@pytest.fixture
def edge_url(stack: Stack) -> str:
    """host:port of the edge, for gRPC clients."""
    return stack.edge


@pytest.fixture(scope="session")
def ledger() -> Iterator[Ledger]:
    """The outside world."""
    with running_ledger() as ledger:
        yield ledger
