"""What an attempt met in the mesh: its tries, put together when somebody looks at a run.

Two witnesses, and each is right about its part. The journal has what the reply said: how many tries there
were, and which version answered. The control plane has what Envoy's access log said of tries that did not
answer OK; it is asked only about attempts that had such tries, and may know nothing (log lost, too old, not
yet there, control plane away). So:

    as many tries logged as the reply counted            these are they
    one less, and the attempt is DONE                    the answer's is the missing one, and it was OK
    one less, and the reply says so (flags UH, UO)       the last try found no endpoint to go to
    any other number, or no reply was heard              what is logged is shown, and `tried_known` says no

An attempt's tries are those of its call: attempts of a batch have the same ones.
"""

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Final

import grpc

from reflux.api.routing.v1 import try_service_pb2 as pb
from reflux.api.routing.v1.try_service_pb2_grpc import TryServiceStub
from reflux.core.event import Outcome
from reflux.core.flow.durations import format_duration
from reflux.core.flow.model import StepRoute
from reflux.core.names import RunId, StepPath
from reflux.core.state import RunState
from reflux.runtime import logs, rpc
from reflux.runtime.settings import Address
from reflux.runtime.tls import Identity, Role

ASK_SECONDS: Final = 1.0
"""Whoever looks at a run waits so much longer for its tries at the most."""
MAX_CALLS: Final = 5_000
"""Asked about in one answer; the tries of further ones are not known there."""

_NOBODY: Final = frozenset({"UH", "UO"})
"""Envoy's flags for: no healthy endpoint, a limit reached. It sent nothing, so the log has no such try."""

log = logs.get_logger("provenance")


@dataclass(frozen=True, slots=True)
class Logged:
    """A try that did not answer OK."""

    version: str
    endpoint: str
    code: str
    flags: str
    start_time: datetime
    seconds: float


Heard = Mapping[str, Sequence[Logged]]
"""What is logged, by call."""


class Tries:
    """Asks the control plane."""

    def __init__(self, controlplane: Address, identity: Identity | None = None) -> None:
        self._address = controlplane
        self._identity = identity
        self._channel: grpc.aio.Channel | None = None

    async def of(self, calls: Iterable[str]) -> Heard | None:
        """What is logged of `calls`; None when the control plane could not be asked."""
        wanted = list(islice(dict.fromkeys(calls), MAX_CALLS))
        if not wanted:
            return {}
        if self._channel is None:
            self._channel = rpc.channel(self._address, Role.CONTROLPLANE, self._identity)
        stub: Any = TryServiceStub(self._channel)
        try:
            answer = await stub.ListFailedTries(pb.ListFailedTriesRequest(calls=wanted), timeout=ASK_SECONDS)
        except grpc.aio.AioRpcError as error:
            log.info("tries_unknown", code=error.code().name)
            return None
        heard: dict[str, list[Logged]] = {}
        for each in answer.tries:
            heard.setdefault(each.call, []).append(_logged(each))
        return heard

    async def close(self) -> None:
        """Gives the connection back."""
        if self._channel is not None:
            await asyncio.shield(self._channel.close())


def calls_of(state: RunState, first: int, limit: int) -> Iterator[str]:
    """The calls of a page of steps that had, or may have, tries that did not answer OK."""
    for path, run in islice(state.steps.items(), first, first + limit):
        for finished in run.finished:
            assignment = finished.assignment
            if assignment.tries > 1 or finished.outcome is not Outcome.DONE:
                yield call_name(state.id, path, finished.attempt, assignment.batch_id)
        if run.flight is not None:
            yield call_name(state.id, path, run.flight.started.attempt)


def call_name(run_id: RunId, step: StepPath, attempt: int, batch_id: str = "") -> str:
    """What the control plane knows the call of an attempt by."""
    return batch_id or f"{run_id}/{step}/{attempt}"


def own_way(route: StepRoute | None) -> list[str]:
    """What the route of a step says of its attempts, in the words of a flow; a pin is their reason."""
    if route is None:
        return []
    said = ["versions"] if route.versions else []
    if route.fallback is not None:
        said.append(f"fallback {', '.join(route.fallback) or 'none'}")
    if route.tries:
        said.append(f"tries {route.tries}")
    if route.try_timeout is not None:
        said.append(f"try_timeout {format_duration(route.try_timeout)}")
    return said


def account(run_id: RunId, step: StepPath, attempt: Mapping[str, Any], heard: Heard | None) -> dict[str, Any]:
    """What a run.v1.Attempt says beyond the journal: `probability`, `tried` and `tried_known`."""
    logged = (heard or {}).get(call_name(run_id, step, attempt["attempt"], attempt["batch_id"]), ())
    tried, known = _tried(attempt, logged)
    return {"probability": _probability(attempt), "tried": tried, "tried_known": known}


def _probability(attempt: Mapping[str, Any]) -> float | None:
    """Of the assignment: what the route promised, whoever answered. Nobody is assigned to a cached output."""
    if not attempt["chosen"] or attempt["reason"] == "cache":
        return None
    return 1.0 if attempt["reason"] == "pin" else attempt["weight"] / 10_000


def _tried(attempt: Mapping[str, Any], logged: Sequence[Logged]) -> tuple[list[dict[str, Any]], bool]:
    shown = [_shown(each) for each in logged]
    unheard = not attempt["chosen"] and not attempt["tries"]
    if not attempt["outcome"] or (unheard and attempt["outcome"] != Outcome.NOT_SENT):
        # It is in flight, or its reply was never heard. A cached output was DONE without any call.
        return shown, attempt["reason"] == "cache"
    missing = attempt["tries"] - len(shown)
    if missing == 1 and (last := _last(attempt, logged)) is not None:
        return [*shown, last], True
    return shown, missing == 0


def _last(attempt: Mapping[str, Any], logged: Sequence[Logged]) -> dict[str, Any] | None:
    """The last try, when it is one that is never logged: it answered OK, or found nobody to go to."""
    only = attempt["start_time"] if not logged else None
    if attempt["outcome"] == Outcome.DONE:
        took = _seconds(attempt) - sum(each.seconds for each in logged)
        return _try(attempt["answered_by"], "OK", "", only, max(0.0, took))
    if _NOBODY & set(attempt["flags"].split(",")):
        return _try("", "", attempt["flags"], only, 0.0)
    return None


def _seconds(attempt: Mapping[str, Any]) -> float:
    start, finish = (datetime.fromisoformat(attempt[each]) for each in ("start_time", "finish_time"))
    return (finish - start).total_seconds()


def _shown(of: Logged) -> dict[str, Any]:
    start = of.start_time.isoformat().replace("+00:00", "Z")
    return {**_try(of.version, of.code, of.flags, start, of.seconds), "endpoint": of.endpoint}


def _try(version: str, code: str, flags: str, start: str | None, seconds: float) -> dict[str, Any]:
    return {
        "version": version,
        "endpoint": "",
        "code": code,
        "flags": flags,
        "start_time": start,
        "duration": f"{seconds:.6f}s",
    }


def _logged(of: pb.FailedTry) -> Logged:
    from_epoch = of.start_time.ToDatetime(tzinfo=UTC)
    seconds = of.duration.ToTimedelta().total_seconds()
    return Logged(of.version, of.endpoint, of.code, of.flags, from_epoch, seconds)
