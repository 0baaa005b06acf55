"""The closed list of reasons and its documentation for users are the same list."""

import re
from pathlib import Path

from reflux.core.reasons import Reason

README = Path(__file__).parents[3] / "gateway" / "README.md"
ROW = re.compile(r"^\| `([A-Z_]+)` \| (.+) \|$", re.MULTILINE)


def test_the_readme_explains_each_reason_once() -> None:
    """Who meets a reason finds what it means and what to do; what is gone from the list is gone here."""
    rows = ROW.findall(README.read_text(encoding="utf-8"))
    assert sorted(name for name, _ in rows) == sorted(Reason)
    assert all(text[0].isupper() and text.endswith(".") for _, text in rows)
