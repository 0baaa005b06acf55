"""A real Chromium without a window, where one is on PATH, driven over its DevTools protocol.

https://chromedevtools.github.io/devtools-protocol/: JSON over a websocket. What a person does is done as
input events, so that what is covered, disabled or out of reach cannot be pressed.
"""

import asyncio
import itertools
import json
import os
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

SECONDS = 60.0
_PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "chrome")


def chromium_program() -> str | None:
    """Where it is; None when it is not installed."""
    return next((found for name in _PROGRAMS if (found := shutil.which(name))), None)


@dataclass(slots=True)
class Page:
    """A tab. Elements are named by CSS selectors; a missing one fails the call."""

    socket: aiohttp.ClientWebSocketResponse
    requested: list[str] = field(default_factory=list)
    """Every URL that was asked for since the tab was opened, as it went out."""
    complaints: list[str] = field(default_factory=list)
    """What the console shows as an error: refused by the policy, or thrown by a script."""
    _ids: Any = field(default_factory=lambda: itertools.count(1))

    async def call(self, method: str, **parameters: Any) -> Any:
        """A command and its result."""
        number = next(self._ids)
        await self.socket.send_json({"id": number, "method": method, "params": parameters})
        async with asyncio.timeout(SECONDS):
            while True:
                message = await self.socket.receive_json()
                self._note(message)
                if message.get("id") == number:
                    assert "error" not in message, message["error"]
                    return message["result"]

    async def run(self, script: str) -> Any:
        """The value of an expression in the page."""
        result = await self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    async def open(self, url: str) -> None:
        """Goes to another page, also when only the fragment differs."""
        await self.call("Page.navigate", url="about:blank")
        await self.call("Page.navigate", url=url)

    async def until(self, script: str) -> Any:
        """The value of an expression once it is true. What fails is not true yet: a page comes in pieces."""
        deadline = asyncio.get_running_loop().time() + SECONDS
        while not (
            value := await self.run(f"(() => {{ try {{ return {script}; }} catch {{ return null; }} }})()")
        ):
            if asyncio.get_running_loop().time() > deadline:
                shown = await self.run("document.body.innerText")
                raise AssertionError(f"never true: {script}; the page shows {shown!r}; {self.complaints}")
            await asyncio.sleep(0.05)
        return value

    async def text(self, selector: str) -> str:
        """What is to be read there."""
        return str(await self.run(f"document.querySelector({json.dumps(selector)}).innerText"))

    async def click(self, selector: str, *, times: int = 1) -> None:
        """Presses the left button in the middle of an element, so many times in a row."""
        x, y = await self.run(
            f"(() => {{ const found = document.querySelector({json.dumps(selector)});"
            " found.scrollIntoView({block: 'center'}); const box = found.getBoundingClientRect();"
            " return [box.x + box.width / 2, box.y + box.height / 2]; })()"
        )
        for count in range(1, times + 1):
            for kind in ("mousePressed", "mouseReleased"):
                at = {"x": x, "y": y, "button": "left", "clickCount": count}
                await self.call("Input.dispatchMouseEvent", type=kind, **at)

    async def type(self, selector: str, text: str) -> None:
        """Replaces what stands in a field by `text`, as a keyboard does."""
        await self.run(
            f"(() => {{ const found = document.querySelector({json.dumps(selector)});"
            " found.focus(); if (found.select) found.select(); })()"
        )
        await self.call("Input.insertText", text=text)

    async def press(self, key: str, code: int, text: str = "") -> None:
        """A key, its virtual key code, and what it types."""
        named = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        typed = {"text": text} if text else {}
        await self.call("Input.dispatchKeyEvent", type="keyDown", **named, **typed)
        await self.call("Input.dispatchKeyEvent", type="keyUp", **named)

    def _note(self, message: dict[str, Any]) -> None:
        said = message.get("params", {})
        if message.get("method") == "Network.requestWillBeSent":
            self.requested.append(said["request"]["url"])
        elif message.get("method") == "Runtime.exceptionThrown":
            self.complaints.append(str(said["exceptionDetails"].get("exception", said)))
        elif message.get("method") == "Log.entryAdded" and said["entry"]["level"] == "error":
            self.complaints.append(said["entry"]["text"])


@asynccontextmanager
async def running_chromium(folder: Path) -> AsyncIterator[Page]:
    """A browser whose profile is in `folder`, with one empty tab."""
    program = chromium_program()
    assert program is not None
    profile = folder / "profile"
    options = (
        "--headless=new",
        "--no-sandbox",  # needs rights that a container does not give; it sees our own page alone
        "--disable-dev-shm-usage",
        "--disable-gpu",
        "--no-first-run",
        "--disable-extensions",
        "--disable-background-networking",
        "--no-proxy-server",
        "--remote-debugging-port=0",
        f"--user-data-dir={profile}",
        "about:blank",
    )
    with (folder / "chromium.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            program, *options, stdout=log, stderr=log, start_new_session=True
        )
    try:
        url = await _page_of(process, profile / "DevToolsActivePort", folder / "chromium.log")
        async with aiohttp.ClientSession() as client, client.ws_connect(url, max_msg_size=1 << 26) as socket:
            page = Page(socket)
            for domain in ("Page", "Runtime", "Network", "Log"):
                await page.call(f"{domain}.enable")
            yield page
    finally:
        with suppress(ProcessLookupError):  # its helpers are of its own group
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


async def _page_of(process: asyncio.subprocess.Process, port: Path, log: Path) -> str:
    """The websocket of the first tab; the browser writes its port down when it listens."""
    async with asyncio.timeout(SECONDS), aiohttp.ClientSession() as client:
        while True:
            assert process.returncode is None, log.read_text(errors="replace")
            if port.exists() and len(lines := port.read_text().splitlines()) == 2:
                async with client.get(f"http://127.0.0.1:{lines[0]}/json/list") as response:
                    tabs = [each for each in await response.json() if each["type"] == "page"]
                if tabs:
                    return str(tabs[0]["webSocketDebuggerUrl"])
            await asyncio.sleep(0.05)
