"""The deployment over hosts of their own, with certificates everywhere: each may be cut off and come back.

A host is a network namespace, and being cut off is a cable that is pulled: nothing is refused, all vanishes.
What is promised while a host is away is asked for while it is away: a run that only waits for it fails here.
"""

import os
import random
import time
from collections.abc import Iterator
from typing import Any

import grpc
import psycopg
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.chaos.storm import Storm, storm
from tests.e2e.stack.running import eventually
from tests.support import compose as loopback
from tests.support import network
from tests.support.compose import Compose
from tests.support.hosts import running_hosts
from tests.support.ledger import Ledger, running_ledger
from tests.support.network import Network
from tests.support.rest import Rest
from tests.support.runs import ended, start_once

pytestmark = [
    pytest.mark.timeout(420),
    pytest.mark.skipif(
        os.environ.get("TEST_CHAOS") != "all", reason="`make chaos` does it: 23 processes on 8 hosts"
    ),
]

PLACES = {
    "platform": [("registry", 1), ("controlplane", 1), ("edge", 1)],
    "stores": [("postgres", 1), ("valkey", 1)],
    "orchestrators-1": [("orchestrator", 1)],
    "orchestrators-2": [("orchestrator", 2)],
    "proxies-1": [("mesh", 1)],
    "proxies-2": [("mesh", 2)],
    "nodes-1": [("node-http-request-1-0-0", 1), ("node-http-request-2-0-0", 1)],
    "nodes-2": [("node-http-request-2-0-0", 2)],
}
SCALE = {"orchestrator": 2, "mesh": 2, "node-http-request-2-0-0": 2}
ABSENT = (
    "gateway",
    "jaeger",
    "node-transform-execute-1-0-0",
    "node-ai-chat-openai",
    "node-ai-chat-anthropic",
    "node-ai-chat-local",
    "node-payment-charge-stripe",
    "node-payment-charge-paypal",
    "node-payment-charge-square",
    "node-payment-refund-1-0-0",
)
LEASE_SECONDS = 3


@pytest.fixture(scope="module")
def net() -> Iterator[Network]:
    """The cables."""
    if problem := network.why_not() or loopback.why_not():
        pytest.skip(problem)
    with network.network() as net:
        yield net


@pytest.fixture(scope="module")
def ledger(net: Network) -> Iterator[Ledger]:
    """The outside world."""
    with running_ledger(net.outside) as ledger:
        yield ledger


@pytest.fixture(scope="module")
def compose(tmp_path_factory: pytest.TempPathFactory, net: Network) -> Iterator[Compose]:
    """The deployment; `http.request` is 1.0.0, which is on one host only, and falls back to 2.0.0."""
    environment = {
        "REFLUX_HTTP_ALLOW": net.cidr,
        "REFLUX_LEASE_SECONDS": str(LEASE_SECONDS),
        "OTEL_EXPORTER_OTLP_ENDPOINT": "",
    }
    folder = tmp_path_factory.mktemp("hosts")
    with running_hosts(folder, net, PLACES, environment=environment, scale=SCALE, without=ABSENT) as compose:
        targets = [
            {"version": "1.0.0", "weight": 10_000, "fallback": ["2.0.0"]},
            {"version": "2.0.0", "weight": 0},
        ]
        compose.rest("PUT", "/api/routes/http.request", {"targets": targets}).ok()
        yield compose


def looking(compose: Compose, ledger: Ledger, name: str, *nodes: str) -> None:
    """A flow of pure calls of these nodes, one after the other."""
    call = {
        "with": {"url": f"{ledger.url}/effect/{name}?run={{{{ run.id }}}}&delay=0.05"},
        "retry": {"attempts": 5, "delay": "100ms"},
    }
    steps = [{"id": f"look{number}", "node": node, **call} for number, node in enumerate(nodes)]
    compose.rest(
        "PUT", f"/api/flows/{name}?allow_missing=true", {"name": name, "spec": {"steps": steps}}
    ).ok()


def succeeded(rest: Rest, run_ids: list[str]) -> list[dict[str, Any]]:
    """The attempts of runs that have all succeeded."""
    finals = [ended(rest, run_id) for run_id in run_ids]
    assert not [final["error"] for final in finals if final["state"] != "SUCCEEDED"]
    steps = [step for run_id in run_ids for step in rest.get(f"/api/runs/{run_id}/steps")["steps"]]
    return [attempt for step in steps for attempt in step["attempts"]]


def endpoints(compose: Compose, version: str) -> set[str]:
    """Where a version of `http.request` is, as the registry knows it."""
    known = compose.rest.get(f"/api/nodes/http.request/versions/{version}")
    return {endpoint["address"] for endpoint in known.get("endpoints", [])}


def owners(compose: Compose) -> dict[str, int]:
    """Who advances how many shards, by the address nodes know him by."""
    with psycopg.connect(compose.dsn, autocommit=True) as connection:
        found = connection.execute(
            "SELECT address, count(*) FROM orchestrator.members AS member JOIN orchestrator.shards "
            "ON owner = member.id WHERE member.state = 'alive' GROUP BY address"
        ).fetchall()
    return dict(found)


def calls(compose: Compose, number: int) -> int:
    """How many calls a proxy has had."""
    statistics = Rest(f"http://{compose.address('mesh', number)}:9902")("GET", "/stats?filter=http.mesh")
    [line] = [
        each for each in statistics.body.decode().splitlines() if "http.mesh.downstream_rq_total" in each
    ]
    return int(line.rpartition(" ")[2])


def all_ended(compose: Compose, storm: Storm) -> None:
    """What the clients have been told so far has come to its end."""
    for run_ids in list(storm.told.values()):
        for run_id in run_ids:
            ended(compose.rest, run_id)


def test_hosts_reach_each_other_by_certificates_only(compose: Compose, ledger: Ledger):
    """Each at an address of its own host, both proxies in use; who has no certificate gets no connection."""
    versions = {"1.0.0": "node-http-request-1-0-0", "2.0.0": "node-http-request-2-0-0"}
    for version, service in versions.items():
        wanted = {f"{each.ip}:4200" for each in compose.replicas[service]}
        assert endpoints(compose, version) == wanted
    both = {f"{each.ip}:4103" for each in compose.replicas["orchestrator"]}
    eventually(lambda: set(owners(compose)) == both, "both orchestrators have shards")

    looking(compose, ledger, "reached", "http.request", "http.request@2.0.0")
    attempts = succeeded(compose.rest, [start_once(compose.rest, "reached", each) for each in range(8)])

    assert {each["answered_by"] for each in attempts} == {"1.0.0", "2.0.0"}
    assert all(calls(compose, number) for number in (1, 2))
    for place in ("mesh:4001", "registry:4101", "orchestrator:4103", "node-http-request-1-0-0:4200"):
        service, port = place.split(":")
        with (
            grpc.insecure_channel(f"{compose.address(service)}:{port}") as channel,
            pytest.raises(grpc.RpcError) as refused,
        ):
            health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10)
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE, place


def test_a_host_of_nodes_is_cut_off_and_its_calls_go_elsewhere(
    compose: Compose, ledger: Ledger, net: Network
):
    """Runs in flight and runs begun meanwhile end while it is away, by the other endpoint of the same version
    and by the other version of the same node. It leaves the catalog, and it serves again when it is back.
    """
    looking(compose, ledger, "away", "http.request", "http.request@2.0.0", "http.request@2.0.0")
    here = compose.address("node-http-request-2-0-0", 2)
    run_ids = [start_once(compose.rest, "away", number) for number in range(8)]
    with net.without("nodes-1"):
        run_ids += [start_once(compose.rest, "away", number) for number in range(8, 16)]
        attempts = succeeded(compose.rest, run_ids)
        eventually(lambda: endpoints(compose, "2.0.0") == {f"{here}:4200"}, "its lease is over")
        assert endpoints(compose, "1.0.0") == set()

    assert {each["reason"] for each in attempts} & {"fallback", "ejected"}
    # Nobody waited until his own time was over: what was under way was seen to be lost.
    assert "DEADLINE_EXCEEDED" not in {each["error"]["code"] for each in attempts if each["error"]}
    eventually(lambda: endpoints(compose, "1.0.0"), "it registers again")
    looking(compose, ledger, "again", "http.request@1.0.0")
    again = succeeded(compose.rest, [start_once(compose.rest, "again", 0)])
    assert again[-1]["answered_by"] == "1.0.0"  # a proxy may hear of it after the registry


def test_an_orchestrator_is_cut_off_and_damages_nothing_when_it_is_back(
    compose: Compose, ledger: Ledger, net: Network
):
    """The other one takes over its shards and its runs, which end while it is away. Back, it takes its share
    again, and what it had begun changes no journal and repeats no effect.
    """
    first, second = (f"{each.ip}:4103" for each in compose.replicas["orchestrator"])
    eventually(lambda: owners(compose).keys() == {first, second}, "both have shards")
    with storm(compose, ledger, "parted") as load:
        with net.without("orchestrators-1"):
            eventually(lambda: owners(compose) == {second: 64}, "the other one has taken over")
            all_ended(compose, load)
        eventually(lambda: owners(compose).keys() == {first, second}, "it is back")


def test_a_proxy_is_killed_and_the_other_one_is_cut_off(compose: Compose, ledger: Ledger, net: Network):
    """Under load: runs in flight and runs begun meanwhile end by the proxy that is left, none fails, and no
    effect is doubled. The killed one is used again when it is back, since then there is no other.
    """
    with storm(compose, ledger, "unproxied") as load:
        compose.kill("mesh", 1)
        time.sleep(0.5)
        all_ended(compose, load)
        compose.start("mesh", 1)
        eventually(lambda: compose.healthy("mesh", 1), "it is back")
        with net.without("proxies-2"):
            before = len(load.told)
            eventually(lambda: len(load.told) > before, "runs are accepted")
            all_ended(compose, load)


def test_hosts_are_cut_off_at_random(compose: Compose, ledger: Ledger, net: Network):
    """Any of them, the stores and the platform too, one after the other, for some seconds each.

    The schedule follows a seed, which is printed: HOSTS_SEED plays it again.
    """
    seed = int(os.environ.get("HOSTS_SEED", "0")) or random.SystemRandom().randrange(1, 10**6)
    print(f"HOSTS_SEED={seed}")
    draw = random.Random(seed)
    with storm(compose, ledger, f"cut-{seed}"):
        for _ in range(20):
            with net.without(draw.choice(list(PLACES))):
                time.sleep(draw.uniform(0.2, 6.0))
            time.sleep(draw.uniform(0.0, 2.0))
