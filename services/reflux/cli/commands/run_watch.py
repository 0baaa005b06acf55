"""Watching a run: its journal as it grows, resumed after a connection that broke.

The sequence number of the last event is all that has to be kept: asking again with it goes on behind it, so
nothing is shown twice and nothing is missed, whichever orchestrator answers.
"""

import time
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any, Final

from reflux.cli import spoken
from reflux.cli.session import SECONDS, Session, read

PATIENCE_SECONDS: Final = 60.0
"""How long a server may be away while a run is watched."""
_FIRST_PAUSE: Final = 0.2
_LONGEST_PAUSE: Final = 3.0
_LOST: Final = ("UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED", "RESOURCE_EXHAUSTED")
"""A stream that ended with one of these is opened again; so is one that was reset: INTERNAL, but without a
reason of ours."""


def follow(reflux: Session, run_id: str, after: int = 0) -> dict[str, Any]:
    """Show a run's events until it has finished, or is parked; the run as it is then.

    Raises:
        grpc.RpcError: there is no such run, or the server was away for `PATIENCE_SECONDS`.
    """
    out = reflux.out
    live = out.terminal and not out.as_json
    with out.console.status("") if live else nullcontext() as status:
        for event in events(reflux, run_id, after):
            if out.as_json:
                out.json_line(event)
                continue
            text, style = tell(event)
            out.line(f"{spoken.clock(event['time'])}  {text}", style)
            if status is not None:
                status.update(waits_for(event))
    return get_run(reflux, run_id)


def events(reflux: Session, run_id: str, after: int = 0) -> Iterator[dict[str, Any]]:
    """The events behind `after`, live; ends when the run has finished or is parked."""
    import grpc
    import orjson

    from reflux.api.run.v1.run_service_pb2 import WatchRunRequest

    pause, lost_at = _FIRST_PAUSE, None
    # The stream of a parked run stays open: it may go on one day. Whether something was parked is not known
    # when the beginning is not seen.
    parking = after > 0
    if parking and _is_parked(reflux, run_id):
        return
    while True:
        stream = reflux.runs.WatchRun(WatchRunRequest(run_id=run_id, after_seq=after))
        try:
            for answer in stream:
                pause, lost_at, after = _FIRST_PAUSE, None, answer.seq
                event = orjson.loads(answer.document)
                yield event
                parking = parking or "PARKED" in (
                    event["data"].get("state"),
                    event["kind"].removeprefix("Run").upper(),
                )
                if answer.last or (parking and _is_parked(reflux, run_id)):
                    return
        except grpc.RpcError as error:
            code: str = error.code().name
            now = time.monotonic()
            lost_at = now if lost_at is None else lost_at
            if not _is_lost(error, code) or now - lost_at > PATIENCE_SECONDS:
                raise
            if pause == _FIRST_PAUSE:
                reflux.out.note(
                    f"reflux: the connection is lost ({code}); trying to go on after event {after}"
                )
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
        else:
            return
        finally:
            stream.cancel()


def get_run(reflux: Session, run_id: str) -> dict[str, Any]:
    """A Run."""
    from reflux.api.run.v1.run_service_pb2 import GetRunRequest

    answer: dict[str, Any] = read(reflux.runs.GetRun(GetRunRequest(run_id=run_id), timeout=SECONDS))
    return answer


def _is_lost(error: Any, code: str) -> bool:
    from reflux.runtime import rpc

    return code in _LOST or (code == "INTERNAL" and not rpc.read(error).reason)


def _is_parked(reflux: Session, run_id: str) -> bool:
    return bool(get_run(reflux, run_id)["state"] == "PARKED")


def waits_for(event: dict[str, Any]) -> str:
    """What a run does after an event, as far as the event tells."""
    data, step = event["data"], event["step"]
    match event["kind"]:
        case "AttemptHeld" if data["why"]:
            return f"step {step}: attempt {data['attempt']} has not left: {data['why']}"
        case "AttemptStarted" | "AttemptHeld" | "EffectClaimed":
            return f"step {step}: attempt {data['attempt']} is in flight"
        case "AttemptFinished" if data["state"] == "RETRYING":
            return f"step {step}: the next attempt waits for its time, {spoken.clock(data['retry_at'])}"
        case _:
            return "going on"


def tell(event: dict[str, Any]) -> tuple[str, str]:
    """An event in words, and the style of its line."""
    data, step = event["data"], event["step"]
    match event["kind"]:
        case "RunCreated":
            trigger = f" by trigger {data['trigger']}" if data.get("trigger") else f" by {data['actor']}"
            return f"run of {data['flow_name']}, version {data['flow_version']}, accepted{trigger}", "bold"
        case "RunAdmitted":
            return "its turn has come: it begins", ""
        case "AttemptStarted":
            return f"{step}: attempt {data['attempt']} sent", ""
        case "AttemptHeld":
            why = f"has not left: {data['why']}" if data["why"] else "has left"
            return f"{step}: attempt {data['attempt']} {why}", ""
        case "EffectClaimed":
            return f"{step}: {data['node_version']} may act", ""
        case "AttemptFinished":
            return f"{step}: attempt {data['attempt']} {_attempt_end(data)}", _style(data["state"])
        case "StepEntered":
            until = f", until {spoken.local(data['until'])}" if data.get("until") else ""
            asks = f": {data['message']}" if data.get("message") else ""
            return f"{step}: begins{asks}{until}", ""
        case "StepSettled":
            why = f" ({data['skip_reason']})" if data["skip_reason"] else _failure(data["failure"])
            return f"{step}: {data['state']}{why}", _style(data["state"])
        case "CancelRequested":
            reason = f": {data['reason']}" if data["reason"] else ""
            return f"cancel asked for by {data['actor']}{reason}", "yellow"
        case "TimedOut":
            return f"{step or 'the run'}: its time is over", "yellow"
        case "RunRecovered":
            return f"taken over by {data['owner']}", "yellow"
        case "RunParked":
            return f"run PARKED{_failure(data['failure'])}", "yellow"
        case "RunFinished":
            return f"run {data['state']}{_failure(data['failure'])}", f"bold {_style(data['state'])}"
        case kind if (said := _said(kind, step, data)) is not None:
            return said, "yellow"
        case kind:  # of a newer server
            return f"{step}: {kind}" if step else str(kind), ""


def _said(kind: str, step: str, data: dict[str, Any]) -> str | None:
    """What somebody said to the run."""
    by, why = data.get("actor", ""), f": {data['reason']}" if data.get("reason") else ""
    match kind:
        case "SignalReceived":
            key = f" with the key {data['key']}" if data["key"] else ""
            return f"signal {data['name']}{key} from {by}"
        case "StepAnswered":
            comment = f": {data['comment']}" if data["comment"] else ""
            return f"{step}: {'approved' if data['approved'] else 'rejected'} by {by}{comment}"
        case "StepOverruled":
            version = f" {data['version']}" if data["version"] else ""
            return f"{step}: {data['choice']}{version}, decided by {by}{why}"
        case "RunPaused" | "RunResumed" | "RunTerminated":
            return f"run {kind.removeprefix('Run').lower()} by {by}{why}"
        case _:
            return None


def _attempt_end(data: dict[str, Any]) -> str:
    by = data["assignment"]["answered_by"]
    answered = f" by {by}" if by else ""
    length = spoken.took(data["start_time"], data["finish_time"])
    again = f"; the next one at {spoken.clock(data['retry_at'])}" if data["retry_at"] else ""
    return f"{data['outcome']}{answered} in {length}, step {data['state']}{_failure(data['failure'])}{again}"


def _failure(failure: dict[str, Any] | None) -> str:
    return f": {failure['reason']}: {failure['message']}" if failure else ""


def _style(state: str) -> str:
    from reflux.cli.output import STYLES

    return STYLES.get(state, "")
