"""Which name was meant: for messages, so never at any price."""

from __future__ import annotations

import difflib
from itertools import islice
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

_SPELT: Final = 40
"""Characters of a name whose spelling is looked at: comparing takes as long as the lengths multiplied."""

_CHOICES: Final = 100
"""Names that are looked at."""


def most_similar(word: str, known: Iterable[str]) -> str | None:
    """The name that is spelt most like `word`; None when none is near."""
    if len(word) > _SPELT:
        return None
    names = [name for name in islice(known, _CHOICES) if len(name) <= _SPELT]
    return next(iter(difflib.get_close_matches(word, names, n=1)), None)
