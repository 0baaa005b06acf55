"""Every process of a stack, and Envoy, can be asked what it counts, and the figures move with the work."""

import time
import urllib.request
from collections.abc import Callable
from urllib.error import URLError

import pytest
from prometheus_client.parser import text_string_to_metric_families

from reflux.runtime.metrics_server import FRESH_SECONDS
from tests.support.rest import Rest
from tests.support.stack import Stack

NODE = "transform.execute"
SCRIPT = {"id": "t", "node": NODE, "with": {"code": "return 1"}}

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture
def flow(rest: Rest) -> str:
    """A flow of one step that calls a node."""
    document = {"name": "counted", "spec": {"steps": [SCRIPT]}}
    return rest("PUT", "/api/flows/counted?allow_missing=true", document).ok()["id"]


def samples(url: str) -> Samples:
    """Every sample at a URL, which must be text that Prometheus takes."""
    with urllib.request.urlopen(url, timeout=20) as response:
        assert response.headers["content-type"].startswith("text/plain")
        text = response.read().decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def urls(stack: Stack) -> dict[str, str]:
    """By part."""
    found = stack.state["urls"].items()
    return {name.removeprefix("metrics."): url for name, url in found if name.startswith("metrics.")}


def value(found: Samples, name: str, **labels: str) -> float:
    """The sum of a metric over everything with these labels."""
    return sum(number for (each, has), number in found.items() if each == name and labels.items() <= has)


def until(holds: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.2)


def test_every_part_answers(stack: Stack):
    """Each process of ours under its own name, and Envoy."""
    there = urls(stack)
    ours = {part for part in stack.state["parts"] if part not in {"postgres", "valkey"}}
    assert set(there) == ours
    for part, url in there.items():
        found = samples(url)
        if part == "envoy":
            assert value(found, "envoy_server_live") == 1
        else:
            name = part.removeprefix("node-")
            assert value(found, "target_info", service_name=f"reflux-{name}") == 1, part
            assert value(found, "process_resident_memory_bytes") > 0


def test_a_run_moves_the_figures(stack: Stack, rest: Rest, flow: str):
    """Of the orchestrator, of the node that was called, and of Envoy that carried the call."""
    there = urls(stack)
    node = next(part for part in there if part == "nodes" or part.startswith(f"node-{NODE}@"))
    before = {part: samples(there[part]) for part in ("orchestrator", node, "envoy")}
    ended = rest.post(f"/api/flows/{flow}/execute?wait=60s", {"x": 1})
    assert ended["state"] == "SUCCEEDED"
    time.sleep(2 * FRESH_SECONDS)  # what was read before is said again until then
    after = {part: samples(there[part]) for part in before}

    def risen(part: str, name: str, **labels: str) -> float:
        return value(after[part], name, **labels) - value(before[part], name, **labels)

    run = "orchestrator"
    assert risen(run, "reflux_runs_started_total") == 1
    assert risen(run, "reflux_runs_settled_total", state="SUCCEEDED") == 1
    assert risen(run, "reflux_run_duration_seconds_count", state="SUCCEEDED") == 1
    assert risen(run, "reflux_step_duration_seconds_count", node=NODE, state="SUCCEEDED") == 1
    assert risen(run, "reflux_step_duration_seconds_sum", node=NODE) > 0
    assert risen(run, "reflux_attempt_duration_seconds_count", node=NODE, version="1.0.0", code="OK") == 1
    assert risen(run, "reflux_attempts_total", node=NODE, reason="weight", outcome="DONE") == 1
    assert risen(run, "reflux_tries_total", node=NODE) == 1
    assert risen(run, "reflux_commit_size_sum", lane="journal") >= 2
    assert risen(run, "reflux_commit_size_sum", lane="start") == 1
    assert risen(node, "reflux_node_call_duration_seconds_count", node=NODE, code="OK") == 1
    assert risen("envoy", "envoy_cluster_upstream_rq_total", envoy_cluster_name=f"{NODE}@1.0.0") == 1


def test_the_state_of_the_stack_is_there(stack: Stack):
    """Shards, proxies, endpoints and ejections: what an operator alerts on."""
    there = urls(stack)
    until(lambda: value(samples(there["platform"]), "reflux_proxy_stats_reachable") == 1)
    platform, orchestrator = samples(there["platform"]), samples(there["orchestrator"])
    assert value(orchestrator, "reflux_shards_held") == 64
    assert value(orchestrator, "reflux_lease_changes_total", change="joined") >= 1
    assert value(platform, "reflux_proxies_connected") == 1
    assert value(platform, "reflux_acknowledgement_duration_seconds_count") >= 1
    for version in ("1.0.0", "2.0.0"):
        named = {"node": "http.request", "version": version}
        assert value(platform, "reflux_endpoints_live", **named) == 1
        ejected = [key for key in platform if key[0] == "reflux_ejections_active" and named.items() <= key[1]]
        assert len(ejected) == 1
    until(lambda: bool([key for key in samples(there["orchestrator"]) if key[0] == "reflux_runs_unfinished"]))


def test_a_part_that_is_started_again_keeps_its_port(stack: Stack):
    """Whoever scrapes it need not be told anything."""
    url = urls(stack)["orchestrator"]
    former = stack.kill("orchestrator")

    def back() -> bool:
        try:
            return value(samples(url), "reflux_shards_held") == 64
        except (URLError, OSError):
            return False

    until(lambda: stack.pid("orchestrator") not in (None, former) and back())
    assert urls(stack)["orchestrator"] == url
