"""A process that plays the providers of language models, on their wires, and does as it is told.

    POST /openai/v1/chat/completions      OpenAI's wire; the same below /local
    POST /anthropic/v1/messages           Anthropic's wire, API version 2026-10-21
    GET  /<name>/v1/models                for the curious
    PUT  /control/<name>                  {"does": "slow", "seconds": 1}: from now on; see `BEHAVIOURS`
    GET  /control/<name>                  {"requests": n, "last": {"headers": …, "body": …}}

It is strict, as they are: unknown parameters, a missing key and unknown models are refused in their words.
Its answers are deterministic: it repeats the last message. One process plays any of the three; a test or a
demo that wants to kill one provider starts a process each:

    with running_provider() as one, running_provider() as two:
        environment = environment_of(openai=one, anthropic=two)
        one.kill(); one.restart()
"""

import asyncio
import contextlib
import json
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

KEY = "sk-stand-in-5c1d"
NAMES = ("openai", "anthropic", "local")
BEHAVIOURS = {
    "ok": "answers",
    "slow": "waits `seconds` before each word",
    "think": "shows `times` times, each after `seconds`, that it is alive, and only then says its first word",
    "status": "answers `status`; `retry_after`, `message`, `type` or the whole `body` may be given",
    "cut": "closes the connection after `words` words",
    "end": "ends the stream properly after `words` words, but without its last events",
    "hang": "goes silent after `words` words; none: before it answers at all",
    "error": "sends an error of type `type` after `words` words, in a stream that had begun well",
    "garbage": "answers 200 and `body`, as it is, of type `content_type`",
    "finish": "ends with the reason `reason`",
    "say": "answers `text`",
    "no_usage": "answers, and does not count",
    "refuse": "answers in the words OpenAI has for a refusal",
    "tier": "answers from the service tier `tier`",
}


@dataclass(slots=True)
class Provider:
    """A running process of providers."""

    port: int
    process: subprocess.Popen[str]

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}"

    def base_url(self, name: str) -> str:
        """What the SDK of that provider wants to be told."""
        return f"{self.url}/{name}" if name == "anthropic" else f"{self.url}/{name}/v1"

    def tell(self, name: str, does: str = "ok", **how: Any) -> None:
        """From now on, behave like this."""
        assert does in BEHAVIOURS, f"a provider can be told: {', '.join(BEHAVIOURS)}"
        self._call(name, json.dumps({"does": does, **how}).encode())

    def requests(self, name: str) -> int:
        """How many questions have come in."""
        return int(self._call(name)["requests"])

    def last(self, name: str) -> dict[str, Any]:
        """The last question: headers in lower case, and the body."""
        last: dict[str, Any] = self._call(name)["last"]
        return last

    def kill(self) -> None:
        """Ends it at once; its port then refuses connections."""
        self.process.kill()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()

    def restart(self) -> None:
        """Starts it again on the same port, well and with counters at 0."""
        again = start_provider(self.port)
        self.process = again.process

    def _call(self, name: str, body: bytes | None = None) -> Any:
        request = urllib.request.Request(f"{self.url}/control/{name}", body, method="PUT" if body else "GET")
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=10) as response:
            return json.load(response)


def start_provider(port: int = 0) -> Provider:
    """A new process; 0 is a free port."""
    command = [sys.executable, "-m", "tests.support.provider", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    line = process.stdout.readline().strip()
    assert line, "the provider did not start"
    return Provider(int(line), process)


@contextmanager
def running_provider(port: int = 0) -> Iterator[Provider]:
    """A process of providers, gone after the block."""
    provider = start_provider(port)
    try:
        yield provider
    finally:
        provider.kill()


def environment_of(
    *, openai: Provider | None = None, anthropic: Provider | None = None, local: Provider | None = None
) -> dict[str, str]:
    """What a stack has to be told, so that its `ai.chat` versions use these; the others stay unconfigured."""
    told: dict[str, str] = {}
    if openai:
        told |= {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": openai.base_url("openai")}
    if anthropic:
        told |= {"ANTHROPIC_API_KEY": KEY, "ANTHROPIC_BASE_URL": anthropic.base_url("anthropic")}
    if local:
        told |= {"REFLUX_AI_LOCAL_URL": local.base_url("local"), "REFLUX_AI_LOCAL_MODEL": "stand-in"}
    return told


# -- the process -------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Player:
    """One provider in the process."""

    name: str
    how: dict[str, Any] = field(default_factory=lambda: {"does": "ok"})
    requests: int = 0
    last: dict[str, Any] = field(default_factory=dict)

    @property
    def does(self) -> str:
        return str(self.how["does"])


@dataclass(frozen=True, slots=True)
class Reply:
    """What the model says: its words, and why it stops."""

    words: list[str]
    reason: str
    asked: int
    """Tokens of the question."""


async def think(player: Player) -> AsyncIterator[None]:
    """Once for each sign of life before the first word."""
    for _ in range(int(player.how["times"]) if player.does == "think" else 0):
        await asyncio.sleep(float(player.how["seconds"]))
        yield


class Cut(Exception):
    """Close the connection, now."""


async def speak(player: Player, reply: Reply) -> AsyncIterator[str]:
    """The words in their time, as told; a provider that breaks does so here."""
    limit = int(player.how.get("words", 0))
    for number, word in enumerate(reply.words):
        if player.does in ("cut", "hang", "error", "end") and number == limit:
            break
        if player.does == "slow":
            await asyncio.sleep(float(player.how["seconds"]))
        yield word
    if player.does == "cut":
        raise Cut
    if player.does == "hang":
        await asyncio.sleep(3600)


def compose(player: Player, messages: list[Any], limit: int, stop: list[str], schema: Any) -> Reply:
    """The answer to a conversation: an echo, or the simplest value of the schema that was asked for."""
    content = messages[-1]["content"]
    text = f"You said: {content}" if schema is None else json.dumps(simplest(schema))
    if player.does == "say":
        text = player.how["text"]
    reason = "stop"
    for end in stop:
        text = text.split(end)[0]
    words = [word + " " for word in text.split(" ")]
    words[-1] = words[-1].removesuffix(" ")
    if len(words) > limit:
        words, reason = words[:limit], "length"
    asked = sum(len(str(message["content"]).split()) for message in messages)
    return Reply([word for word in words if word], player.how.get("reason", reason), asked)


def simplest(schema: Any) -> Any:
    """A value of a JSON schema."""
    if schema.get("enum"):
        return schema["enum"][0]
    match schema.get("type"):
        case "object":
            return {name: simplest(inner) for name, inner in schema.get("properties", {}).items()}
        case "array":
            return [simplest(schema.get("items", {}))]
        case "integer" | "number":
            return 42
        case "boolean":
            return True
        case _:
            return "yes"


async def sse(request: web.Request, events: AsyncIterator[tuple[str | None, Any]]) -> web.StreamResponse:
    """Server-sent events, each flushed; without name and data a comment, which is none."""
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    async for name, data in events:
        text = data if isinstance(data, str) else json.dumps(data)
        head = f"event: {name}\n" if name else ""
        await response.write(f"{head}data: {text}\n\n".encode() if name or data else b": thinking\n\n")
    return response


def disturbed(player: Player, shape: Callable[[str, str], Any]) -> web.Response | None:
    """What it answers instead of an answer; `shape` makes an error body of type and message."""
    how = player.how
    if player.does == "status":
        status = int(how["status"])
        kind = how.get("type", "rate_limit_error" if status == 429 else "told_so")
        body = how.get("body", shape(kind, how.get("message", f"told to answer {status}")))
        headers = {"Retry-After": str(how["retry_after"])} if "retry_after" in how else {}
        if "location" in how:
            headers["Location"] = how["location"]
        if isinstance(body, str):
            return web.Response(status=status, text=body, headers=headers)
        return web.json_response(body, status=status, headers=headers)
    if player.does == "garbage":
        return web.Response(text=how["body"], content_type=how.get("content_type", "application/json"))
    return None


def trusted(player: Player, request: web.Request) -> bool:
    """Whether the key is the right one, or it was told to take any."""
    return bool(player.how.get("any_key")) or request.headers.get("Authorization") == f"Bearer {KEY}"


def unknown_of(body: dict[str, Any], known: set[str]) -> str | None:
    """The first parameter that the API does not have."""
    return min(set(body) - known, default=None)


# -- OpenAI ------------------------------------------------------------------------------------------------

COMPLETION = {
    *(
        "model",
        "messages",
        "stream",
        "stream_options",
        "stop",
        "response_format",
        "temperature",
        "top_p",
        "seed",
    )
}


def openai_error(kind: str, message: str, code: str | None = None) -> dict[str, Any]:
    """OpenAI's error body."""
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


async def completions(player: Player, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    """Chat completions."""
    own = player.name == "openai"
    limit = "max_completion_tokens" if own else "max_tokens"
    if own and not trusted(player, request):
        return web.json_response(openai_error("invalid_request_error", "Incorrect API key"), status=401)
    if (unknown := unknown_of(body, COMPLETION | {limit})) is not None:
        said = openai_error("invalid_request_error", f"Unrecognized request argument supplied: {unknown}")
        return web.json_response(said, status=400)
    if "no-such" in body["model"]:
        said = f"The model `{body['model']}` does not exist or you do not have access to it."
        return web.json_response(openai_error("invalid_request_error", said, "model_not_found"), status=404)
    if "not-ours" in body["model"]:
        said = f"Project `proj_1` does not have access to model `{body['model']}`"
        return web.json_response(openai_error("invalid_request_error", said, "model_not_found"), status=403)
    if (instead := disturbed(player, openai_error)) is not None:
        return instead
    schema = body.get("response_format", {}).get("json_schema", {}).get("schema")
    reply = compose(player, body["messages"], body.get(limit, 1 << 20), body.get("stop", []), schema)
    usage = {
        "prompt_tokens": reply.asked,
        "completion_tokens": len(reply.words),
        "total_tokens": reply.asked + len(reply.words),
        "prompt_tokens_details": {"cached_tokens": min(2, reply.asked)},
    }
    base = {"id": f"chatcmpl-{player.requests}", "created": 1, "model": body["model"]}
    base |= {"service_tier": player.how.get("tier", "default")} if own else {}
    if body.get("stream"):
        counts = body.get("stream_options", {}).get("include_usage") and player.does != "no_usage"
        return await sse(request, _chunks(player, reply, base, usage if counts else None))
    text = "".join([word async for word in speak(player, reply)])
    choice = {
        "index": 0,
        "finish_reason": reply.reason,
        "message": {"role": "assistant", _words(player): text},
    }
    whole = {**base, "object": "chat.completion", "choices": [choice]}
    return web.json_response(whole if player.does == "no_usage" else {**whole, "usage": usage})


def _words(player: Player) -> str:
    return "refusal" if player.does == "refuse" else "content"


async def _chunks(player: Player, reply: Reply, base: Any, usage: Any) -> AsyncIterator[tuple[None, Any]]:
    def chunk(delta: dict[str, Any], reason: str | None = None) -> Any:
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        return {**base, "object": "chat.completion.chunk", "choices": [choice]}

    async for _ in think(player):
        yield None, None
    if not (player.does == "hang" and not player.how.get("words")):
        yield None, chunk({"role": "assistant", "content": ""})
    async for word in speak(player, reply):
        yield None, chunk({_words(player): word})
    if player.does == "error":
        yield None, openai_error(player.how["type"], "told to break")
        return
    if player.does == "end":
        yield None, "[DONE]"
        return
    yield None, chunk({}, reply.reason)
    if usage:
        yield None, {**base, "object": "chat.completion.chunk", "choices": [], "usage": usage}
    yield None, "[DONE]"


# -- Anthropic ---------------------------------------------------------------------------------------------

MESSAGES = {"model", "messages", "max_tokens", "stream", "system", "stop_sequences", "output_config"}
ANTHROPIC_REASONS = {"stop": "end_turn", "length": "max_tokens"}


def anthropic_error(kind: str, message: str) -> dict[str, Any]:
    """Anthropic's error body."""
    return {"type": "error", "error": {"type": kind, "message": message}}


async def messages(player: Player, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    """Messages."""
    if not trusted(player, request):
        return web.json_response(anthropic_error("authentication_error", "invalid bearer token"), status=401)
    if (unknown := unknown_of(body, MESSAGES)) is not None:
        said = anthropic_error("invalid_request_error", f"{unknown}: Extra inputs are not permitted")
        return web.json_response(said, status=400)
    if "no-such" in body["model"]:
        return web.json_response(anthropic_error("not_found_error", f"model: {body['model']}"), status=404)
    if "not-ours" in body["model"]:
        said = f"Your organization does not have access to {body['model']}."
        return web.json_response(anthropic_error("permission_error", said), status=403)
    if (instead := disturbed(player, anthropic_error)) is not None:
        return instead
    schema = body.get("output_config", {}).get("format", {}).get("schema")
    said = [{"content": part["text"]} for part in body.get("system", [])] + body["messages"]
    reply = compose(player, said, body["max_tokens"], body.get("stop_sequences", []), schema)
    return await sse(request, _events(player, reply, body["model"]))


async def _events(player: Player, reply: Reply, model: str) -> AsyncIterator[tuple[str, Any]]:
    def event(kind: str, **fields: Any) -> tuple[str, Any]:
        return kind, {"type": kind, **fields}

    cached = min(2, reply.asked)
    usage = {"input_tokens": reply.asked - cached, "cache_read_input_tokens": cached, "output_tokens": 1}
    usage |= {"service_tier": player.how.get("tier", "standard")}
    message = {"id": f"msg_{player.requests}", "type": "message", "role": "assistant", "model": model}
    message |= {"content": [], "stop_reason": None, "stop_sequence": None, "usage": usage}
    async for _ in think(player):
        yield event("ping")
    if not (player.does == "hang" and not player.how.get("words")):
        yield event("message_start", message=message)
        yield event("content_block_start", index=0, content_block={"type": "text", "text": ""})
        yield event("ping")
    async for word in speak(player, reply):
        yield event("content_block_delta", index=0, delta={"type": "text_delta", "text": word})
    if player.does == "error":
        yield "error", anthropic_error(player.how["type"], "told to break")
        return
    if player.does == "end":
        return
    yield event("content_block_stop", index=0)
    reason = ANTHROPIC_REASONS.get(reply.reason, reply.reason)
    delta = {"stop_reason": reason, "stop_sequence": None}
    yield event("message_delta", delta=delta, usage={"output_tokens": len(reply.words)})
    yield event("message_stop")


# -- the server --------------------------------------------------------------------------------------------


def _application() -> web.Application:
    players = {name: Player(name) for name in NAMES}

    async def ask(request: web.Request) -> web.StreamResponse:
        player = players[request.match_info["name"]]
        body = json.loads(await request.read())
        player.requests += 1
        headers = {name.lower(): value for name, value in request.headers.items()}
        player.last = {"headers": headers, "body": body}
        try:
            return await (messages if player.name == "anthropic" else completions)(player, request, body)
        except Cut:
            assert request.transport is not None
            request.transport.close()
            return web.Response()

    async def models(request: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": "stand-in", "object": "model"}]})

    async def tell(request: web.Request) -> web.Response:
        players[request.match_info["name"]].how = json.loads(await request.read())
        return web.json_response({})

    async def show(request: web.Request) -> web.Response:
        player = players[request.match_info["name"]]
        return web.json_response({"requests": player.requests, "last": player.last, "told": player.how})

    application = web.Application(client_max_size=4 << 20)
    application.router.add_post("/{name:openai|local}/v1/chat/completions", ask)
    application.router.add_post("/{name:anthropic}/v1/messages", ask)
    application.router.add_get("/{name:openai|anthropic|local}/v1/models", models)
    application.router.add_put("/control/{name:openai|anthropic|local}", tell)
    application.router.add_get("/control/{name:openai|anthropic|local}", show)
    return application


async def _serve(port: int) -> None:
    runner = web.AppRunner(_application(), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port, reuse_address=True)
    await site.start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(int(sys.argv[1]) if len(sys.argv) > 1 else 0))
