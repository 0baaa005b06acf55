"""Which versions of flows a version of a node must fit, and what is said when it does not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from reflux.api.flow.v1 import contract_service_pb2 as pb
from reflux.core.contract import Version
from reflux.core.errors import NotFound
from reflux.core.reasons import Reason
from reflux.orchestrator.contracts.desk import ContractDesk
from reflux.orchestrator.contracts.servicer import MAX_MISFITS, ContractServicer
from reflux.orchestrator.contracts.uses import UseReader
from reflux.orchestrator.contracts.watch import NewVersions
from reflux.orchestrator.mesh_view import TargetView
from tests.store.flows.conftest import refusal

if TYPE_CHECKING:
    from tests.store.flows.conftest import Flows

NODE = "shop.price"
TAKES = {"type": "object", "properties": {"mode": {"enum": ["slow", "fast"]}}}
STRICT = {"type": "object", "properties": {"mode": {"enum": ["slow"]}}}


class Schemas:
    """What the registry says."""

    def __init__(self):
        self.known = {("shop.price", "1.0.0"): TAKES, ("shop.price", "2.0.0"): STRICT}

    async def of(self, node, version):
        if (node, version) not in self.known:
            raise NotFound(Reason.NODE_VERSION_NOT_FOUND, f"{node} has no version {version!r}")
        return Version.of(version, self.known[node, version], {})


class Contracts:
    """The service over a database with flows."""

    def __init__(self, flows: Flows):
        self.schemas = Schemas()
        flows.mesh.add(NODE, "1.0.0")
        flows.mesh.add(NODE, "2.0.0")
        flows.mesh.send(NODE, TargetView("1.0.0", 10_000, ()))
        self.desk = ContractDesk(UseReader(flows.pool), self.schemas, flows.mesh)

    async def check(self, *versions, serving=(), node=NODE):
        request = pb.CheckContractsRequest(node=node, versions=versions, serving=serving)
        return await ContractServicer(self.desk).CheckContracts(request, None)

    async def against(self):
        """The flows that version 2.0.0 does not fit, as name@version."""
        (contract,) = (await self.check("2.0.0")).versions
        return [f"{each.flow}@{each.flow_version}" for each in contract.misfits]


@pytest.fixture
def contracts(flows):
    return Contracts(flows)


def pricing(name="shop", mode="fast", node=NODE, **more):
    return {"name": name, "spec": {"steps": [{"id": "price", "node": node, "with": {"mode": mode}}], **more}}


async def test_a_version_that_narrows_is_told_with_flow_step_and_place(flows, contracts):
    """And what to do."""
    made = await flows.create(pricing())
    answer = await contracts.check("1.0.0", "2.0.0")
    assert (list(answer.serving), answer.flow_versions) == (["1.0.0"], 1)
    fits, narrows = answer.versions
    assert (fits.version, fits.total, narrows.total) == ("1.0.0", 0, 1)
    assert narrows.misfits[0] == pb.Misfit(
        flow_id=made["id"],
        flow="shop",
        flow_version=1,
        step="price",
        pointer="/spec/steps/0/with/mode",
        code=pb.Misfit.INPUT_INVALID,
        sure=True,
        message="'fast' is not one of ['slow']",
        hint="let the step give what shop.price@2.0.0 takes; or let it name shop.price@1.0.0",
    )


async def test_the_current_version_of_a_flow_counts(flows, contracts):
    """A former one does not, once no run goes on with it."""
    await flows.create(pricing())
    await flows.replace("shop", pricing(mode="slow"))
    assert await contracts.against() == []
    await flows.replace("shop", pricing())
    assert await contracts.against() == ["shop@3"]


async def test_a_version_that_a_run_goes_on_with_counts(flows, contracts):
    """Also of a flow that is deleted; when the run has ended it does not."""
    made = await flows.create(pricing())
    await flows.replace("shop", pricing(mode="slow"))
    await begin(flows, made["id"])
    assert await contracts.against() == ["shop@1"]
    await flows.store.delete("shop")
    assert await contracts.against() == ["shop@1"]
    async with flows.pool.connection() as connection:
        await connection.execute(
            "UPDATE runs SET state = 'SUCCEEDED', finished_at = created_at, wake_at = NULL"
        )
    assert await contracts.against() == []


async def begin(flows, flow_id):
    """A run of the first version that has not ended."""
    async with flows.pool.connection() as connection:
        await connection.execute(
            "INSERT INTO runs (id, shard, flow_id, flow_name, flow_version, state, actor, created_at)"
            " VALUES (gen_random_uuid(), 0, %s, 'shop', 1, 'RUNNING', 'ada', now())",
            [flow_id],
        )


async def test_a_version_that_another_flow_names_counts(flows, contracts):
    """`name@version`, through as many flows as it takes, and for who hears of a failure."""
    await flows.create(pricing())
    await flows.replace("shop", pricing(mode="slow"))
    await flows.create({"name": "outer", "spec": {"steps": [{"id": "a", "flow": "shop@1"}]}})
    assert await contracts.against() == ["shop@1"]
    await flows.replace("outer", {"name": "outer", "spec": {"steps": [{"id": "a", "flow": "shop"}]}})
    assert await contracts.against() == []
    hears = {"policies": {"on_failure": {"flow": "shop@1"}}}
    await flows.replace("outer", pricing("outer", mode="slow", **hears))
    assert await contracts.against() == ["shop@1"]


async def test_who_names_its_version_does_not_count(flows, contracts):
    """The route moves no call of its."""
    await flows.create(pricing(node=f"{NODE}@1.0.0"))
    await flows.create(pricing("other", node="shop.other"))
    answer = await contracts.check("2.0.0")
    assert (answer.flow_versions, answer.versions[0].total) == (0, 0)


async def test_without_versions_all_that_are_registered_are_compared(flows, contracts):
    """With whom the route reaches, or with whom is named."""
    await flows.create(pricing())
    assert [(each.version, each.total) for each in (await contracts.check()).versions] == [
        ("1.0.0", 0),
        ("2.0.0", 1),
    ]
    assert (await contracts.check("2.0.0", serving=["2.0.0"])).versions[0].total == 1
    flows.mesh.send(NODE, TargetView("1.0.0", 5_000, ("9.9.9",)), TargetView("2.0.0", 5_000, ()))
    assert list((await contracts.check("1.0.0")).serving) == ["1.0.0", "2.0.0"]


async def test_a_version_that_is_not_registered_is_not_taken_for_one_that_fits(contracts):
    """Nor a node."""
    for asked in (contracts.check("3.0.0"), contracts.check(node="shop.nothing")):
        assert isinstance(await refusal(asked), NotFound)


async def test_an_answer_is_bounded_and_says_how_many_there_are(flows, contracts):
    """The first hundred are enough to begin with."""
    steps = [{"id": f"s{n}", "node": NODE, "with": {"mode": "fast"}} for n in range(MAX_MISFITS + 5)]
    await flows.create({"name": "many", "spec": {"steps": steps}})
    (contract,) = (await contracts.check("2.0.0")).versions
    assert (len(contract.misfits), contract.total) == (MAX_MISFITS, MAX_MISFITS + 5)


async def test_what_is_kept_is_bounded_and_right_all_the_same(flows, contracts):
    """Uses that had to go are worked out again."""
    for name in ("a", "b", "c"):
        await flows.create(pricing(name))
    contracts.desk = ContractDesk(UseReader(flows.pool, max_spec_bytes=1), contracts.schemas, flows.mesh)
    for _ in range(2):
        assert await contracts.against() == ["a@1", "b@1", "c@1"]


async def test_a_version_that_does_not_fit_is_told_when_it_is_registered(flows, contracts, caplog):
    """Once, and not of those that were there before."""
    await flows.create(pricing())
    watch = NewVersions(contracts.desk, flows.mesh)
    await watch.look()
    assert not caplog.records
    contracts.schemas.known[NODE, "3.0.0"] = STRICT
    flows.mesh.add(NODE, "3.0.0")
    for _ in range(2):
        await watch.look()
    (record,) = caplog.records
    assert (record.levelname, record.msg) == ("WARNING", "version_does_not_fit")
