"""A link, a browser, an answer: what a person sees who has nothing but the link of an approval.

Through the edge, with a real Chromium where one is on PATH.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.chromium import Page, chromium_program, running_chromium

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.rest import Rest
    from tests.support.stack import Stack

needs_chromium = pytest.mark.skipif(chromium_program() is None, reason="no Chromium on PATH")
MESSAGE = "Pay {{ input.amount }} EUR?\n<img src=x onerror=\"document.title='owned'\">"
FORM = {
    "type": "object",
    "required": ["limit", "why"],
    "properties": {
        "limit": {"type": "integer", "title": "Limit", "minimum": 1, "multipleOf": 5},
        "why": {"type": "string", "enum": ["late", "<b>lost</b>"]},
        "note": {"type": "string", "maxLength": 500, "default": "as agreed"},
        "today": {"type": "boolean", "description": "Costs more."},
        "lines": {"type": "array", "items": {"type": "integer"}},
        "big": {"type": "integer"},
    },
}


def asking(rest: Rest, name: str, **approve: Any) -> tuple[str, str]:
    """A run that asks, and then waits for a signal so that it stays; its id and its link."""
    steps = [{"id": "ok", "approve": approve}, {"id": "on", "wait": {"signal": "on"}}]
    rest("PUT", f"/api/flows/{name}?allow_missing=true", {"name": name, "spec": {"steps": steps}}).ok()
    run = rest.post(f"/api/flows/{name}/execute", {"amount": 7})["id"]
    until(rest, run, "ok", "RUNNING")
    return run, rest.get(f"/api/runs/{run}/steps/ok:token")["link"]


def until(rest: Rest, run: str, step: str, state: str) -> dict[str, Any]:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        found = {each["id"]: each for each in rest.get(f"/api/runs/{run}/steps")["steps"]}
        if step in found and found[step]["state"] == state:
            return found[step]
        time.sleep(0.05)
    raise AssertionError(f"{step} never was {state}")


async def shown(page: Page, url: str) -> None:
    """Opens a link, and waits until the form stands there."""
    await page.open(url)
    await page.until("!document.querySelector('#answer').hidden")


async def told(page: Page) -> str:
    """The notice, once there is one."""
    await page.until("!document.querySelector('#notice').hidden")
    return await page.text("#notice")


def test_the_page_is_there_for_everybody(rest: Rest) -> None:
    """Nobody asks who opens it, under whatever name; what it may do is closed."""
    for path, kind in (
        ("/approve", "text/html"),
        ("/approve.js", "text/javascript"),
        ("/approve.css", "text/css"),
    ):
        reply = rest("GET", path, headers={"Host": "flows.example.org"})
        assert (reply.status, reply.headers["content-type"]) == (200, f"{kind}; charset=utf-8")
        assert "default-src 'none'" in reply.headers["content-security-policy"]
    run, link = asking(rest, "linked")
    assert link.startswith("/approve#")
    token = {"token": link.partition("#")[2]}
    asked = rest.post("/api/approvals:show", token, headers={"Host": "flows.example.org"})
    assert (asked["run_id"], asked["run_state"]) == (run, "RUNNING")


@needs_chromium
async def test_a_form_is_filled_in_and_the_run_goes_on(rest: Rest, stack: Stack, tmp_path: Path) -> None:
    """What does not fit is shown where it is; two presses are one answer; the token is in no address sent."""
    run, link = asking(rest, "asks-by-link", form=FORM, message=MESSAGE, who=["ada"], timeout="1h")
    async with running_chromium(tmp_path) as page:
        await shown(page, rest.url + link)
        text = await page.text("main")
        assert "Pay 7 EUR?\n<img src=x onerror" in text
        for part in ("asks-by-link asks for your approval", "Please answer until", run, "ada", "Costs more."):
            assert part in text

        await page.type("#field-0", "52")
        await page.press("Enter", 13, "\r")  # approves nothing: only the buttons do
        await page.click("#approve")
        assert "does not fit" in await told(page)
        assert await page.text("#field-1-error")  # required, and the browser's own words
        await page.run("document.querySelector('#field-1').value = '1'")
        await page.type("#field-4", "[1,")
        await page.click("#approve")
        assert "not JSON" in await page.until("document.querySelector('#field-4-error').textContent")
        assert not [url for url in page.requested if url.endswith(":answer")]

        await page.type("#field-4", "[1, 2]")
        await page.click("#approve")
        violation = await page.until("document.querySelector('#field-0-error').textContent")
        assert "52 is not a multiple of 5" in violation
        assert await page.run("document.activeElement.id") == "field-0"
        assert await page.run("document.activeElement.getAttribute('aria-invalid')") == "true"

        await page.type("#field-0", "55")
        await page.type("#field-5", "9007199254740993")
        await page.click("#field-3")
        await page.type("#by", "Ada <i>L.</i>")
        await page.type("#comment", "fine")
        await page.click("#approve", times=2)
        await page.until("document.querySelector('#title').textContent.startsWith('Approved')")
        facts = await page.text("#facts")
        assert "Ada <i>L.</i>, by this link" in facts
        assert "fine" in facts
        assert [url for url in page.requested if url.endswith(":answer")].__len__() == 2
        assert await page.run("document.title") == "Approved: asks-by-link"
        (complaint,) = (
            page.complaints
        )  # the answer that did not fit; nothing the policy refused, no exception
        assert "400" in complaint
        assert all(link.partition("#")[2] not in url for url in page.requested)
    until(rest, run, "on", "RUNNING")
    output = until(rest, run, "ok", "SUCCEEDED")["output"]
    form = {"limit": 55, "why": "<b>lost</b>", "note": "as agreed", "today": True, "lines": [1, 2]}
    assert (output["approved"], output["form"]) == (True, {**form, "big": 9007199254740993})
    assert (output["by"], output["comment"]) == ("token: Ada <i>L.</i>", "fine")
    assert link.partition("#")[2] not in stack.log("envoy") + stack.log("platform")


@needs_chromium
async def test_what_cannot_be_answered_is_said_in_plain_words(rest: Rest, tmp_path: Path) -> None:
    """Somebody was faster; a link cut off, or without its end; the run ended; the server away, then back."""
    rejected, first = asking(rest, "rejects-by-link")
    cancelled, second = asking(rest, "ends-meanwhile")
    async with running_chromium(tmp_path) as page:
        small = {"width": 360, "height": 420, "deviceScaleFactor": 1, "mobile": True}
        await page.call("Emulation.setDeviceMetricsOverride", **small)
        await shown(page, rest.url + first)
        assert await page.run("document.documentElement.scrollWidth <= window.innerWidth")
        await page.call(
            "Network.emulateNetworkConditions",
            offline=True,
            latency=0,
            downloadThroughput=-1,
            uploadThroughput=-1,
        )
        await page.click("#reject")
        assert "counts once" in await told(page)
        assert await page.run("document.querySelector('#notice').getBoundingClientRect().top >= 0")
        await page.call(
            "Network.emulateNetworkConditions",
            offline=False,
            latency=0,
            downloadThroughput=-1,
            uploadThroughput=-1,
        )
        await page.click("#reject")
        await page.until("document.querySelector('#title').textContent.startsWith('Rejected')")
        assert "somebody, by this link" in await page.text("#facts")

        await shown(page, rest.url + second)
        rest.post(f"/api/runs/{cancelled}:cancel", {"reason": "enough"})
        await page.click("#approve")
        assert "too late" in await told(page)
        assert await page.run("document.querySelector('#answer').hidden")

        await page.open(rest.url + first)
        await page.until("document.querySelector('#title').textContent.startsWith('Rejected')")
        await page.open(rest.url + first[:-2])
        assert "not valid" in await told(page)
        await page.open(rest.url + "/approve")
        assert "not complete" in await told(page)
    assert until(rest, rejected, "ok", "SUCCEEDED")["output"]["approved"] is False


@needs_chromium
async def test_a_form_that_is_made_otherwise_can_be_filled_in(rest: Rest, tmp_path: Path) -> None:
    """References, choices with titles, what only JSON can say, names like those of a script's own objects."""
    both = {"type": ["integer", "string"], "title": "Either"}
    colours = {"oneOf": [{"const": 1, "title": "Red"}, {"const": 2, "title": "Blue"}], "default": 2}
    mixed = {
        "$defs": {"colour": colours},
        "title": "Order",
        "type": "object",
        "required": ["a/b", "missing"],
        "properties": {
            "a/b": {"$ref": "#/$defs/colour", "title": "Colour"},
            "__proto__": {"type": "number"},
            "either": both,
            "share": {"type": "number", "exclusiveMinimum": 0, "maximum": 1, "default": 0.25},
        },
    }
    drawn, first = asking(rest, "drawn", form=mixed)
    written, second = asking(rest, "written", form={"type": "array", "minItems": 2})
    free, third = asking(rest, "free", form={"type": "object"})
    async with running_chromium(tmp_path) as page:
        await shown(page, rest.url + first)
        labels = await page.run("Array.from(document.querySelectorAll('label'), (each) => each.innerText)")
        assert labels[:4] == ["Colour required", "__proto__", "Either", "share"]
        assert "Order" in await page.text("#fields")
        await page.type("#field-1", ".5")
        await page.type("#field-3", "0")
        await page.type("#field-4", "[null]")
        await page.click("#approve")
        assert "minimum" in await page.until("document.querySelector('#field-3-error').textContent")
        await page.type("#field-3", "1")
        await page.click("#approve")
        await page.until("document.querySelector('#title').textContent.startsWith('Approved')")

        await shown(page, rest.url + second)
        await page.type("#field-0", "[1]")
        await page.click("#approve")
        await page.until("document.querySelector('#field-0-error').textContent")
        await page.type("#field-0", "[1, 2]")
        await page.click("#approve")
        await page.until("document.querySelector('#title').textContent.startsWith('Approved')")

        await shown(page, rest.url + third)
        assert await page.run("document.querySelector('#fields').childElementCount") == 0
        await page.click("#approve")
        await page.until("document.querySelector('#title').textContent.startsWith('Approved')")
        assert len(page.complaints) == 2, "the two answers that did not fit"
    filled = {"a/b": 2, "__proto__": 0.5, "share": 1, "missing": [None]}
    for run, form in ((drawn, filled), (written, [1, 2]), (free, None)):
        assert until(rest, run, "ok", "SUCCEEDED")["output"]["form"] == form


@needs_chromium
async def test_of_two_people_the_second_learns_who_was_first(rest: Rest, tmp_path: Path) -> None:
    """His answer changes nothing, and he sees the one that counts."""
    run, link = asking(rest, "answered-twice", message="Shall we?")
    async with running_chromium(tmp_path) as page:
        await shown(page, rest.url + link)
        first = {"token": link.partition("#")[2], "approved": True, "by": "Bob", "comment": "go"}
        rest.post("/api/approvals:answer", first)
        await page.click("#reject")
        assert "somebody was faster" in await told(page)
        assert await page.text("#title") == "Approved: answered-twice"
        assert "Bob, by this link" in await page.text("#facts")
    assert until(rest, run, "ok", "SUCCEEDED")["output"]["by"] == "token: Bob"
