"""`reflux run why`: for each attempt who was chosen and why, who answered, and what came of it."""

from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import typer

from reflux.cli import completion, spoken
from reflux.cli.commands.run_watch import get_run
from reflux.cli.failures import not_found
from reflux.cli.options import AsJson, DataDir, Server
from reflux.cli.output import Column, Output
from reflux.cli.session import SECONDS, Session, read, session


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
                    "steps": [{key: each[key] for key in shown} for each in steps],
                }
            )
            return
        reflux.out.line(f"Run {run['id']} of {run['flow_name']} is {run['state']}{_because(run)}", "bold")
        for each in steps:
            _explain(reflux.out, each)
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
        error, waiting = step["error"] or {}, step["waiting"] or {}
        until = f", until {spoken.clock(waiting['until'])}" if waiting.get("until") else ""
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
                f"{waiting['why']}{until}" if waiting else reason,
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
        until = f", until {spoken.local(step['waiting']['until'])}" if step["waiting"]["until"] else ""
        out.prose(f"It waits: {step['waiting']['why']}{until}.")


def sentences(node: str, attempt: dict[str, Any]) -> Iterator[str]:
    """An attempt in words."""
    yield f"Attempt {attempt['attempt']}:"
    chosen, answered = attempt["chosen"], attempt["answered_by"]
    if attempt["reason"] == "pin" and chosen:
        yield f"the step pins {chosen}."
    elif attempt["reason"] == "override" and chosen and "versions" in attempt.get("override", ["versions"]):
        yield (
            f"the step itself gives {chosen} {spoken.percent(attempt['weight'])}, "
            f"and the draw {attempt['draw']} of 10000 chose it."
        )
    elif chosen:
        by = " of its sticky value" if attempt.get("sticky") else ""
        yield (
            f"revision {attempt['revision']} of the route of {node} gives {chosen} "
            f"{spoken.percent(attempt['weight'])}, and the draw {attempt['draw']} of 10000{by} chose it."
        )
    elif attempt["outcome"]:
        yield f"drew {attempt['draw']} of 10000; no reply said which version that chose."
    else:
        yield f"drew {attempt['draw']} of 10000 and is in flight."
    own = [each for each in attempt.get("override", ()) if each != "versions"]
    if own:
        yield f"The step's own route says: {'; '.join(own)}."
    if answered:
        tries = attempt["tries"]
        count = f" in try {tries}" if tries > 1 else " at the first try" if tries else ""
        how = spoken.choice(attempt["reason"])
        yield f"{answered} answered{count}" + (f", {how}." if answered != chosen else ".")
    elif attempt["outcome"]:
        yield "No version answered" + (f" in {attempt['tries']} tries." if attempt["tries"] else ".")
    yield from _tries(attempt)
    if attempt["flags"]:
        yield f"Envoy says: {spoken.flags(attempt['flags'])}."
    if attempt.get("faults"):
        yield f"Fault injected: {'; '.join(attempt['faults'])}."
    yield from _outcome(attempt)


def _tries(attempt: dict[str, Any]) -> Iterator[str]:
    """What each try met; nothing where there is no more to tell than that it answered."""
    tried = attempt.get("tried") or []
    if attempt.get("batch_id"):
        yield "It shared its call with other attempts."
    if [each["code"] for each in tried] not in ([], ["OK"]):
        for number, each in enumerate(tried, start=1):
            yield f"Try {number} {_one_try(each)}."
    if attempt["outcome"] and attempt["tries"] and not attempt.get("tried_known", True):
        yield f"Not all of its {attempt['tries']} tries are known."


def _one_try(each: dict[str, Any]) -> str:
    if not each["version"]:
        return "found no healthy endpoint"
    where = f" at {each['endpoint']}" if each["endpoint"] else ""
    how = each["code"] or spoken.flags(each["flags"]) or "no answer"
    return f"of {each['version']}{where}: {how}, {float(each['duration'].removesuffix('s')) * 1000:.1f} ms"


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
    return f": {run['waiting']['why']}" if run["waiting"] else ""
