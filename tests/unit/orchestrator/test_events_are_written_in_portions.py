"""What one statement carries is bounded, whoever writes it."""

from reflux.orchestrator.store.portions import PORTION_BYTES, PORTION_ROWS, portions


def test_nothing_is_lost_doubled_or_reordered():
    """The portions, one after the other, are what was given."""
    payloads = [bytes([number % 251]) * (number * 997 % 200_000) for number in range(300)]
    parts = portions(payloads)
    assert [payload for part in parts for payload in part] == payloads
    assert len(parts) > 1


def test_no_portion_is_too_large():
    """In bytes, unless one event alone is; and in rows, however small they are."""
    large = portions([b"x" * 1_000_000] * 10)
    assert [sum(map(len, part)) <= PORTION_BYTES for part in large] == [True] * len(large)
    small = portions([b""] * (2 * PORTION_ROWS + 1))
    assert [len(part) for part in small] == [PORTION_ROWS, PORTION_ROWS, 1]
    assert portions([b"x" * (2 * PORTION_BYTES), b"y"]) == [[b"x" * (2 * PORTION_BYTES)], [b"y"]]


def test_no_event_is_one_portion():
    """Words and the row may be written without any event."""
    assert portions([]) == [[]]


def test_what_is_tied_is_never_parted():
    """Neither by bytes nor by rows; what is around it is divided as always."""
    half = PORTION_BYTES // 2
    assert portions([b"x" * half, b"y" * half, b"z" * half], {1}) == [
        [b"x" * half],
        [b"y" * half, b"z" * half],
    ]
    rows = [b"%d" % number for number in range(PORTION_ROWS + 1)]
    parts = portions(rows, {PORTION_ROWS - 1})
    assert [len(part) for part in parts] == [PORTION_ROWS - 1, 2]
    assert [payload for part in parts for payload in part] == rows
