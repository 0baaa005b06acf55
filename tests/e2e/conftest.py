"""Whole stacks, as people run them: all nodes in one process, or a process each.

A test runs on the first kind; a file to which the second may matter runs on either kind, with
`pytestmark = pytest.mark.parametrize("stack", ["monolith", "processes"], indirect=True)`.
"""

from collections.abc import Iterator

import pytest

from tests.support.ledger import Ledger, running_ledger
from tests.support.rest import Rest
from tests.support.stack import Stack, running_stack


@pytest.fixture(scope="session")
def stack(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A running stack: of the kind that is asked for, else with all nodes in one process."""
    kind = getattr(request, "param", "monolith")
    options = ("--processes",) if kind == "processes" else ()
    with running_stack(tmp_path_factory.mktemp(kind) / "data", *options) as stack:
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
