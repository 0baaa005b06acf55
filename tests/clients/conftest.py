"""Client examples are built and run by `make clients` only: builds take minutes and need many toolchains."""

import os
from collections.abc import Iterator

import pytest

from tests.clients.cut import CutOnce
from tests.support.stack import Stack, running_stack

collect_ignore_glob = [] if os.environ.get("TEST_CLIENTS") else ["test_*.py"]


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """One stack for all languages."""
    with running_stack(tmp_path_factory.mktemp("clients") / "data") as stack:
        yield stack


@pytest.fixture
def cut(stack: Stack) -> Iterator[CutOnce]:
    """The same stack, behind something that breaks the first watch in the middle."""
    with CutOnce(stack.edge) as cut:
        yield cut
