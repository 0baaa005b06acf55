"""Providers of language models, played by a process of their own."""

import pytest

from tests.support.provider import environment_of, running_provider
from tests.unit.nodes.chat import VERSIONS


@pytest.fixture(scope="session")
def process():
    """One process plays all of them."""
    with running_provider() as process:
        yield process


@pytest.fixture
def provider(process, monkeypatch):
    """The process, well, and found by the versions of this test."""
    for name in VERSIONS:
        process.tell(name)
    for name, value in environment_of(openai=process, anthropic=process).items():
        monkeypatch.setenv(name, value)
    return process
