"""A provider of language models dies, and no run fails: the whole stack, with a provider a process each."""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.examples.demo.screen import save
from tests.support.provider import Provider, environment_of, running_provider
from tests.support.stack import Stack, running_stack

FLOW = "ask-a-model"
RUNS = 12


@pytest.fixture(scope="module")
def openai() -> Iterator[Provider]:
    with running_provider() as provider:
        yield provider


@pytest.fixture(scope="module")
def anthropic() -> Iterator[Provider]:
    with running_provider() as provider:
        yield provider


@pytest.fixture(scope="module")
def asking(tmp_path_factory, openai: Provider, anthropic: Provider) -> Iterator[Stack]:
    """A stack that knows both, and has no server of its own for `local`."""
    environment = environment_of(openai=openai, anthropic=anthropic)
    with running_stack(tmp_path_factory.mktemp("chat") / "data", environment=environment) as stack:
        save(stack.rest, "ask_a_model.yaml")
        yield stack


def ask(stack: Stack, runs: int) -> list[dict]:
    """So many runs at once; each with the one attempt of its question."""
    path = f"/api/flows/{FLOW}/execute?wait=60s"
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: stack.rest.post(path, {"question": "Who are you?"}), range(runs)))
    for run in made:
        assert run["state"] == "SUCCEEDED", run["error"]
        run["attempts"] = stack.rest.get(f"/api/runs/{run['id']}/steps")["steps"][0]["attempts"]
    return made


def test_the_shipped_route_asks_both_and_each_answer_tells_its_cost(asking: Stack):
    """70/30 as the draw has it; model, tokens and cost are in the run's output, and the cost is the run's."""
    runs = ask(asking, RUNS)
    for run in runs:
        (attempt,) = run["attempts"]
        expected = "openai" if attempt["draw"] < 7000 else "anthropic"
        assert attempt["chosen"] == attempt["answered_by"] == expected
        model = {"openai": "gpt-6-luna", "anthropic": "claude-haiku-5-5"}[expected]
        assert run["output"]["model"] == model
        assert run["output"]["answer"] == "You said: Who are you?"
        assert run["cost"] == attempt["cost"] == float(run["output"]["cost"]["amount"]) > 0


def test_a_limit_at_one_provider_is_answered_by_the_next(asking: Stack, openai: Provider):
    """429 is no reason to wait while another provider has room."""
    openai.tell("openai", "status", status=429, retry_after=3600)
    runs = ask(asking, RUNS)
    openai.tell("openai", "ok")
    assert {run["attempts"][-1]["answered_by"] for run in runs} == {"anthropic"}


def test_an_input_that_a_provider_declines_is_not_handed_on(asking: Stack, anthropic: Provider):
    """Another provider's answer would hide what is wrong with it: the step fails, in the provider's words."""
    before = anthropic.requests("anthropic")
    step = {
        "id": "ask",
        "node": "ai.chat@openai",
        "with": {
            "messages": [{"role": "user", "content": "x"}],
            "providers": {"openai": {"model": "no-such-model"}},
        },
    }
    asking.rest("PUT", "/api/flows/bad?allow_missing=true", {"name": "bad", "spec": {"steps": [step]}}).ok()
    run = asking.rest.post("/api/flows/bad/execute?wait=60s")
    assert run["state"] == "FAILED"
    assert run["error"]["reason"] == "PROVIDER_DECLINED"
    assert "no-such-model" in run["error"]["message"]
    assert anthropic.requests("anthropic") == before


def test_a_killed_provider_costs_no_run(asking: Stack, openai: Provider):
    """Chosen is openai, answered has anthropic, because of the fallback; no run fails, none retries."""
    openai.kill()
    runs = ask(asking, RUNS)
    openai.restart()
    chosen = Counter(run["attempts"][0]["chosen"] for run in runs)
    assert chosen["openai"] > 0
    for run in runs:
        (attempt,) = run["attempts"]
        assert attempt["answered_by"] == "anthropic"
        # After five failures in a row it is passed over untried.
        went_elsewhere = attempt["chosen"] == "openai"
        assert (attempt["reason"] in ("fallback", "ejected")) == went_elsewhere
        assert run["output"]["model"] == "claude-haiku-5-5"
