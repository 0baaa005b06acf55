"""The effect ledger: a process of its own that plays the outside world and records what was done to it.

It is the judge of reliability tests: it knows nothing of journals, only of requests that arrived.

    POST|PUT|GET /effect/<name>[?delay=<s>]   records the request, then answers {"number": n, "name": …}
    GET /entries                              everything recorded, in order
"""

import asyncio
import contextlib
import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from aiohttp import web


@dataclass(frozen=True, slots=True)
class Ledger:
    """A running ledger."""

    url: str

    def entries(self) -> list[dict[str, Any]]:
        """Everything recorded, in order."""
        with urllib.request.urlopen(f"{self.url}/entries", timeout=10) as response:
            entries: list[dict[str, Any]] = json.load(response)
            return entries


@contextmanager
def running_ledger(host: str = "127.0.0.1") -> Iterator[Ledger]:
    """A ledger on a free port of this address of the machine, gone after the block."""
    command = [sys.executable, "-m", "tests.support.ledger", host]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert url, "the ledger did not start"
        yield Ledger(url)
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def _application() -> web.Application:
    entries: list[dict[str, Any]] = []

    async def effect(request: web.Request) -> web.Response:
        entry = {
            "number": len(entries) + 1,
            "method": request.method,
            "name": request.match_info["name"],
            "query": dict(request.query),
            "key": request.headers.get("Idempotency-Key"),
            "traceparent": request.headers.get("traceparent"),
            "body": (await request.read()).decode(errors="replace"),
        }
        entries.append(entry)
        await asyncio.sleep(float(request.query.get("delay", "0")))
        return web.json_response({"number": entry["number"], "name": entry["name"]})

    async def everything(_: web.Request) -> web.Response:
        return web.json_response(entries)

    application = web.Application()
    application.router.add_route("*", "/effect/{name}", effect)
    application.router.add_get("/entries", everything)
    return application


async def _serve(address: str) -> None:
    runner = web.AppRunner(_application())
    await runner.setup()
    site = web.TCPSite(runner, address, 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    print(f"http://{host}:{port}", flush=True)
    await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(sys.argv[1]))
