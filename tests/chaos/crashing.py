"""One run, one orchestrator that dies or stops at a chosen point, another one that goes on; and the verdict.

The outside world is the effect ledger, a process of its own. The nodes are played here, as the SDK has it: a
node claims its effect, and only then acts, which the ledger records.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import psycopg

from reflux.cli.stack.ports import free_ports
from reflux.runtime import rpc
from reflux.runtime.settings import Address
from tests.chaos.corpus import KEYED, ONCE, Case
from tests.support.ledger import Ledger
from tests.support.orchestrators import PATIENCE, insist
from tests.support.scripted_mesh import Client, Mesh, claim

LEASE_SECONDS = 1.5
DEAD, STOPPED = signal.SIGKILL, signal.SIGSTOP
_STOPPED_SECONDS = 3
"""After which an orchestrator that does not answer is looked at: it may have been stopped."""
GONE = ("", "T")
"""States of a process that has ended, or was stopped."""


@dataclass(frozen=True, slots=True)
class Moment:
    """Where in a run the orchestrator ends."""

    point: str
    """Such as `journal:after`; see `tests.chaos.victim`."""
    number: int
    """How often it has been passed then."""


@dataclass
class Nursery:
    """Forks orchestrators; see `tests.chaos.victim`."""

    process: subprocess.Popen[str]

    def fork(self, **order: Any) -> int:
        """The pid of a new orchestrator."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())


@contextmanager
def nursery() -> Iterator[Nursery]:
    """A nursery; whatever it has forked ends with the block."""
    command = [sys.executable, "-m", "tests.chaos.victim"]
    environment = {**os.environ, "GRPC_ENABLE_FORK_SUPPORT": "false"}
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )
    try:
        yield Nursery(process)
    finally:
        process.communicate(timeout=30)


@dataclass
class World:
    """The nodes of one scenario, and the ledger they act upon."""

    ledger: Ledger
    mesh: Mesh
    session: aiohttp.ClientSession
    trouble: list[str] = field(default_factory=list)

    async def node(self, _given: Any, envelope: dict[str, str], context: grpc.aio.ServicerContext) -> Any:
        """Claims what is to be claimed, acts, answers."""
        node, step = envelope["x-reflux-node"], envelope["x-reflux-step"]
        if step == "first":
            await context.abort(grpc.StatusCode.ABORTED, "this one never works")
        acting = asyncio.ensure_future(self._act(node, step, envelope))
        # Whoever has claimed acts, whatever becomes of the caller.
        if not await asyncio.shield(acting):
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "the claim was refused")
        return {"step": step}

    async def _act(self, node: str, step: str, envelope: dict[str, str]) -> bool:
        if envelope["x-reflux-effect"] != "pure":
            try:
                await claim(envelope, execution=str(uuid.uuid4()), seconds=3)
            except grpc.aio.AioRpcError:
                return False
        query = {"run": envelope["x-reflux-run-id"], "step": step, "node": node}
        headers = {"Idempotency-Key": envelope["x-reflux-idempotency-key"]}
        async with self.session.post(
            f"{self.ledger.url}/effect/{node}", params=query, headers=headers
        ) as answer:
            answer.raise_for_status()
        return True


@asynccontextmanager
async def world(ledger: Ledger, mesh: Mesh) -> AsyncIterator[World]:
    """The nodes play on this mesh within the block."""
    async with aiohttp.ClientSession() as session:
        made = World(ledger, mesh, session)
        mesh.script = made.node
        yield made


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of a scenario: the end of the run, and everything that is wrong."""

    state: str
    reached: bool
    """Whether the orchestrator came to the point at all."""
    wrong: tuple[str, ...]


class Scenario:
    """A case, a moment and a signal, over a database of its own."""

    def __init__(self, nursery: Nursery, settings: dict[str, Any], folder: Path, case: Case) -> None:
        self._nursery = nursery
        self._settings = {**settings, "lease_seconds": LEASE_SECONDS, "shards": 4}
        self._folder = folder
        self._case = case

    async def points(self) -> list[Moment]:
        """Every moment of an undisturbed run, in order."""
        address, log = self._place("calm")
        pid = self._begin(address, log)
        async with _client(address) as client:
            run = await self._start(client, await self._save(client))
            await client.until(run, "SUCCEEDED", seconds=60)
        _end(pid)
        passed: Counter[str] = Counter()
        moments = []
        for point in (log.parent / f"{log.name}.points").read_text().split():
            passed[point] += 1
            moments.append(Moment(point, passed[point]))
        return moments

    async def play(self, moment: Moment, signal_number: signal.Signals, ledger: Ledger) -> Verdict:
        """The orchestrator ends at the moment; the client asks another one for the same."""
        address, log = self._place("victim")
        order = {"point": moment.point, "number": moment.number, "signal": int(signal_number)}
        victim = self._begin(address, log, **order)
        told = []
        async with _client(address) as client:
            flow = await self._save(client)
            reached = await _ends(client, flow, self._case.ahead, victim, told)
        # The dead one's successor binds its address; that of a stopped one must wait for the lease.
        heir, heir_log = (address, log) if signal_number is DEAD else self._place("heir")
        successor = self._begin(heir, heir_log) if reached or signal_number is STOPPED else victim
        try:
            async with asyncio.timeout(PATIENCE), _client(heir) as client:
                final, wrong = await self._finish(client, flow, told, victim if reached else None, ledger)
        except TimeoutError:
            final, wrong = {"state": "STUCK"}, [f"stuck: {heir_log.read_text()[-4_000:]}"]
        for pid in {victim, successor}:
            _end(pid)
        return Verdict(final["state"], reached, tuple(wrong))

    async def _finish(
        self, client: Client, flow: str, told: list[str], victim: int | None, ledger: Ledger
    ) -> tuple[dict[str, Any], list[str]]:
        """The end of the run as the heir tells it, after a stopped victim was let go, and what is wrong."""
        wrong = []
        told.append(await self._start(client, flow))
        final = await client.until(told[-1], "SUCCEEDED", "FAILED", "CANCELED", "PARKED", seconds=PATIENCE)
        events = await client.events(told[-1])
        if victim is not None and _state(victim) == "T":
            os.kill(victim, signal.SIGCONT)
            await asyncio.sleep(1.0)  # it finds out that it has been replaced
            final = await client.run(told[-1])
            if await client.events(told[-1]) != events:
                wrong.append("the zombie wrote")
        wrong += judge(self._case, final, events, ledger, told)
        return final, wrong + await asyncio.to_thread(self._leaks)

    def _leaks(self) -> list[str]:
        """Slots that are held or waited for, although every run has ended."""
        with psycopg.connect(self._settings["postgres_dsn"]) as database:
            left = database.execute("SELECT run_id::text, held FROM orchestrator.slots").fetchall()
        return [f"run {run_id} {'holds' if held else 'waits for'} a slot" for run_id, held in left]

    def _place(self, name: str) -> tuple[Address, Path]:
        return Address("127.0.0.1", free_ports(1)[0]), self._folder / f"{name}-{uuid.uuid4().hex[:8]}.log"

    def _begin(self, address: Address, log: Path, **order: Any) -> int:
        settings = {**self._settings, "orchestrator_address": str(address)}
        return self._nursery.fork(settings=settings, log=str(log), **order)

    async def _save(self, client: Client) -> str:
        case = self._case
        return await insist(lambda: client.save(case.name, *case.steps, policies=case.policies))

    async def _start(self, client: Client, flow: str) -> str:
        return await insist(lambda: _ask(client, flow, self._case.ahead))


async def _ask(client: Client, flow: str, ahead: int, seconds: float = 30) -> str:
    """The run of the one request that a scenario makes, after those that it makes ahead of it."""
    for number in range(ahead):
        await client.start(flow, {"n": 1}, seconds=seconds, request_id=f"ahead-{number}")
    return str((await client.start(flow, {"n": 1}, seconds=seconds, request_id="once"))["id"])


@asynccontextmanager
async def _client(address: Address) -> AsyncIterator[Client]:
    async with rpc.channel(address) as channel:
        yield Client(address, channel)


async def _ends(client: Client, flow: str, ahead: int, pid: int, told: list[str]) -> bool:
    """Starts the run; whether the process ends or stops before the run has ended."""
    async with asyncio.timeout(120):
        while _state(pid) not in GONE:
            with suppress(grpc.aio.AioRpcError):
                if not told:
                    told.append(await _ask(client, flow, ahead, seconds=_STOPPED_SECONDS))
                run = await client.run(told[-1], seconds=_STOPPED_SECONDS)
                if run["state"] not in ("QUEUED", "RUNNING", "CANCELING"):
                    await asyncio.sleep(0.1)  # what comes after the end of the run is a moment too
                    return _state(pid) in GONE
            await asyncio.sleep(0.02)
    return True


def _state(pid: int) -> str:
    """The letter of /proc for a process; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _end(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def judge(
    case: Case, run: dict[str, Any], events: list[dict[str, Any]], ledger: Ledger, told: list[str]
) -> list[str]:
    """Everything that breaks a promise, by the ledger, the journal, and what the client was told."""
    wrong = []
    if len(set(told)) != 1:
        wrong.append(f"one request, several runs: {told}")
    if [event["seq"] for event in events] != list(range(1, len(events) + 1)):
        wrong.append("the journal has gaps")
    done = Counter(event["step"] for event in events if event["data"].get("outcome") == "DONE")
    wrong += [f"{step} was recorded {times} times" for step, times in done.items() if times > 1]
    acted: dict[str, list[str]] = {}
    for entry in ledger.entries():
        if entry["query"]["run"] == run["id"]:
            acted.setdefault(entry["query"]["step"], []).append(entry["key"])
    for step, node in case.effects:
        keys = acted.get(step, [])
        if node == ONCE and len(keys) > 1:
            wrong.append(f"{step} acted {len(keys)} times")
        if node == KEYED and len(set(keys)) > 1:
            wrong.append(f"{step} acted under {len(set(keys))} keys")
    wrong += [f"{step} is recorded and never happened" for step in done if step not in acted]
    once = {step for step, node in case.effects if node == ONCE}
    if run["state"] == "SUCCEEDED":
        wrong += [f"{step} was never recorded" for step in case.done if step not in done]
    elif run["state"] != "PARKED" or not set(run["unresolved_effects"]) <= once:
        wrong.append(f"it ended {run['state']}: {run.get('error')} {run.get('unresolved_effects')}")
    return wrong
