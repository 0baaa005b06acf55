"""Draws and idempotency keys: functions fixed for ever; journals and providers remember their results."""

from __future__ import annotations

from collections import Counter

import pytest

from reflux.core.route import TOTAL_WEIGHT, draw, idempotency_key
from tests.support.walk import RUN


@pytest.mark.parametrize(
    ("node", "step", "attempt", "number"),
    [
        ("http.request", "fetch", 1, 3164),
        ("http.request", "fetch", 2, 2123),
        ("http.request", "lines[3]/price", 1, 1524),
        ("ai.chat", "fetch", 1, 2191),
    ],
)
def test_a_draw_is_the_same_for_ever(node, step, attempt, number):
    """Pinned numbers: another result is another function, and old journals would tell lies."""
    assert draw(node, RUN, step, attempt) == number


@pytest.mark.parametrize(
    ("step", "generation", "key"),
    [
        ("charge", 0, "51cda28a5aa0103529c4c8782c752cb23f15ef175ccb03e0327587346f845bf0"),
        ("charge", 1, "0019b88606bccc789b439fa912daa62b7aa8efa4e36d5b2c284975ba2848d810"),
        ("lines[3]/price", 0, "4a3952b8a1e584d531debe6245c0e3a9be0b527d1d050560f260399810838441"),
    ],
)
def test_a_key_is_the_same_for_ever(step, generation, key):
    """sha256 of run, step path and generation, each on a line of its own."""
    assert idempotency_key(RUN, step, generation) == key


def test_draws_are_uniform():
    """Over runs, steps and attempts, twenty classes of 1,000 draws stay within 3.5 standard deviations."""
    draws = [draw("x", f"run-{n % 100}", f"step-{n // 100 % 40}", 1 + n // 4000) for n in range(20_000)]
    assert min(draws) >= 0
    assert max(draws) < TOTAL_WEIGHT
    classes = Counter(number * 20 // TOTAL_WEIGHT for number in draws)
    assert all(abs(classes[number] - 1000) < 3.5 * (1000 * 0.95) ** 0.5 for number in range(20))


def test_a_share_of_the_weight_is_that_share_of_the_draws():
    """10 % of the basis points get 10 % of the attempts."""
    hits = sum(draw("x", f"run-{n}", "a", 1) < TOTAL_WEIGHT // 10 for n in range(10_000))
    assert abs(hits - 1000) < 3.5 * (1000 * 0.9) ** 0.5


def test_nodes_do_not_share_their_luck():
    """The same step of the same run draws independently for two nodes, and for two attempts."""
    pairs = [(draw("x", f"run-{n}", "a", 1), draw("y", f"run-{n}", "a", 1)) for n in range(4_000)]
    both = sum(x < 5000 and y < 5000 for x, y in pairs)
    assert abs(both - 1000) < 3.5 * (1000 * 0.75) ** 0.5
    assert draw("x", RUN, "a", 1) != draw("x", RUN, "a", 2)


def test_no_two_names_make_the_same_key():
    """Parts are kept apart: a step's name can never run into a generation."""
    keys = {idempotency_key(RUN, step, generation) for step in ("a", "a1", "b") for generation in (0, 1, 11)}
    assert len(keys) == 9
