"""A step may bring the key of an account of its own; what that account lacks is nobody else's matter."""

from __future__ import annotations

import grpc
import pytest

from reflux.core.reasons import Reason
from tests.support.provider import KEY
from tests.unit.nodes.chat import ASKED, VERSIONS, chat
from tests.unit.sdk.credentials import put

OWN = "sk-of-team-a-77"
VARIABLES = {"openai": "OPENAI_API_KEY", "anthropic": "ANTHROPIC_API_KEY"}


@pytest.fixture(params=VERSIONS)
def version(request):
    return request.param


def key_of(provider, version: str) -> str:
    headers = provider.last(version)["headers"]
    return headers.get("x-api-key") or headers["authorization"].removeprefix("Bearer ")


async def test_the_key_is_the_steps_and_only_for_its_call(provider, version, tmp_path):
    """The calls before and after it, over the same connections, are the operator's own."""
    provider.tell(version, any_key=True)
    put(tmp_path, "team-a", {"kind": "key", "key": OWN})
    own = {version: "team-a", "another-provider": "not-looked-for"}
    async with chat(provider, version, credentials_dir=tmp_path, ai_local_key=KEY) as call:
        for named, expected in ((None, KEY), (own, OWN), (None, KEY)):
            answer = await call(ASKED, timeout=60, credentials=named)
            assert answer.output["text"] == "You said: one two three", answer.failure
            assert key_of(provider, version) == expected


@pytest.mark.parametrize("version", ["openai", "anthropic"], indirect=True)
async def test_it_needs_no_key_of_the_operators(provider, version, tmp_path, monkeypatch):
    """Whoever brings none is told what is missing; whoever brings one is answered."""
    provider.tell(version, any_key=True)
    monkeypatch.delenv(VARIABLES[version])
    put(tmp_path, "team-a", {"kind": "key", "key": OWN})
    async with chat(provider, version, credentials_dir=tmp_path) as call:
        answer = await call(ASKED, timeout=60)
        assert answer.failure.reason == Reason.PROVIDER_NOT_CONFIGURED
        answer = await call(ASKED, timeout=60, credentials={version: "team-a"})
        assert answer.output["provider"] == version


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (401, (grpc.StatusCode.FAILED_PRECONDITION, Reason.PROVIDER_REFUSED)),
        (429, (grpc.StatusCode.RESOURCE_EXHAUSTED, Reason.PROVIDER_LIMITED)),
    ],
)
async def test_what_its_account_may_not_do_ejects_nobody(provider, version, tmp_path, status, told):
    """A TargetFault: no flow's key can make the mesh think that the version is ill."""
    put(tmp_path, "team-a", {"kind": "key", "key": OWN})
    provider.tell(version, "status", status=status, message=f"no {OWN}", any_key=True)
    async with chat(provider, version, credentials_dir=tmp_path) as call:
        answer = await call(ASKED, timeout=60, credentials={version: "team-a"})
        assert (answer.code, answer.failure.reason) == told
        assert answer.failure.metadata["fault"] == "target"
        assert OWN not in answer.failure.message
        answer = await call(ASKED, timeout=60)
        assert answer.failure.metadata["fault"] == "node", "the operator's own account is the version's"
    provider.tell(version)


async def test_a_name_without_a_provider_is_refused(provider, version, tmp_path):
    """After a fallback the key of one provider must not go to another."""
    put(tmp_path, "team-a", {"kind": "key", "key": OWN})
    before = provider.requests(version)
    async with chat(provider, version, credentials_dir=tmp_path) as call:
        answer = await call(ASKED, timeout=60, credentials={"": "team-a"})
    assert answer.failure.reason == Reason.CREDENTIAL_UNFIT
    assert f"it has {version}" in answer.failure.message
    assert provider.requests(version) == before
