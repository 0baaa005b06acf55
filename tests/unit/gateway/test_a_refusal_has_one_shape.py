"""Whatever the gateway refuses, the answer is google.rpc.Status in JSON with the fitting HTTP status."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from reflux.core.errors import Exhausted, Unavailable
from reflux.core.reasons import Reason
from reflux.gateway import errors
from reflux.runtime import rpc
from tests.unit.gateway.client import reason_of
from tests.unit.gateway.conftest import running
from tests.unit.gateway.orchestrator import RUN, Orchestrator

if TYPE_CHECKING:
    from tests.unit.gateway.conftest import Gateway

URL = f"/api/runs/{RUN}:watch"
UNKNOWN_RUN = "0193a1b2-c3d4-7000-8000-00000000ffff"


@pytest.mark.parametrize(
    ("path", "status", "reason"),
    [
        (f"/api/runs/{UNKNOWN_RUN}:watch", 404, Reason.RUN_NOT_FOUND),
        ("/api/runs/my_run:watch", 400, Reason.ARGUMENT_INVALID),
        (f"/api/runs/{RUN.replace('-', '')}:watch", 400, Reason.ARGUMENT_INVALID),
        (f"{URL}?after=-1", 400, Reason.ARGUMENT_INVALID),
        (f"{URL}?after=", 400, Reason.ARGUMENT_INVALID),
        (f"{URL}?after=2147483648", 400, Reason.ARGUMENT_INVALID),
        (f"{URL}?after=1&after=2", 400, Reason.ARGUMENT_INVALID),
        (f"{URL}?afetr=1", 400, Reason.ARGUMENT_INVALID),
        ("/?pretty=1", 400, Reason.ARGUMENT_INVALID),
        ("/openapi.yaml?v=1", 400, Reason.ARGUMENT_INVALID),
        ("/approve?token=t", 400, Reason.ARGUMENT_INVALID),
        ("/approve/", 404, Reason.PATH_UNKNOWN),
        ("/api/nothing", 404, Reason.PATH_UNKNOWN),
        (f"/api/runs/{RUN}:watch/", 404, Reason.PATH_UNKNOWN),
    ],
)
async def test_a_wrong_request_is_refused_with_its_reason(
    gateway: Gateway, path: str, status: int, reason: Reason
) -> None:
    """The status is for clients of HTTP, the reason for programs, the message for people."""
    async with gateway.client.get(path) as response:
        assert response.status == status
        assert response.content_type == "application/json"
        assert await reason_of(response) == reason


@pytest.mark.parametrize("position", ["abc", "1.5", "٣", "99999999999"])
async def test_a_position_that_is_no_number_is_refused(gateway: Gateway, position: str) -> None:
    """A client that resumes from nonsense is told so, instead of getting everything again."""
    async with gateway.client.get(URL, headers={"Last-Event-ID": position}) as response:
        assert response.status == 400
        body = await response.json()
        (request,) = [each for each in body["details"] if each["@type"].endswith("BadRequest")]
        assert request["field_violations"][0]["field"] == "Last-Event-ID"


@pytest.mark.parametrize("method", ["HEAD", "POST", "DELETE"])
async def test_only_get_is_served(gateway: Gateway, method: str) -> None:
    """HEAD too: it would watch a run for as long as it lives, and show nothing."""
    async with gateway.client.request(method, URL) as response:
        assert response.status == 405
        assert response.headers["allow"] == "GET"


async def test_an_orchestrator_that_is_away_is_503_and_worth_another_try() -> None:
    """Before the first event nothing is retried: the client decides, and RetryInfo says when."""
    async with running(Orchestrator(), open=5.0) as gateway, gateway.client.get(URL) as response:
        assert response.status == 503
        assert await reason_of(response) == Reason.SERVICE_UNREACHABLE
        body = await response.json()
        assert any(detail["@type"].endswith("RetryInfo") for detail in body["details"])
        assert response.headers["retry-after"] == "1"


async def test_what_the_orchestrator_refuses_keeps_its_reason(
    orchestrator: Orchestrator, gateway: Gateway
) -> None:
    """The gateway passes on the reason, not its own view of it."""
    orchestrator.refusals = [Unavailable(Reason.NOT_ACCEPTING, "draining")]
    async with gateway.client.get(URL) as response:
        assert response.status == 503
        assert await reason_of(response) == Reason.NOT_ACCEPTING


async def test_a_full_gateway_says_so(orchestrator: Orchestrator) -> None:
    """Beyond its limit a gateway refuses instead of slowing everybody down."""
    async with running(orchestrator, limit=0) as gateway, gateway.client.get(URL) as response:
        assert response.status == 429
        assert await reason_of(response) == Reason.TOO_MANY_WATCHERS
        assert response.headers["retry-after"] == "1"


async def test_the_time_that_the_orchestrator_names_is_passed_on(
    orchestrator: Orchestrator, gateway: Gateway
) -> None:
    """Not a guess of the gateway: a rate knows when the next run may begin."""
    orchestrator.refusals = [Exhausted(Reason.RATE_LIMIT, "too many", retry_seconds=41.5)]
    async with gateway.client.post("/hooks/a") as response:
        assert (response.status, response.headers["retry-after"]) == (429, "42")
        body = await response.json()
        (retry,) = [each for each in body["details"] if each["@type"].endswith("RetryInfo")]
        assert retry["retry_delay"] == "41.500s"


def test_every_code_of_ours_has_an_http_status() -> None:
    """No error of the tree can surprise the gateway."""
    assert set(errors.HTTP) == set(rpc.CODES.values())


async def test_a_defect_shows_an_id_and_nothing_else(
    orchestrator: Orchestrator,
    gateway: Gateway,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The caller can report what happened; how it happened stands in the log alone."""

    def broken(*_: object) -> bool:
        raise RuntimeError("the password is swordfish")

    monkeypatch.setattr("reflux.gateway.app.is_id", broken)
    async with gateway.client.get(URL) as response:
        assert response.status == 500
        assert await reason_of(response) == Reason.INTERNAL
        body = await response.text()
    assert "swordfish" not in body
    (record,) = [record for record in caplog.records if record.getMessage() == "request_failed"]
    assert record.exc_info is not None
    assert getattr(record, "reflux_fields")["error_id"] in body  # noqa: B009 - not an attribute mypy knows
