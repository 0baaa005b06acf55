"""What no provider would understand is refused before one is asked, and its place is named."""

import grpc
import pytest

from reflux.core.reasons import Reason
from reflux.nodes import load
from tests.unit.nodes.chat import ASKED, VARIABLES, VERSIONS
from tests.unit.sdk.served import served

USER, SYSTEM, ASSISTANT = ({"role": role, "content": "x"} for role in ("user", "system", "assistant"))


@pytest.fixture(params=VERSIONS)
def version(request, monkeypatch):
    """Without a provider: what is checked before it is needed is told, what passes meets its absence."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    return load(f"ai.chat@{request.param}")


async def ask(version, given):
    async with served(version) as call:
        return await call(given)


@pytest.mark.parametrize(
    ("given", "place"),
    [
        ({}, "/messages"),
        ({"messages": []}, "/messages"),
        ({"messages": [USER] * 1001}, "/messages"),
        ({"messages": [{"role": "user", "content": ""}]}, "/messages/0/content"),
        ({"messages": [{"role": "user", "content": "x" * 500_001}]}, "/messages/0/content"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "/messages/0/content"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "/messages/0/role"),
        ({"messages": [{"role": "user", "content": "x", "name": "y"}]}, "/messages/0/name"),
        (ASKED | {"max_tokens": 0}, "/max_tokens"),
        (ASKED | {"max_tokens": 131_073}, "/max_tokens"),
        (ASKED | {"max_tokens": "7"}, "/max_tokens"),
        (ASKED | {"stop": "x"}, "/stop"),
        (ASKED | {"stop": ["a", "b", "c", "d", "e"]}, "/stop"),
        (ASKED | {"stop": [""]}, "/stop/0"),
        (ASKED | {"json_schema": "object"}, "/json_schema"),
        (ASKED | {"tools": []}, "/tools"),
        (ASKED | {"stream": True}, "/stream"),
        (ASKED | {"providers": {"google": {}}}, "/providers/google"),
        (ASKED | {"providers": {"openai": {"temperature": 2.1}}}, "/providers/openai/temperature"),
        (ASKED | {"providers": {"local": {"top_p": -0.1}}}, "/providers/local/top_p"),
        (ASKED | {"providers": {"openai": {"model": ""}}}, "/providers/openai/model"),
        (ASKED | {"providers": {"anthropic": {"temperature": 1}}}, "/providers/anthropic/temperature"),
    ],
)
async def test_an_input_that_does_not_fit_is_refused_with_its_place(version, given, place):
    """The same by every version, so that whether a call is right does not depend on a draw."""
    answer = await ask(version, given)
    assert (answer.code, answer.failure.reason) == (grpc.StatusCode.INVALID_ARGUMENT, Reason.INPUT_INVALID)
    assert place in [violation.pointer for violation in answer.failure.violations]
    assert answer.headers["x-reflux-fault"] == "target"


@pytest.mark.parametrize("name", ["model", "temperature", "top_p", "seed"])
async def test_what_only_some_have_is_sent_to_its_place(version, name):
    """The refusal says where to write it, since everybody will try the top first."""
    answer = await ask(version, ASKED | {name: 1})
    assert answer.failure.reason == Reason.INPUT_INVALID
    assert f"providers.<version>.{name}" in answer.failure.message


@pytest.mark.parametrize(
    "messages",
    [
        [SYSTEM],
        [ASSISTANT],
        [ASSISTANT, USER],
        [USER, ASSISTANT],
        [SYSTEM, USER, ASSISTANT],
        [USER, SYSTEM, USER],
    ],
)
async def test_a_conversation_has_the_order_that_all_take(version, messages):
    """System first, then the user first and last: what one provider takes beyond that another refuses."""
    answer = await ask(version, {"messages": messages})
    assert (answer.code, answer.failure.reason) == (grpc.StatusCode.INVALID_ARGUMENT, Reason.INPUT_INVALID)


@pytest.mark.parametrize(
    "messages", [[USER], [USER, USER], [SYSTEM, SYSTEM, USER], [USER, ASSISTANT, ASSISTANT, USER]]
)
async def test_other_orders_are_free(version, messages):
    """Turns need not alternate."""
    answer = await ask(version, {"messages": messages})
    assert answer.failure.reason == Reason.PROVIDER_NOT_CONFIGURED
