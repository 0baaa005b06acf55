"""`reflux run why`: for each attempt who was chosen and why, who answered, and what came of it."""

from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import typer

from reflux.cli import completion, spoken
from reflux.cli.commands.run_watch import get_run
from reflux.cli.failures import not_found
from reflux.cli.options import AsJson, DataDir, Server
from reflux.cli.output import Column, Output
from reflux.cli.session import SECONDS, Session, read, session, to_dict


def why(
    run_id: Annotated[str, typer.Argument(metavar="RUN", help="Its id.", autocompletion=completion.runs)],
    step: Annotated[
        str | None,
        typer.Argument(metavar="[STEP]", help="Only this step.", autocompletion=completion.steps),
    ] = None,
    server: Server = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Say why a run went as it did: every call of a node, in words and in a table.

    The route's revision, the draw and the weight are what the choice was made from; the weight is the
    probability with which that version was to be chosen.
    """
    with session(server, data_dir, as_json=as_json) as reflux:
        run = get_run(reflux, run_id)
        steps = get_steps(reflux, run_id)
        if step is not None:
            known = [each["id"] for each in steps]
            steps = [each for each in steps if each["id"] == step]
            if not steps:
                raise not_found(f"run {run_id} has no step {step!r}; it has {', '.join(known) or 'none'}")
        if as_json:
            shown = (
                "id",
                "node",
                "action",
                "state",
                "error",
                "skip_reason",
                "waiting",
                "attempts",
                "evidence",
            )
            reflux.out.json(
                {
                    **{key: run[key] for key in ("id", "state", "error", "waiting")},
                    "failure_run_error": run.get("failure_run_error"),
                    "steps": [{key: each[key] for key in shown} for each in steps],
                }
            )
            return
        reflux.out.line(f"Run {run['id']} of {run['flow_name']} is {run['state']}{_because(run)}", "bold")
        if untold := run.get("failure_run_error"):
            reflux.out.prose(f"No run hears of the failure: {untold['reason']}: {untold['message']}")
        out_now = _Ejected(reflux)
        for each in steps:
            _explain(reflux.out, each)
            for sentence in out_now.of(each):
                reflux.out.prose(sentence)
        rows = [(each["id"], *_attempt_row(attempt)) for each in steps for attempt in each["attempts"]]
        if rows:
            reflux.out.line()
            reflux.out.table(_COLUMNS, rows)


def get_steps(reflux: Session, run_id: str) -> list[dict[str, Any]]:
    """The StepRuns of a run, in document order."""
    from reflux.api.run.v1.run_service_pb2 import ListStepRunsRequest

    steps: list[dict[str, Any]] = []
    request = ListStepRunsRequest(run_id=run_id)
    while True:
        answer = read(reflux.runs.ListStepRuns(request, timeout=SECONDS))
        steps += answer["steps"]
        if not answer.get("next_page_token"):
            return steps
        request.page_token = answer["next_page_token"]


def show_steps(out: Output, steps: Sequence[dict[str, Any]]) -> None:
    """The steps of a run, a line each: its last attempt stands for it."""
    columns = [
        Column("STEP"),
        Column("STATE"),
        Column("NODE"),
        Column("CHOSEN"),
        Column("ANSWERED BY"),
        Column("BECAUSE"),
        Column("ATTEMPTS", right=True),
        Column("TRIES", right=True),
        Column("TOOK", right=True),
        Column("WHY", wraps=True),
    ]
    rows = []
    for step in steps:
        last = step["attempts"][-1] if step["attempts"] else {}
        error = step["error"] or {}
        reason = " ".join(filter(None, (error.get("reason"), step["skip_reason"])))
        rows.append(
            (
                step["id"],
                step["state"],
                step["node"] or step["action"],
                last.get("chosen", ""),
                last.get("answered_by", ""),
                last.get("reason", ""),
                len(step["attempts"]) or "",
                last.get("tries") or "",
                spoken.took(step["start_time"], step["finish_time"]),
                spoken.waiting(step["waiting"]) or reason,
            )
        )
    out.table(columns, rows)


_COLUMNS = [
    Column("STEP"),
    Column("ATTEMPT", right=True),
    Column("REVISION", right=True),
    Column("DRAW", right=True),
    Column("WEIGHT", right=True),
    Column("CHOSEN"),
    Column("ANSWERED BY"),
    Column("BECAUSE"),
    Column("TRIES", right=True),
    Column("FLAGS"),
    Column("OUTCOME"),
    Column("TOOK", right=True),
    Column("REASON"),
]


def _attempt_row(attempt: dict[str, Any]) -> tuple[object, ...]:
    heard = bool(attempt["chosen"])  # no reply has named a choice yet, or none ever will
    return (
        attempt["attempt"],
        attempt["revision"] if heard else "",
        attempt["draw"],
        spoken.percent(attempt["weight"]) if heard else "",
        attempt["chosen"],
        attempt["answered_by"],
        attempt["reason"],
        attempt["tries"] or "",
        attempt["flags"],
        attempt["outcome"] or "in flight",
        spoken.took(attempt["start_time"], attempt["finish_time"]),
        (attempt["error"] or {}).get("reason", ""),
    )


def _explain(out: Output, step: dict[str, Any]) -> None:
    out.line()
    what = f" calls {step['node']} and" if step["node"] else f" ({step['action']})"
    skipped = f": {step['skip_reason']}" if step["skip_reason"] else ""
    out.line(f"{step['id']}{what} is {step['state']}{skipped}", "bold")
    for attempt in step["attempts"]:
        out.prose(" ".join(sentences(step["node"], attempt)))
    if step["error"] and not step["attempts"]:
        out.prose(f"{step['error']['reason']}: {step['error']['message']}")
    if (asked := step.get("approval")) is not None and asked["message"]:
        out.prose(f"It asks: {asked['message']}")
    if step["waiting"]:
        out.prose(f"It waits: {spoken.waiting(step['waiting'])}.")


class _Ejected:
    """Who is ejected now, asked once and only when an attempt passed somebody over."""

    def __init__(self, reflux: Session) -> None:
        self._reflux = reflux
        self._known: dict[str, Any] | None = None

    def of(self, step: dict[str, Any]) -> Iterator[str]:
        """A sentence for each version that an attempt of the step found without a healthy endpoint."""
        passed = [each for each in step["attempts"] if each["chosen"] and _passed_over(each)]
        for version in dict.fromkeys(each["chosen"] for each in passed):
            yield from self._now(step["node"], version)

    def _now(self, node: str, version: str) -> Iterator[str]:
        found = self._ask()
        out = [each for each in found["ejections"] if (each["node"], each["version"]) == (node, version)]
        for each in out:
            why = _CAUSES.get(each["reason"], "")
            since = spoken.ago(each.get("since"))
            yield f"{version} at {each['endpoint']} is ejected now, by {each['proxy']} since {since}{why}."
        deaf = [each["address"] for each in found["proxies"] if not each["reachable"]]
        if deaf or not found["proxies"]:
            yield f"Whom {', '.join(deaf) or 'any proxy'} has ejected is not known."
        elif not out:
            yield f"No endpoint of {version} is ejected now: it was then, or was not there."

    def _ask(self) -> dict[str, Any]:
        import grpc

        from reflux.api.routing.v1.routing_service_pb2 import ListEjectionsRequest

        if self._known is None:
            try:
                self._known = to_dict(
                    self._reflux.routes.ListEjections(ListEjectionsRequest(), timeout=SECONDS)
                )
            except grpc.RpcError:  # the rest of the answer is worth showing
                self._known = {"ejections": [], "proxies": []}
        return self._known


_CAUSES = {
    "CONSECUTIVE": ", because calls in a row failed",
    "FAILURE_PERCENTAGE": ", because too large a share of its calls failed",
}


def _passed_over(attempt: dict[str, Any]) -> bool:
    """Whether no endpoint of the chosen version was healthy, as far as that is known."""
    return attempt["reason"] == "ejected" or (
        not attempt["answered_by"] and "UH" in attempt["flags"].split(",")
    )


def sentences(node: str, attempt: dict[str, Any]) -> Iterator[str]:
    """An attempt in words."""
    yield f"Attempt {attempt['attempt']}:"
    if attempt["reason"] == "cache":
        yield f"an earlier output of {attempt['answered_by']} was used again, and nobody was called."
    else:
        yield _choice(node, attempt)
        own = [each for each in attempt.get("override", ()) if each != "versions"]
        if own:
            yield f"The step's own route says: {'; '.join(own)}."
        yield from _answer(attempt)
    yield from _tries(attempt)
    if attempt["flags"]:
        yield f"Envoy says: {spoken.flags(attempt['flags'])}."
    if attempt.get("faults"):
        yield f"Fault injected: {'; '.join(attempt['faults'])}."
    yield from _outcome(attempt)


def _choice(node: str, attempt: dict[str, Any]) -> str:
    """Who was chosen, and from what."""
    chosen, draw = attempt["chosen"], f"the draw {attempt['draw']} of 10000"
    if not chosen:
        known = " and is in flight"
        if attempt["outcome"]:
            known = ", and was not sent" if _unsent(attempt) else "; no reply said which version that chose"
        return f"drew {attempt['draw']} of 10000{known}."
    if attempt["reason"] == "pin":
        return f"the step pins {chosen}."
    if attempt["reason"] == "fallback" and attempt["answered_by"] in ("", chosen):
        return f"{chosen} is asked in place of the version before it."
    if attempt["reason"] == "override" and "versions" in attempt.get("override", ["versions"]):
        share = spoken.percent(attempt["weight"])
        return f"the step itself gives {chosen} {share}, and {draw} chose it."
    by = " of its sticky value" if attempt.get("sticky") else ""
    return (
        f"revision {attempt['revision']} of the route of {node} gives {chosen} "
        f"{spoken.percent(attempt['weight'])}, and {draw}{by} chose it."
    )


def _answer(attempt: dict[str, Any]) -> Iterator[str]:
    """Who answered, and with what; or that nobody did."""
    answered, tries = attempt["answered_by"], attempt["tries"]
    if answered:
        count = f" in try {tries}" if tries > 1 else " at the first try" if tries else ""
        how = f", {spoken.choice(attempt['reason'])}" if answered != attempt["chosen"] else ""
        yield f"{answered} answered{count}{how}."
    elif attempt["outcome"] and not _unsent(attempt):
        yield "No version answered" + (f" in {tries} tries." if tries > 1 else ".")


def _unsent(attempt: dict[str, Any]) -> bool:
    """Whether it never came as far as a version."""
    return attempt["outcome"] == "NOT_SENT" and not attempt["tries"] and not attempt["flags"]


def _tries(attempt: dict[str, Any]) -> Iterator[str]:
    """What each try met; nothing where there is no more to tell than that it answered."""
    tried = attempt.get("tried") or []
    if attempt.get("batch_id"):
        yield "It shared its call with other attempts."
    if [each["code"] for each in tried] not in ([], ["OK"]):
        for number, each in enumerate(tried, start=1):
            yield f"Try {number} {_one_try(each, attempt.get('faults') or ())}."
    if attempt["outcome"] and attempt["tries"] and not attempt.get("tried_known", True):
        yield f"Not all of its {attempt['tries']} tries are known."


def _one_try(each: dict[str, Any], faults: Sequence[str]) -> str:
    length = f"{float(each['duration'].removesuffix('s')) * 1000:.1f} ms"
    if not each["version"]:  # Envoy sent nothing
        return f"reached nobody: {spoken.flags(each['flags']) or 'no healthy endpoint'}"
    if each["flags"] == "FI":
        return f"of {each['version']}: not sent to it, a fault gave {each['code']} in its place, {length}"
    where = f" at {each['endpoint']}" if each["endpoint"] else ""
    how = each["code"] or spoken.flags(each["flags"]) or "no answer"
    if each["flags"] == "UR" and any(_loses_reply(fault, each["version"]) for fault in faults):
        how = f"it has answered, and a fault lost its reply ({each['flags']})"
    return f"of {each['version']}{where}: {how}, {length}"


def _loses_reply(fault: str, version: str) -> bool:
    """Whether a fault, as it is written, loses the replies of a version."""
    parts = fault.split(",")
    named = [part for part in parts if part.startswith("version=")]
    return "drop=reply" in parts and named in ([], [f"version={version}"])


_OUTCOMES = {
    "DONE": "It is done",
    "NOT_SENT": "It was not sent",
    "NO_EFFECT": "It failed without an effect outside",
    "AMBIGUOUS": "Nobody knows whether its effect happened",
}


def _outcome(attempt: dict[str, Any]) -> Iterator[str]:
    if not attempt["outcome"]:
        if attempt["claimed"]:
            yield "Its effect is claimed."
        return
    length = spoken.took(attempt["start_time"], attempt["finish_time"])
    said = _OUTCOMES.get(attempt["outcome"], attempt["outcome"])
    error = attempt["error"]
    why = f": {error['reason']}: {error['message']}" if error else ""
    yield f"{said} ({attempt['outcome']}), after {length}{why}."
    if attempt.get("cost") is not None:
        yield f"It cost {spoken.money(attempt['cost'])}."


def _because(run: dict[str, Any]) -> str:
    if run["error"]:
        step = f" in step {run['error']['step']}" if run["error"]["step"] else ""
        return f": {run['error']['reason']}{step}: {run['error']['message']}"
    return f": {spoken.waiting(run['waiting'])}" if run["waiting"] else ""
