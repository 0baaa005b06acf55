"""The page behind an approval's link: what is served, and what it is not allowed to do."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.unit.gateway.conftest import Gateway

FILES = {"/approve": "text/html", "/approve.css": "text/css", "/approve.js": "text/javascript"}


async def read(gateway: Gateway, path: str) -> str:
    async with gateway.client.get(path) as response:
        assert response.status == 200
        return await response.text()


@pytest.mark.parametrize("path", FILES)
async def test_every_file_closes_what_a_page_may_do(gateway: Gateway, path: str) -> None:
    """Its own script, its own origin, nothing else; in no frame; no address of it goes to others."""
    for _ in range(2):  # the answer is one object, and sent more than once
        async with gateway.client.get(path) as response:
            assert (response.status, response.content_type, response.charset) == (200, FILES[path], "utf-8")
            policy = dict(
                each.strip().split(" ", 1) for each in response.headers["content-security-policy"].split(";")
            )
            assert policy == {
                "default-src": "'none'",
                "script-src": "'self'",
                "style-src": "'self'",
                "connect-src": "'self'",
                "frame-ancestors": "'none'",
                "base-uri": "'none'",
                "form-action": "'none'",
            }
            assert response.headers["referrer-policy"] == "no-referrer"
            assert response.headers["x-content-type-options"] == "nosniff"
            assert response.headers["cache-control"] == "no-cache"
            assert len(await response.read()) > 500


async def test_the_page_loads_what_is_served_beside_it_and_nothing_else(gateway: Gateway) -> None:
    """Self-contained: no address of somebody else, nothing that the policy would refuse."""
    page, style, script = [await read(gateway, path) for path in FILES]
    assert set(re.findall(r'(?:src|href)="([^"]*)"', page)) == {"approve.css", "approve.js"}
    assert not re.search(r"<style|<script>|\son\w+=|\sstyle=", page)
    for text in (page, style, script):
        assert not re.search(r"https?://|url\(|@import|import\(", text)


async def test_nothing_a_flow_says_is_read_as_a_page(gateway: Gateway) -> None:
    """Text is set as text: the script has no way to make markup or code out of it."""
    script = await read(gateway, "/approve.js")
    ways = r"(inner|outer|set)HTML|insertAdjacent|document\.write|\beval\b|new Function|DOMParser|srcdoc"
    assert not re.search(ways, script)


@pytest.mark.parametrize("path", FILES)
async def test_the_files_are_only_read(gateway: Gateway, path: str) -> None:
    """Nothing is sent to the page itself."""
    async with gateway.client.post(path, data=b"x") as response:
        assert response.status == 405
