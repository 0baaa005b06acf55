"""The README's curl lines and the API's operations cover each other."""

from __future__ import annotations

import re
from pathlib import Path

from reflux.gateway import openapi

README = Path(__file__).parents[3] / "gateway" / "README.md"
CURL = re.compile(r'curl (?:-\w )*?(?:-X (?P<verb>[A-Z]+) )?"\$R(?P<path>/[^"?]*)')


def test_each_operation_has_a_curl_line_and_each_line_an_operation() -> None:
    """Who adds a call shows how to make it; an example never names a path that is gone."""
    lines = {
        ((found["verb"] or "GET").lower(), found["path"])
        for found in CURL.finditer(README.read_text(encoding="utf-8"))
    } - {("get", "/")}
    operations = {(verb, path) for path, item in openapi.document()["paths"].items() for verb in item}
    shown = {(verb, path) for verb, path in operations if any(_fits(verb, path, line) for line in lines)}
    assert shown == operations
    assert all(any(_fits(verb, path, line) for verb, path in operations) for line in lines)


def _fits(verb: str, path: str, line: tuple[str, str]) -> bool:
    pattern = re.sub(r"\\\{\w+\\\}", "[^/:]+", re.escape(path))
    return line[0] == verb and re.fullmatch(pattern, line[1]) is not None
