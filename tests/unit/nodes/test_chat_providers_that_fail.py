"""A provider that fails gives a typed error which says who must act, and lets the call fall back or not."""

import logging
import sys
import time

import grpc
import pytest

from reflux.core.reasons import Reason
from reflux.nodes.ai_chat.chat import ATTEMPT_SECONDS
from reflux.runtime.settings import Settings
from tests.unit.nodes.chat import ASKED, VARIABLES, VERSIONS, ask, chat

Code = grpc.StatusCode
NODE, TARGET = "node", "target"
SENTINEL = "sk-live-SENTINEL-0123456789"


@pytest.fixture(params=VERSIONS)
def version(request):
    return request.param


@pytest.fixture(params=[(version, True) for version in VERSIONS] + [("local", False)])
def wire(request):
    """Every version, and whether it reads streams."""
    return request.param


def seen(answer):
    """Code, reason, whose fault; and what the mesh sees must agree with it."""
    fault = answer.failure.metadata["fault"]
    assert (answer.headers.get("x-reflux-fault") == "target") == (fault == TARGET)
    assert answer.failure.metadata["outcome"] == "NO_EFFECT"
    return answer.code, answer.failure.reason, fault


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (307, (Code.UNAVAILABLE, Reason.PROVIDER_REFUSED, NODE)),
        (400, (Code.INVALID_ARGUMENT, Reason.PROVIDER_DECLINED, TARGET)),
        (401, (Code.UNAVAILABLE, Reason.PROVIDER_REFUSED, NODE)),
        (402, (Code.UNAVAILABLE, Reason.PROVIDER_REFUSED, NODE)),
        (403, (Code.UNAVAILABLE, Reason.PROVIDER_REFUSED, NODE)),
        (404, (Code.UNAVAILABLE, Reason.PROVIDER_REFUSED, NODE)),
        (408, (Code.DEADLINE_EXCEEDED, Reason.PROVIDER_TIMEOUT, NODE)),
        (409, (Code.UNAVAILABLE, Reason.PROVIDER_UNAVAILABLE, NODE)),
        (413, (Code.INVALID_ARGUMENT, Reason.PROVIDER_DECLINED, TARGET)),
        (422, (Code.INVALID_ARGUMENT, Reason.PROVIDER_DECLINED, TARGET)),
        (429, (Code.RESOURCE_EXHAUSTED, Reason.PROVIDER_LIMITED, NODE)),
        (500, (Code.UNAVAILABLE, Reason.PROVIDER_UNAVAILABLE, NODE)),
        (503, (Code.UNAVAILABLE, Reason.PROVIDER_UNAVAILABLE, NODE)),
        (529, (Code.UNAVAILABLE, Reason.PROVIDER_UNAVAILABLE, NODE)),
    ],
)
async def test_a_status_says_who_must_act(provider, version, status, expected):
    """Operator, provider or author of the flow. It is asked once: the mesh tries again, no SDK does."""
    provider.tell(version, "status", status=status, location="http://127.0.0.1:1/")
    before = provider.requests(version)
    answer = await ask(provider, version)
    assert seen(answer) == expected
    assert answer.failure.metadata["status"] == str(status) if status != 408 else True
    assert provider.requests(version) == before + 1


async def test_a_limit_says_until_when(provider, version):
    """Retry-After becomes RetryInfo, which a step's own retry waits for."""
    provider.tell(version, "status", status=429, retry_after=7)
    async with chat(provider, version) as call:
        answer = await call(ASKED, timeout=60)
    assert answer.failure.reason == Reason.PROVIDER_LIMITED
    assert answer.retry_seconds == 7


@pytest.mark.parametrize(
    ("version", "status", "body"),
    [
        ("openai", 429, {"error": {"message": "You exceeded your quota", "code": "insufficient_quota"}}),
        (
            "anthropic",
            400,
            {"error": {"type": "invalid_request_error", "message": "Your credit balance is too low"}},
        ),
    ],
)
async def test_an_account_without_money_is_the_operators(provider, version, status, body):
    """Whatever status it has: waiting or another input would not help, another provider does."""
    provider.tell(version, "status", status=status, body=body)
    assert seen(await ask(provider, version)) == (Code.UNAVAILABLE, Reason.PROVIDER_REFUSED, NODE)


async def test_a_model_nobody_has_is_the_fault_of_who_named_it(provider, version):
    """Named in the step: the step fails, in the provider's words. The operator's default: it falls back."""
    named = await ask(provider, version, ASKED | {"providers": {version: {"model": "no-such-model"}}})
    assert seen(named) == (Code.FAILED_PRECONDITION, Reason.PROVIDER_DECLINED, TARGET)
    assert "no-such-model" in named.failure.message
    default = await ask(provider, version, **{f"ai_{version}_model": "no-such-model"})
    assert seen(default) == (Code.UNAVAILABLE, Reason.PROVIDER_REFUSED, NODE)


async def test_a_model_the_account_may_not_use_is_the_fault_of_who_named_it(provider, version):
    """A 403, as for a bad key; but whoever names such a model must not eject the version for everybody."""
    named = await ask(provider, version, ASKED | {"providers": {version: {"model": "not-ours"}}})
    assert seen(named) == (Code.FAILED_PRECONDITION, Reason.PROVIDER_DECLINED, TARGET)
    assert "no access to the model" in named.failure.message
    default = await ask(provider, version, **{f"ai_{version}_model": "not-ours"})
    assert seen(default) == (Code.UNAVAILABLE, Reason.PROVIDER_REFUSED, NODE)


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"type": "permission_error", "message": "Your key may not use this endpoint"}},
        {"error": {"type": "permission_error", "message": "Only gpt-9.1, gpt-9-mini and my-gpt-9"}},
        "<html>gpt-9 is not served in your country</html>",
    ],
)
async def test_a_key_without_rights_is_the_operators_whatever_model_was_named(provider, version, body):
    """A refusal that is not about the model, or of a server in between, would meet every other call too."""
    provider.tell(version, "status", status=403, body=body)
    answer = await ask(provider, version, ASKED | {"providers": {version: {"model": "gpt-9"}}})
    assert seen(answer) == (Code.UNAVAILABLE, Reason.PROVIDER_REFUSED, NODE)


@pytest.mark.parametrize(
    "words",
    ["output_config.format.schema.properties.credit balance: not supported", "credit balance: not supported"],
)
async def test_words_that_quote_the_input_make_nobody_ill(provider, version, words):
    """An error may repeat a property of the flow's schema; what it is called must not eject the version."""
    provider.tell(version, "status", status=400, type="invalid_request_error", message=words)
    given = ASKED | {"json_schema": {"type": "object", "properties": {"credit balance": {"type": "number"}}}}
    answer = await ask(provider, version, given)
    assert seen(answer) == (Code.INVALID_ARGUMENT, Reason.PROVIDER_DECLINED, TARGET)


@pytest.mark.parametrize("version", ["openai", "local"])
async def test_only_anthropic_says_in_words_that_it_has_no_money(provider, version):
    """OpenAI has a code for it, and what stands behind a gateway or `local` may say anything."""
    provider.tell(version, "status", status=400, message="Your credit balance: no such property")
    assert seen(await ask(provider, version)) == (Code.INVALID_ARGUMENT, Reason.PROVIDER_DECLINED, TARGET)


async def test_a_parameter_the_model_has_no_use_for_is_told(provider):
    """The provider's own words reach the author: nothing is dropped to make a call pass."""
    provider.tell("openai", "status", status=400, message="Unsupported value: 'temperature'", type="x")
    given = ASKED | {"providers": {"openai": {"temperature": 1.5}}}
    answer = await ask(provider, "openai", given)
    assert seen(answer) == (Code.INVALID_ARGUMENT, Reason.PROVIDER_DECLINED, TARGET)
    assert "Unsupported value: 'temperature'" in answer.failure.message


@pytest.mark.parametrize("words", [0, 2])
async def test_an_answer_that_breaks_off_is_no_answer(provider, wire, words):
    """Nothing partial is returned as whole; the version is ill, so the call falls back."""
    version, streams = wire
    provider.tell(version, "cut", words=words)
    answer = await ask(provider, version, ai_local_stream=streams)
    assert seen(answer) == (Code.UNAVAILABLE, Reason.PROVIDER_UNAVAILABLE, NODE)


async def test_a_stream_without_its_end_was_cut_off(provider, version):
    """Closed as properly as it may be: without a reason to end the model was not done."""
    provider.tell(version, "end", words=3)
    answer = await ask(provider, version)
    assert seen(answer) == (Code.UNAVAILABLE, Reason.PROVIDER_UNAVAILABLE, NODE)
    assert "cut off" in answer.failure.message


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("overloaded_error", (Code.UNAVAILABLE, Reason.PROVIDER_UNAVAILABLE, NODE)),
        ("server_error", (Code.UNAVAILABLE, Reason.PROVIDER_UNAVAILABLE, NODE)),
        ("rate_limit_error", (Code.RESOURCE_EXHAUSTED, Reason.PROVIDER_LIMITED, NODE)),
        ("invalid_request_error", (Code.INVALID_ARGUMENT, Reason.PROVIDER_DECLINED, TARGET)),
    ],
)
async def test_an_error_in_the_middle_of_a_stream_counts_as_one(provider, version, kind, expected):
    """It had begun with 200; that does not make it an answer."""
    provider.tell(version, "error", words=2, type=kind)
    assert seen(await ask(provider, version)) == expected


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        ("", "application/json"),
        ("{]", "application/json"),
        ("[]", "application/json"),
        ('"well"', "application/json"),
        ('{"choices": "none"}', "application/json"),
        ('{"choices": []}', "application/json"),
        ("<html>welcome</html>", "text/html"),
        ("data: {]\n\n", "text/event-stream"),
        ('event: message_start\ndata: {"type": "message_start"}\n\n', "text/event-stream"),
        ('event: content_block_delta\ndata: {"type": 7, "delta": "x"}\n\n', "text/event-stream"),
        ('data: {"choices": [{"delta": {"content": 7}}]}\n\n', "text/event-stream"),
        ("data: [1, 2]\n\n", "text/event-stream"),
    ],
)
async def test_nonsense_is_an_ill_provider(provider, wire, body, content_type):
    """Whatever bytes come with a 200: a typed fault, never a defect of ours, never half an answer."""
    version, streams = wire
    provider.tell(version, "garbage", body=body, content_type=content_type)
    answer = await ask(provider, version, ai_local_stream=streams)
    assert seen(answer) == (Code.UNAVAILABLE, Reason.PROVIDER_UNAVAILABLE, NODE)


async def test_an_end_for_a_reason_nobody_knows_is_not_guessed(provider, version):
    """Better another provider's answer than one that may not be complete."""
    provider.tell(version, "finish", reason="because")
    answer = await ask(provider, version)
    assert seen(answer) == (Code.UNAVAILABLE, Reason.PROVIDER_UNAVAILABLE, NODE)
    assert "'because'" in answer.failure.message


async def test_an_answer_that_is_not_the_json_that_was_asked_for_fails_the_step(provider, version):
    """A server that does not know schemas may ignore one; the flow must not go on with prose."""
    provider.tell(version, "say", text="Sure! Here it is.")
    answer = await ask(provider, version, ASKED | {"json_schema": {"type": "object"}})
    assert seen(answer) == (Code.FAILED_PRECONDITION, Reason.PROVIDER_DECLINED, TARGET)


@pytest.mark.parametrize("words", [0, 2])
async def test_a_silent_provider_is_given_up_long_before_the_deadline(provider, version, words):
    """Before its first word or in the middle: after `REFLUX_AI_IDLE_SECONDS`, with time left for the next."""
    provider.tell(version, "hang", words=words)
    async with chat(provider, version, ai_idle_seconds=0.3) as call:
        began = time.monotonic()
        answer = await call(ASKED, timeout=120)
    assert seen(answer) == (Code.DEADLINE_EXCEEDED, Reason.PROVIDER_TIMEOUT, NODE)
    assert time.monotonic() - began < 60


async def test_a_slow_provider_that_speaks_is_not_silent(provider, version):
    """The limit is on silence, not on the whole answer: this one takes longer in all."""
    provider.tell(version, "slow", seconds=0.25)
    long = {"messages": [{"role": "user", "content": "word " * 13 + "end"}]}
    answer = await ask(provider, version, long, ai_idle_seconds=3)
    assert answer.output["text"].endswith("end")


async def test_a_model_that_thinks_before_its_first_word_is_not_silent(provider, version):
    """The provider's pings and comments, which no SDK tells of, are signs of life."""
    provider.tell(version, "think", seconds=0.25, times=16)
    answer = await ask(provider, version, ai_idle_seconds=3)
    assert answer.output["text"] == "You said: one two three"


def test_a_model_may_think_for_a_minute_and_leaves_as_much_to_the_next_provider():
    """By default: without any sign of life a thinking model looks like a provider that hangs."""
    default = Settings.model_fields["ai_idle_seconds"].default
    assert default == 60 == ATTEMPT_SECONDS / 2


async def test_a_model_still_thinking_at_the_deadline_ejects_nobody(provider, version):
    """A model that thinks and a short `timeout.attempt` are the input's, though no word has come yet."""
    async with chat(provider, version) as call:
        await call(ASKED, timeout=60)
        provider.tell(version, "think", seconds=0.1, times=1000)
        answer = await call(ASKED, timeout=4)
    assert seen(answer) == (Code.DEADLINE_EXCEEDED, Reason.PROVIDER_TIMEOUT, TARGET)
    assert "timeout.attempt" in answer.failure.message


async def test_an_answer_on_its_way_at_the_deadline_ejects_nobody(provider, version):
    """The step gave it too little time: that is the input's fault, and the message says what to do."""
    async with chat(provider, version) as call:
        await call(ASKED, timeout=60)
        provider.tell(version, "slow", seconds=0.1)
        answer = await call({"messages": [{"role": "user", "content": "word " * 1000}]}, timeout=4)
    assert seen(answer) == (Code.DEADLINE_EXCEEDED, Reason.PROVIDER_TIMEOUT, TARGET)
    assert "max_tokens" in answer.failure.message


async def test_a_provider_that_does_not_speak_before_the_deadline_is_silent(provider, version):
    """It counts against the version, which may then be ejected."""
    async with chat(provider, version) as call:
        await call(ASKED, timeout=60)
        provider.tell(version, "hang")
        answer = await call(ASKED, timeout=0.5)
    assert seen(answer) == (Code.DEADLINE_EXCEEDED, Reason.PROVIDER_TIMEOUT, NODE)


async def test_a_provider_that_is_not_there_falls_back(provider, version, monkeypatch):
    """Connection refused: the provider's process was killed."""
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1/v1")
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "http://127.0.0.1:1")
    answer = await ask(provider, version, ai_local_url="http://127.0.0.1:1/v1")
    assert seen(answer) == (Code.UNAVAILABLE, Reason.PROVIDER_UNAVAILABLE, NODE)


@pytest.mark.parametrize(
    ("version", "given", "names"),
    [
        ("openai", {}, "OPENAI_API_KEY"),
        ("openai", {"OPENAI_API_KEY": "  "}, "OPENAI_API_KEY"),
        ("openai", {"OPENAI_API_KEY": "k\u00e4y"}, "OPENAI_API_KEY"),
        ("openai", {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": "ftp://x"}, "OPENAI_BASE_URL"),
        ("openai", {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": "http://[::1"}, "OPENAI_BASE_URL"),
        ("anthropic", {}, "ANTHROPIC_API_KEY"),
        ("anthropic", {"ANTHROPIC_API_KEY": "k", "ANTHROPIC_BASE_URL": "x"}, "ANTHROPIC_BASE_URL"),
        ("local", {"ai_local_url": None}, "REFLUX_AI_LOCAL_URL"),
        ("local", {"ai_local_url": "http://"}, "REFLUX_AI_LOCAL_URL"),
        ("local", {"ai_local_model": None}, "REFLUX_AI_LOCAL_MODEL"),
        ("local", {"ai_local_key": "a\nb"}, "REFLUX_AI_LOCAL_KEY"),
    ],
)
async def test_a_version_without_its_settings_serves_and_says_what_is_missing(
    provider, monkeypatch, version, given, names
):
    """It starts and registers like any other; calls fall back, and the message names the variable."""
    for name in VARIABLES:
        monkeypatch.delenv(name)
    settings = {name: value for name, value in given.items() if name.islower()}
    for name in given.keys() - settings:
        monkeypatch.setenv(name, given[name])
    answer = await ask(provider, version, **settings)
    assert seen(answer) == (Code.UNAVAILABLE, Reason.PROVIDER_NOT_CONFIGURED, NODE)
    assert names in answer.failure.message


async def test_a_local_server_is_asked_for_the_model_a_step_names(provider):
    """Then no default is needed."""
    given = ASKED | {"providers": {"local": {"model": "mine"}}}
    assert (await ask(provider, "local", given, ai_local_model=None)).output["model"] == "mine"


async def test_an_installation_without_the_sdks_says_so(provider, version, monkeypatch):
    """The extra is optional; what is missing is named."""
    monkeypatch.setitem(sys.modules, "reflux.nodes.ai_chat.completions", None)
    monkeypatch.setitem(sys.modules, "reflux.nodes.ai_chat.messages", None)
    answer = await ask(provider, version)
    assert seen(answer) == (Code.UNAVAILABLE, Reason.PROVIDER_NOT_CONFIGURED, NODE)
    assert "`llm`" in answer.failure.message


@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500])
async def test_a_key_is_never_told(provider, version, monkeypatch, caplog, status):
    """Not in the error, its metadata or a log, even where the provider repeats it."""
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("OPENAI_API_KEY", SENTINEL)
    monkeypatch.setenv("ANTHROPIC_API_KEY", SENTINEL)
    given = ASKED | {"providers": {version: {"model": "m"}}}
    said = f"the key {SENTINEL} is bad"
    async with chat(provider, version, ai_local_key=SENTINEL) as call:
        for body in (said, {"error": {"type": "x", "message": said}}):
            provider.tell(version, "status", status=status, body=body, any_key=True)
            answer = await call(given, timeout=60)
            assert answer.failure.metadata["status"] == str(status)
            assert SENTINEL in str(provider.last(version)["headers"])
            assert SENTINEL not in f"{answer} {answer.failure}"
    assert SENTINEL not in caplog.text
