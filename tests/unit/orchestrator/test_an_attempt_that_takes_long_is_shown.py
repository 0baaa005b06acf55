"""An attempt that is over at once shows nothing; a slower one what it waits for, or that it is under way."""

import asyncio

import pytest

from reflux.orchestrator import showing as module
from reflux.orchestrator.showing import Showing


@pytest.fixture(autouse=True)
def _soon(monkeypatch):
    monkeypatch.setattr(module, "SLOW_SECONDS", 0.01)


def _showing(*, pure=True):
    shown: list[str] = []
    return Showing((lambda: shown.append("slow")) if pure else None, shown.append), shown


async def test_one_that_is_over_at_once_shows_nothing():
    """Whatever it waited for in between."""
    showing, shown = _showing()
    showing.waits("a place")
    showing.leaves()
    showing.over()
    await asyncio.sleep(0.05)
    assert shown == []


async def test_one_that_is_under_way_for_long_shows_that_once():
    """As before, whatever happened before it left."""
    showing, shown = _showing()
    showing.waits("a place")
    showing.leaves()
    await asyncio.sleep(0.05)
    assert shown == ["slow"]


async def test_one_that_waits_shows_for_what_and_later_that_it_has_left():
    """Each reason once, at once when it changes."""
    showing, shown = _showing()
    showing.waits("a token")
    await asyncio.sleep(0.05)
    showing.waits("a token")
    showing.waits("a place")
    assert shown == ["a token", "a place"]
    showing.leaves()
    assert shown == ["a token", "a place"]
    await asyncio.sleep(0.05)
    assert shown == ["a token", "a place", "slow"]
    await asyncio.sleep(0.05)
    assert len(shown) == 3


async def test_one_whose_start_is_shown_anyway_takes_back_what_it_waited_for():
    """And says nothing where it has waited for nothing."""
    showing, shown = _showing(pure=False)
    showing.leaves()
    await asyncio.sleep(0.05)
    assert shown == []
    showing, shown = _showing(pure=False)
    showing.waits("a place")
    await asyncio.sleep(0.05)
    showing.leaves()
    await asyncio.sleep(0.05)
    assert shown == ["a place", ""]


async def test_after_its_end_nothing_is_shown():
    """Also when it had been shown as waiting."""
    showing, shown = _showing()
    showing.waits("a place")
    await asyncio.sleep(0.05)
    showing.leaves()
    showing.over()
    await asyncio.sleep(0.05)
    assert shown == ["a place"]
