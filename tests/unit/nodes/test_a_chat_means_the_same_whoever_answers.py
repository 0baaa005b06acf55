"""`ai.chat` has one input and one output: what a call means does not depend on the version that takes it."""

import asyncio
import subprocess
import sys

import pytest

from tests.unit.nodes.chat import ASKED, VERSIONS, ask, chat

TALK = {
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": "hi"},
        {"role": "user", "content": "one two"},
    ]
}
SCHEMA = {
    "type": "object",
    "properties": {"sure": {"type": "boolean"}, "lines": {"type": "array", "items": {"type": "string"}}},
    "required": ["sure", "lines"],
    "additionalProperties": False,
}


@pytest.fixture(params=VERSIONS)
def version(request):
    return request.param


async def test_the_answer_has_one_form(provider, version):
    """Text, why it ended, who answered as what, the tokens, the cost: the same members from everybody."""
    answer = await ask(provider, version)
    output = answer.output
    assert answer.cost_nanos == (None if version == "local" else 2620)
    models = {"openai": "gpt-6-luna", "anthropic": "claude-haiku-5-5", "local": "stand-in"}
    assert output.pop("cost") == (None if version == "local" else {"amount": "0.00000262", "currency": "USD"})
    assert output.pop("id").startswith(("chatcmpl-", "msg_"))
    assert output == {
        "text": "You said: one two three",
        "parsed": None,
        "finish_reason": "stop",
        "model": models[version],
        "provider": version,
        "usage": {"input_tokens": 3, "cache_read_tokens": 2, "cache_write_tokens": 0, "output_tokens": 5},
    }


async def test_a_server_without_streams_is_asked_for_the_whole(provider):
    """`REFLUX_AI_LOCAL_STREAM=false`: the same output, and no word of streams in the request."""
    streamed = (await ask(provider, "local")).output
    assert provider.last("local")["body"]["stream"] is True
    whole = (await ask(provider, "local", ai_local_stream=False)).output
    assert "stream" not in provider.last("local")["body"]
    assert "stream_options" not in provider.last("local")["body"]
    assert streamed | {"id": ""} == whole | {"id": ""}


async def test_a_conversation_arrives_as_the_wire_has_it(provider, version):
    """System messages stand in the list for some, and beside it for Anthropic; nothing is lost."""
    output = (await ask(provider, version, TALK)).output
    body = provider.last(version)["body"]
    assert output["text"] == "You said: one two"
    assert output["usage"]["input_tokens"] == 8
    if version == "anthropic":
        assert body["system"] == [{"type": "text", "text": "Be brief."}, {"type": "text", "text": "Be kind."}]
        assert body["messages"] == TALK["messages"][2:]
    else:
        assert body["messages"] == TALK["messages"]


@pytest.mark.parametrize(
    ("given", "text", "reason"),
    [
        ({"max_tokens": 3}, "You said: one ", "length"),
        ({"stop": ["two", "three"]}, "You said: one ", "stop"),
    ],
)
async def test_what_all_understand_is_honoured_by_all(provider, version, given, text, reason):
    """Limits and stop texts have one name in the input and the wire's own name below."""
    output = (await ask(provider, version, ASKED | given)).output
    assert (output["text"], output["finish_reason"]) == (text, reason)


async def test_an_answer_of_a_schema_comes_parsed(provider, version):
    """`json_schema` is honoured by every version, and a flow need not parse text."""
    output = (await ask(provider, version, ASKED | {"json_schema": SCHEMA})).output
    assert output["parsed"] == {"sure": True, "lines": ["yes"]}
    assert output["text"] == '{"sure": true, "lines": ["yes"]}'


async def test_a_cut_answer_of_a_schema_is_not_parsed(provider, version):
    """Cut at max_tokens it is no JSON; the finish reason says so, and the text is there."""
    output = (await ask(provider, version, ASKED | {"json_schema": SCHEMA, "max_tokens": 2})).output
    assert (output["parsed"], output["finish_reason"]) == (None, "length")


async def test_each_version_reads_its_own_part(provider, version):
    """A call that can fall back names a model for each; nobody is sent what is meant for another."""
    providers = {
        "openai": {"model": "gpt-6-sol", "temperature": 0.5, "seed": 7},
        "anthropic": {"model": "claude-opus-5-5"},
        "local": {"model": "tiny", "top_p": 0.25},
    }
    output = (await ask(provider, version, ASKED | {"providers": providers})).output
    body = provider.last(version)["body"]
    assert output["model"] == providers[version]["model"]
    sampling = {name: body[name] for name in ("model", "temperature", "top_p", "seed") if name in body}
    assert sampling == providers[version]


@pytest.mark.parametrize(
    ("version", "setting"),
    [("openai", "ai_openai_model"), ("anthropic", "ai_anthropic_model"), ("local", "ai_local_model")],
)
async def test_the_operator_sets_the_default_model(provider, version, setting):
    """A flow that names no model follows the operator's choice."""
    assert (await ask(provider, version, **{setting: "chosen"})).output["model"] == "chosen"


@pytest.mark.parametrize(
    ("version", "told", "reason"),
    [
        ("openai", "content_filter", "refusal"),
        ("anthropic", "refusal", "refusal"),
        ("anthropic", "model_context_window_exceeded", "length"),
        ("anthropic", "stop_sequence", "stop"),
    ],
)
async def test_reasons_to_end_are_translated(provider, version, told, reason):
    """Three words for all providers: stop, length, refusal."""
    provider.tell(version, "finish", reason=told)
    assert (await ask(provider, version)).output["finish_reason"] == reason


@pytest.mark.parametrize(
    ("model", "version"), [("gpt-of-tomorrow", "openai"), ("claude-of-tomorrow", "anthropic")]
)
async def test_an_unknown_price_is_no_price(provider, model, version):
    """Null, and never a guess from a similar name."""
    output = (await ask(provider, version, ASKED | {"providers": {version: {"model": model}}})).output
    assert output["cost"] is None
    assert output["usage"]["output_tokens"] == 5


@pytest.mark.parametrize("version", ["openai", "anthropic"])
async def test_a_tier_with_prices_of_its_own_has_no_list_price(provider, version):
    """Priority costs more and batches cost less than the list says."""
    provider.tell(version, "tier", tier="priority")
    output = (await ask(provider, version)).output
    assert (output["usage"]["output_tokens"], output["cost"]) == (5, None)


@pytest.mark.parametrize("streams", [True, False])
async def test_a_refusal_in_words_of_its_own_is_one(provider, streams):
    """OpenAI's wire says it beside the text, and ends with `stop`."""
    provider.tell("local", "refuse")
    output = (await ask(provider, "local", ai_local_stream=streams)).output
    assert (output["text"], output["finish_reason"]) == ("You said: one two three", "refusal")


async def test_a_provider_that_does_not_count_is_believed_all_the_same(provider):
    """The answer is whole; its usage and cost are null."""
    provider.tell("openai", "no_usage")
    output = (await ask(provider, "openai")).output
    assert (output["text"], output["usage"], output["cost"]) == ("You said: one two three", None, None)


async def test_the_environments_proxies_are_not_used(provider, version, monkeypatch):
    """As with `http.request`: a proxy meant for somebody else does not see prompts and keys."""
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    assert (await ask(provider, version)).output["finish_reason"] == "stop"


async def test_a_local_server_hears_nothing_meant_for_openai(provider, monkeypatch):
    """The SDK adds what the environment says of OpenAI to every request; `local` is not OpenAI."""
    monkeypatch.setenv("OPENAI_ORG_ID", "org-secret")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-secret")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Secret: very-secret\nAuthorization: Bearer also-secret")
    await ask(provider, "local")
    assert "secret" not in str(provider.last("local")["headers"])
    assert "authorization" not in provider.last("local")["headers"]
    await ask(provider, "local", ai_local_key="the-key")
    assert provider.last("local")["headers"]["authorization"] == "Bearer the-key"
    assert "secret" not in str(provider.last("local")["headers"])


async def test_many_calls_at_once_share_the_connections(provider, version):
    """As many as the version admits, and none waits for another's answer."""
    provider.tell(version, "slow", seconds=0.02)
    async with chat(provider, version) as call:
        await call(ASKED, timeout=60)
        answers = await asyncio.gather(*(call(ASKED, timeout=60) for _ in range(64)))
    assert {answer.output["text"] for answer in answers} == {"You said: one two three"}


def test_the_sdks_are_not_imported_before_they_are_needed():
    """Importing both takes seconds: neither the table of nodes nor a version without a key pays for it."""
    script = (
        "import asyncio, sys\n"
        "from reflux.nodes import catalog\n"
        "from reflux.runtime.settings import Settings\n"
        "async def main():\n"
        "    for version in catalog():\n"
        "        if version.node == 'ai.chat':\n"
        "            async with version.resources(Settings()):\n"
        "                await asyncio.sleep(0)\n"
        "asyncio.run(main())\n"
        "print(sorted({'openai', 'anthropic', 'genai_prices', 'httpx2'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env={}, check=True)
    assert done.stdout.strip() == "[]"
