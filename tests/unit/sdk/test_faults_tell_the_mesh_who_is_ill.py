"""A NodeFault is seen and counted by the mesh, a TargetFault is not, and what is unknown is a NodeFault."""

import logging
from datetime import timedelta

import grpc
import pytest

from reflux.core.effect import EffectClass
from reflux.core.errors import NotFound
from reflux.core.reasons import Reason
from reflux.runtime.settings import Address, Settings
from reflux.sdk import Full, Model, NodeFault, TargetFault, node
from reflux.sdk.claims import Claims
from reflux.sdk.serving import node_server
from tests.unit.sdk.served import served
from tests.unit.sdk.wire import frames_of_execute

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE


class Input(Model):
    fail: str = ""


class Output(Model):
    ok: bool = True


FAULTS = {
    "node": NodeFault(UNAVAILABLE, "the provider is down"),
    "full": Full("no connection left"),
    "target": TargetFault(UNAVAILABLE, "the url is dead", metadata={"status": "503"}),
    "later": TargetFault(UNAVAILABLE, "busy", retry_after=timedelta(seconds=7)),
    "known": NotFound(Reason.ARGUMENT_INVALID, "no such customer"),
    "bug": KeyError("password swordfish"),
}


@node("test.failing", "1.0.0", effect=EffectClass.PURE, attempt_timeout=timedelta(seconds=5))
async def failing(given: Input) -> Output:
    """Fails as it is told."""
    if given.fail:
        raise FAULTS[given.fail]
    return Output()


async def frames(value: bytes) -> list[str]:
    async with (
        Claims() as claims,
        node_server(failing, Settings(), claims=claims, address=Address("127.0.0.1", 0)) as address,
    ):
        return await frames_of_execute(*address, value)


@pytest.mark.parametrize("fail", ["node", "full", "bug"])
async def test_a_node_fault_is_one_headers_frame(fail):
    """Trailers-only on the wire: the only form that Envoy retries, counts, and falls back from."""
    assert await frames(b'{"fail": "%s"}' % fail.encode()) == ["headers+end"]


@pytest.mark.parametrize("value", [b'{"fail": "target"}', b'{"fail": "known"}', b'{"unknown": 1}'])
async def test_a_target_fault_sends_headers_before_its_status(value):
    """Two headers frames: Envoy lets it pass, so a dead target never ejects the node for everyone."""
    assert await frames(value) == ["headers", "headers+end"]


async def test_success_is_headers_data_and_trailers():
    """The counterpart: nothing else is sent."""
    assert await frames(b"{}") == ["headers", "data", "headers+end"]


async def test_a_node_fault_says_that_nothing_was_processed():
    """Without a claim there was no effect, so the mesh may hand the call on in either lane."""
    async with served(failing) as call:
        answer = await call({"fail": "node"})
    assert answer.code is UNAVAILABLE
    assert answer.retry_safe
    assert answer.failure.reason == Reason.NODE_FAULT
    assert answer.failure.metadata["fault"] == "node"
    assert answer.failure.metadata["outcome"] == "NO_EFFECT"
    assert answer.failure.metadata["node_version"] == "test.failing@1.0.0"


async def test_a_target_fault_keeps_its_own_code_and_facts():
    """The step's `retry.on` sees the code; the mesh gets no mark to retry by."""
    async with served(failing) as call:
        answer = await call({"fail": "target"})
        later = await call({"fail": "later"})
    assert (answer.code, answer.failure.reason) == (UNAVAILABLE, Reason.TARGET_FAULT)
    assert not answer.retry_safe
    assert answer.headers["x-reflux-fault"] == "target"
    assert answer.failure.metadata["status"] == "503"
    assert later.failure.message == "busy"


async def test_an_exception_nobody_foresaw_tells_an_id_and_nothing_else(caplog):
    """The caller sees INTERNAL, the log the traceback, both the id."""
    with caplog.at_level(logging.ERROR, "node"):
        async with served(failing) as call:
            answer = await call({"fail": "bug"}, run_id="r1", step="fetch")
    assert answer.code is grpc.StatusCode.INTERNAL
    assert "swordfish" not in str(answer)
    fields = next(each for each in caplog.records if each.getMessage() == "node_failed").reflux_fields
    assert fields["error_id"] == answer.failure.metadata["error_id"]
    assert (fields["run_id"], fields["step"]) == ("r1", "fetch")


def test_a_node_fault_the_mesh_cannot_see_is_refused_where_it_is_made():
    """Envoy does nothing on NOT_FOUND, so it cannot mean that the version is ill."""
    with pytest.raises(ValueError, match="NOT_FOUND"):
        NodeFault(grpc.StatusCode.NOT_FOUND, "no")
    with pytest.raises(ValueError, match="OK"):
        TargetFault(grpc.StatusCode.OK, "no")
