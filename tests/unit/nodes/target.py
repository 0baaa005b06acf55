"""A real HTTP server on loopback, as the target of `http.request`."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from aiohttp import web

LOOPBACK = {"http_allow": ("127.0.0.0/8",)}


@dataclass
class Target:
    """Answers by path; keeps every request it got."""

    url: str = ""
    requests: list[web.Request] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    connections: set[object] = field(default_factory=set)
    busy: int = 0
    """How many more requests to /busy are told to come again."""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        self.bodies.append(await request.read())
        self.connections.add(request.transport)
        return await getattr(self, "on_" + request.path.strip("/").split("/")[0])(request)

    async def on_echo(self, request):
        return web.json_response(
            {
                "method": request.method,
                "query": list(request.query.items()),
                "headers": {name.lower(): value for name, value in request.headers.items()},
                "body": self.bodies[-1].decode(errors="replace"),
            },
            headers={"X-One": "1", "Set-Cookie": "a=b"},
        )

    async def on_body(self, request):
        data = bytes.fromhex(request.query["hex"])
        return web.Response(body=data, headers={"Content-Type": request.query.get("type", "")})

    async def on_size(self, request):
        return web.Response(text="x" * int(request.query["bytes"]))

    async def on_bomb(self, _request):
        response = web.Response(text="0" * (64 << 20))
        response.enable_compression(web.ContentCoding.gzip)
        return response

    async def on_status(self, request):
        headers = {"Retry-After": request.query["after"]} if "after" in request.query else {}
        return web.Response(status=int(request.query["code"]), text="sorry", headers=headers)

    async def on_redirect(self, request):
        return web.Response(
            status=int(request.query.get("code", "302")), headers={"Location": request.query["to"]}
        )

    async def on_loop(self, _request):
        return web.Response(status=302, headers={"Location": "/loop"})

    async def on_slow(self, _request):
        await asyncio.sleep(30)

    async def on_break(self, request):
        request.transport.abort()
        return web.Response()

    async def on_busy(self, request):
        if self.busy:
            self.busy -= 1
            code = int(request.query.get("code", "429"))
            return web.Response(status=code, headers={"Retry-After": request.query.get("after", "0")})
        return web.json_response({"ok": True})


@asynccontextmanager
async def target(host: str = "127.0.0.1"):
    """Serve a target; its `url` has no trailing slash."""
    served = Target()
    app = web.Application(client_max_size=8 << 20)
    app.router.add_route("*", "/{path:.*}", served.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, 0)
        await site.start()
        served.url = f"http://{host}:{runner.addresses[0][1]}"
        yield served
    finally:
        await runner.cleanup()


@asynccontextmanager
async def raw_target(reply: bytes):
    """Serve the same bytes to everybody; yields its URL."""

    async def answer(reader, writer):
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(reply)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
