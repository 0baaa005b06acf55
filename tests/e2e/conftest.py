"""Whole stacks, as people run them: all nodes in one process, or a process each.

A test runs on the first kind; a file to which the second may matter runs on either kind, with
`pytestmark = pytest.mark.parametrize("stack", ["monolith", "processes"], indirect=True)`. One of each is
enough for a session: a fixture with parameters of its own is torn down whenever another one is asked for.
"""

from collections.abc import Iterator

import pytest

from tests.support.ledger import Ledger, running_ledger
from tests.support.rest import Rest
from tests.support.stack import Stack, running_stack


@pytest.fixture(scope="session")
def monolith(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack with all nodes in one process."""
    with running_stack(tmp_path_factory.mktemp("monolith") / "data") as stack:
        yield stack


@pytest.fixture(scope="session")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack with a process for each node version."""
    with running_stack(tmp_path_factory.mktemp("processes") / "data", "--processes") as stack:
        yield stack


@pytest.fixture
def stack(request: pytest.FixtureRequest) -> Stack:
    """A running stack: of the kind that is asked for, else the monolith."""
    running: Stack = request.getfixturevalue(getattr(request, "param", "monolith"))
    return running


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
