"""Tokens of pages: what a list did not make is refused."""

from __future__ import annotations

import pytest

from reflux.core.errors import InvalidArgument
from reflux.core.reasons import Reason
from reflux.runtime import pages


def test_a_token_holds_its_place():
    """And fits the list it was made for."""
    token = pages.write_token("steps", "100")
    assert pages.read_token("steps", token, first=0, parse=pages.place) == 100
    assert pages.read_token("steps", "", first=0, parse=pages.place) == 0


@pytest.mark.parametrize("key", ["-1", str(1 << 31), "9" * 5_000, "", "one", "1.0"])
def test_a_place_that_no_list_has_is_refused(key):
    """Somebody wrote the token."""
    with pytest.raises(InvalidArgument) as refused:
        pages.read_token("steps", pages.write_token("steps", key), first=0, parse=pages.place)
    assert refused.value.reason is Reason.PAGE_TOKEN_INVALID
