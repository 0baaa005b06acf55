"""A sticky value has one draw of its own: for ever, at every share, and independent of other nodes."""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate, pairwise

from hypothesis import given
from hypothesis import strategies as st

from reflux.core.route import DIGEST_BYTES, TOTAL_WEIGHT, sticky_digest, sticky_draw

NODES = st.text(alphabet="abcdefghij.", min_size=1, max_size=20)
VALUES = st.binary(max_size=200)
SHARES = st.lists(st.integers(0, TOTAL_WEIGHT), min_size=2, max_size=6).map(sorted)


def chosen(draw: int, *weights: int) -> int:
    """Which of the targets Envoy takes: cumulative, in order."""
    return bisect_right(list(accumulate(weights)), draw)


@given(NODES, st.text(max_size=20), VALUES, SHARES)
def test_whoever_is_on_a_growing_canary_stays_there(
    node: str, salt: str, value: bytes, shares: list[int]
) -> None:
    """However far it grows, in however many steps; nobody goes back before it shrinks."""
    number = sticky_draw(sticky_digest(node, salt, value))
    seen = [chosen(number, TOTAL_WEIGHT - share, share) for share in shares]
    assert all(before <= after for before, after in pairwise(seen)), (number, shares, seen)


@given(NODES, st.text(max_size=20), VALUES)
def test_what_is_kept_of_a_value_gives_its_draw_and_not_the_value(node: str, salt: str, value: bytes) -> None:
    """A few bytes, whatever the value's size; the draw can be checked from the journal alone."""
    digest = sticky_digest(node, salt, value)
    assert len(digest) == DIGEST_BYTES
    assert len(value) < 4 or value not in digest
    assert 0 <= sticky_draw(digest) < TOTAL_WEIGHT
    assert digest == sticky_digest(node, salt, value)


@given(NODES, NODES, st.text(max_size=20), VALUES)
def test_digests_of_two_nodes_or_salts_cannot_be_joined(
    node: str, other: str, salt: str, value: bytes
) -> None:
    """The same customer is another digest elsewhere."""
    assert (sticky_digest(node, salt, value) == sticky_digest(other, salt, value)) == (node == other)
    assert sticky_digest(node, salt, value) != sticky_digest(node, salt + "x", value)


def _correlated(pairs: list[tuple[int, int]]) -> bool:
    """Whether both draws fall into the upper half together more or less often than chance allows."""
    both = sum(x >= TOTAL_WEIGHT // 2 and y >= TOTAL_WEIGHT // 2 for x, y in pairs)
    return abs(both - len(pairs) / 4) >= 3.5 * (len(pairs) * 3 / 16) ** 0.5


def test_two_nodes_do_not_share_their_luck() -> None:
    """Of 10,000 customers those on the canary of one node are no others, and no fewer, on that of another."""
    customers = [f'"customer-{number}"'.encode() for number in range(10_000)]

    def draws(node: str, salt: str) -> list[int]:
        return [sticky_draw(sticky_digest(node, salt, each)) for each in customers]

    one = draws("payment.charge", "")
    assert not _correlated(list(zip(one, draws("email.send", ""), strict=True)))
    assert not _correlated(list(zip(one, draws("payment.charge", "another"), strict=True)))
    assert _correlated(list(zip(one, draws("payment.charge", ""), strict=True))), "the check would see it"
    share = sum(draw >= 9_000 for draw in one)
    assert abs(share - 1_000) < 3.5 * (1_000 * 0.9) ** 0.5


def test_a_sticky_draw_is_the_same_for_ever() -> None:
    """Pinned: another result is another function, and every user would change places."""
    digest = sticky_digest("payment.charge", "salt", b'"ada"')
    assert (digest.hex(), sticky_draw(digest)) == ("67cb51be34a709e5cd19b00830362798", 8949)
