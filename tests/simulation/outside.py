"""The world outside the orchestrators: nodes behind a network, and the ledger of what they really did.

Nodes keep the contract of `reflux.sdk` and nothing else of it is used here: the class is theirs, a call that
is not pure is claimed right before it acts, with one execution id, at most twice; a refused claim means that
nothing is done, and says so. Everything between is the network's: requests and answers are lost, late or
doubled, nodes are slow before the claim and after it, and a call goes on after whoever sent it is gone.

The ledger knows nothing of journals. A node writes into it at the moment in which it acts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import grpc
from grpc.aio import AioRpcError, Metadata

from reflux.api.effect.v1 import effect_service_pb2 as effect_pb
from reflux.api.node.v1 import node_service_pb2 as node_pb
from reflux.api.registry.v1 import registry_service_pb2 as registry_pb
from reflux.api.routing.v1 import routing_service_pb2 as routing_pb
from reflux.orchestrator.mesh_view import MeshView
from reflux.runtime import rpc
from reflux.runtime.settings import Address
from tests.simulation.batches import Stream

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from tests.simulation.plan import Plan
    from tests.simulation.world import ProcessLoop, World

CLASSES: Final = {
    "pure": node_pb.Effect.PURE,
    "idem": node_pb.Effect.IDEMPOTENT,
    "comp": node_pb.Effect.COMPENSATABLE,
    "once": node_pb.Effect.AT_MOST_ONCE,
}
"""Nodes by name, and their class."""
VERSIONS: Final = ("1", "2")
"""Each version acts in an account of its own: `account-1`, `account-2`."""
ATTEMPT_SECONDS: Final = 4.0
ASKS: Final = 2
ASK_SECONDS: Final = 1.0


def mesh_view(*, batches: bool = False) -> MeshView:
    """What an orchestrator knows of these nodes: both versions, half of the traffic each.

    `batches`: a pure one can be asked for several at once.
    """
    view = MeshView(Address("registry", 1), Address("controlplane", 1))
    catalog, routes = registry_pb.Catalog(), routing_pb.WatchRoutesResponse()
    for node, kind in CLASSES.items():
        route = routes.routes.add(node=node, revision=1)
        for version in VERSIONS:
            stored = catalog.versions.add(node=node, version=version, digest=node + version)
            setattr(stored.effect, "class", kind)
            stored.batchable, stored.max_concurrency = batches and node == "pure", 64
            stored.attempt_timeout.FromNanoseconds(int(ATTEMPT_SECONDS * 1e9))
            route.targets.add(version=version, weight=5_000)
    view._on_catalog(catalog)
    view._on_routes(routes)
    return view


@dataclass(frozen=True, slots=True)
class Effect:
    """Something that happened outside, once and for ever."""

    at: float
    node: str
    run_id: str
    step: str
    key: str
    scope: str
    token: int
    attempt: int


@dataclass(frozen=True, slots=True)
class Sent:
    """A call that left an orchestrator."""

    at: float
    run_id: str
    step: str
    attempt: int
    token: int
    node: str
    sender: str


@dataclass(slots=True)
class Outside:
    """Nodes, the network to and from them, and the ledger."""

    world: World
    plan: Plan
    claim_at: Callable[[str, effect_pb.ClaimEffectRequest, Callable[[str], None]], None]
    """Brings a claim to an address, and its answer back: empty when granted."""
    ledger: list[Effect] = field(default_factory=list)
    sent: list[Sent] = field(default_factory=list)
    busy: int = 0
    """Calls that a node has and has not ended."""
    executions: int = 0
    token_of: Callable[[ProcessLoop, str], int] = lambda loop, run_id: 0
    """Under which token a process holds a run; what travels in company does not say it."""
    answered: set[tuple[str, str, int]] = field(default_factory=set)
    """Run, step and attempt of what was done; for pure nodes, of which no ledger is kept."""

    def done(self, run_id: str, step: str, attempt: int, version: str) -> bytes:
        """What a node answers that has done it."""
        self.answered.add((run_id, step, attempt))
        return b'{"by":"%s","of":"%s %s %d"}' % (version.encode(), run_id.encode(), step.encode(), attempt)

    def channel(self, loop: ProcessLoop) -> Any:
        """A gRPC channel of a process to the mesh, as far as `NodeCaller` uses one."""
        return _Channel(self, loop)

    def account(self, effect: Effect) -> None:
        """The provider's own rule: a key it has seen in this account is answered, not done again."""
        if CLASSES[effect.node] is not node_pb.Effect.AT_MOST_ONCE and any(
            done.key == effect.key and done.scope == effect.scope for done in self.ledger
        ):
            return
        self.world.note("effect", effect.node, effect.step, effect.scope, effect.key[:6])
        self.ledger.append(effect)


class _Channel:
    def __init__(self, outside: Outside, loop: ProcessLoop) -> None:
        self._outside = outside
        self._loop = loop

    def unary_unary(self, method: str, **_: object) -> Any:
        def call(request: Any, *, metadata: Sequence[tuple[str, str]], timeout: float) -> _Call:
            return _Call(self._outside, self._loop, dict(metadata), timeout)

        return call

    def unary_stream(self, method: str, **_: object) -> Any:
        def call(request: Any, *, metadata: Sequence[tuple[str, str]], timeout: float) -> Stream:
            outside, loop, envelope = self._outside, self._loop, dict(metadata)
            version = VERSIONS[int(envelope["x-reflux-draw"]) >= 5_000]
            node = envelope["x-reflux-node"]
            for item in request.items:
                token = outside.token_of(loop, item.run_id)
                sent = (outside.world.now, item.run_id, item.step, item.attempt, token, node, loop.name)
                outside.sent.append(Sent(*sent))
            outside.world.note("calls", loop.name, len(request.items))
            return Stream(outside, loop, request, version, timeout)

        return call


class _Call:
    """One call, from the moment in which it is sent; awaiting it gives the reply."""

    def __init__(self, outside: Outside, loop: ProcessLoop, envelope: dict[str, str], timeout: float) -> None:
        self._loop = loop
        self._labels: Sequence[tuple[str, str]] = ()
        self.future = loop.create_future()
        self._outside = outside
        world = outside.world
        step, attempt = envelope["x-reflux-step"], int(envelope["x-reflux-attempt"])
        outside.sent.append(
            Sent(
                world.now,
                envelope["x-reflux-run-id"],
                step,
                attempt,
                int(envelope["x-reflux-fencing-token"]),
                envelope["x-reflux-node"],
                loop.name,
            )
        )
        world.note("call", loop.name, step, attempt)
        if timeout <= 0:
            self.future.set_exception(_error(grpc.StatusCode.DEADLINE_EXCEEDED, "no time"))
            return
        self.deadline = world.after(timeout, self._late, loop=loop)
        _send(outside, self, envelope)

    def __await__(self) -> Generator[Any, None, Any]:
        try:
            return (yield from self.future.__await__())
        finally:
            deadline = getattr(self, "deadline", None)
            if deadline is not None:
                deadline.cancel()

    async def initial_metadata(self) -> Sequence[tuple[str, str]]:
        return self._labels

    def answer(self, reply: Any, labels: Sequence[tuple[str, str]]) -> None:
        """The reply arrives, if anybody still waits for it."""
        if self.future.done():
            return
        self._labels = labels
        if isinstance(reply, Exception):
            self.future.set_exception(reply)
        else:
            self.future.set_result(reply)

    def reply(self, reply: Any, labels: Sequence[tuple[str, str]] = ()) -> None:
        """Sends a reply on its way, which may be its end."""
        outside, world = self._outside, self._outside.world
        if outside.plan.happens(0.04):
            world.note("fault", "reply lost")
            return
        late = world.rng.random() * 0.01
        if outside.plan.happens(0.03):
            late += world.rng.uniform(0.5, 6)
        world.after(late, self.answer, reply, labels, loop=self._loop)

    def _late(self) -> None:
        self.answer(_error(grpc.StatusCode.DEADLINE_EXCEEDED, "deadline exceeded"), ())


def _send(outside: Outside, call: _Call, envelope: dict[str, str]) -> None:
    """A request on its way: refused by the mesh, lost, late, doubled, or simply there."""
    plan, world = outside.plan, outside.world
    pinned = envelope.get("x-reflux-version")
    version = pinned or VERSIONS[int(envelope["x-reflux-draw"]) >= 5_000]
    labels = [("x-reflux-chosen", version), ("x-reflux-weight", "5000"), ("x-reflux-revision", "1")]
    if plan.happens(0.05):
        world.note("fault", "refused by the mesh")
        labels += [("x-envoy-attempt-count", "1"), ("x-reflux-flags", "UH")]
        refusal = _error(grpc.StatusCode.UNAVAILABLE, "no healthy upstream", labels)
        world.after(0.002, call.answer, refusal, (), loop=call._loop)
        return
    if plan.happens(0.02):
        world.note("fault", "request lost")
        return
    late = world.rng.random() * 0.01
    if plan.happens(0.04):
        late += world.rng.uniform(0.5, 9)
    if pinned is None and plan.happens(0.05):  # passed over before it was tried
        version = VERSIONS[version == VERSIONS[0]]
    labels += [("x-reflux-answered-by", version), ("x-envoy-attempt-count", "1"),
               ("x-envoy-upstream-service-time", "1")]  # fmt: skip
    outside.busy += 1
    fate = world.rng.random()
    doubled = plan.happens(plan.doubles)
    world.after(late, _Execution(outside, call, envelope, version, labels, fate, doubled=doubled).begin)
    if doubled:
        world.note("fault", "request doubled")
        outside.busy += 1
        again = late + world.rng.choice((0.001, 0.02, 0.1, 2.0))
        world.after(again, _Execution(outside, None, envelope, version, labels, fate, doubled=True).begin)


class _Execution:
    """A handler of a node at work on one request.

    `fate` is that of the request: what it asks for succeeds or fails alike each time it arrives. Without a
    `call` nobody waits for the answer, and a doubled one that is refused its claim answers nothing, because a
    network that doubles a request cannot tell whose answer is whose.
    """

    def __init__(  # noqa: PLR0917 - all of it is what a request is
        self,
        outside: Outside,
        call: _Call | None,
        envelope: dict[str, str],
        version: str,
        labels: Sequence[tuple[str, str]],
        fate: float,
        *,
        doubled: bool,
    ) -> None:
        self._outside = outside
        self._call = call
        self._fate = fate
        self._doubled = doubled
        self._envelope = envelope
        self._node = envelope["x-reflux-node"]
        self._version = version
        self._labels = labels
        self._asked = 0
        outside.executions += 1
        self._id = f"execution-{outside.executions}"
        self._waiting = False

    def begin(self) -> None:
        world, plan = self._outside.world, self._outside.plan
        work = world.rng.choice((0.0, 0.01, 0.01, 0.1, 0.3))
        if plan.happens(0.05):
            work = world.rng.uniform(0.5, 8)
        if self._fate < 0.14:
            code = grpc.StatusCode.UNAVAILABLE if self._fate < 0.1 else grpc.StatusCode.NOT_FOUND
            world.after(work, self._fail, code, "NODE_FAULT", True)
        elif self._node == "pure":
            world.after(work, self._done)
        else:
            world.after(work, self._claim)

    def _claim(self) -> None:
        world, plan = self._outside.world, self._outside.plan
        self._asked += 1
        self._waiting = True
        asked = self._asked
        envelope = self._envelope
        request = effect_pb.ClaimEffectRequest(
            run_id=envelope["x-reflux-run-id"],
            step=envelope["x-reflux-step"],
            attempt=int(envelope["x-reflux-attempt"]),
            fencing_token=int(envelope["x-reflux-fencing-token"]),
            execution_id=self._id,
            scope=f"account-{self._version}",
            node_version=f"{self._node}@{self._version}",
        )
        address = envelope["x-reflux-claim-address"]
        late = world.rng.random() * 0.005
        if plan.happens(0.03):
            late += world.rng.uniform(0.3, 9)
        if plan.happens(0.02):
            world.note("fault", "claim lost")
        else:
            world.after(late, self._outside.claim_at, address, request, self._answered)
        if plan.happens(0.03):
            world.note("fault", "claim doubled")
            world.after(late + world.rng.uniform(0, 2), self._outside.claim_at, address, request, _nobody)
        world.after(ASK_SECONDS, self._unanswered, asked)

    def _answered(self, refusal: str) -> None:
        world, plan = self._outside.world, self._outside.plan
        if not self._waiting:
            return
        if refusal == "UNAVAILABLE":
            return  # heard of as no answer is
        self._waiting = False
        if refusal:
            self._refused()
            return
        pause = world.rng.random() * 0.02
        if plan.happens(0.06):
            world.note("fault", "node paused after its claim")
            pause = world.rng.uniform(1, 9)
        if self._fate > 0.95:
            world.after(pause, self._fail, grpc.StatusCode.UNAVAILABLE, "NODE_FAULT", True)
        else:
            world.after(pause, self._act, self._fate > 0.85)

    def _unanswered(self, asked: int) -> None:
        if not self._waiting or asked != self._asked:
            return
        self._waiting = False
        if self._asked < ASKS:
            self._claim()
        else:
            self._refused()

    def _refused(self) -> None:
        if self._doubled:
            self._outside.busy -= 1
        else:
            self._fail(grpc.StatusCode.FAILED_PRECONDITION, "CLAIM_REFUSED", True)

    def _act(self, fails: bool) -> None:  # noqa: FBT001 - called by the world, in order
        """Does it; whether the node says so or only fails is another matter."""
        envelope = self._envelope
        self._outside.account(
            Effect(
                self._outside.world.now,
                self._node,
                envelope["x-reflux-run-id"],
                envelope["x-reflux-step"],
                envelope["x-reflux-idempotency-key"],
                f"account-{self._version}",
                int(envelope["x-reflux-fencing-token"]),
                int(envelope["x-reflux-attempt"]),
            )
        )
        if fails:
            self._fail(grpc.StatusCode.UNAVAILABLE, "NODE_FAULT", False)
        else:
            self._done()

    def _done(self) -> None:
        envelope, attempt = self._envelope, int(self._envelope["x-reflux-attempt"])
        run_id, step = envelope["x-reflux-run-id"], envelope["x-reflux-step"]
        output = self._outside.done(run_id, step, attempt, self._version)
        self._end(node_pb.ExecuteResponse(output=output))

    def _fail(self, code: grpc.StatusCode, reason: str, no_effect: bool) -> None:  # noqa: FBT001
        metadata = {"outcome": "NO_EFFECT"} if no_effect else {}
        details = _status(code, reason, metadata)
        self._end(_error(code, "it says no", [*self._labels, (rpc.DETAILS_KEY, details)]))

    def _end(self, reply: Any) -> None:
        self._outside.busy -= 1
        if self._call is not None:
            self._call.reply(reply, self._labels)


def _nobody(_: str) -> None:
    """Nobody listens."""


_statuses: dict[tuple[grpc.StatusCode, str, bool], bytes] = {}


def _status(code: grpc.StatusCode, reason: str, metadata: dict[str, str]) -> bytes:
    key = code, reason, bool(metadata)
    if key not in _statuses:
        made = rpc.make_status(code, "it says no", reason=reason, metadata=metadata)
        _statuses[key] = made.SerializeToString()
    return _statuses[key]


def _error(code: grpc.StatusCode, message: str, trailers: Sequence[tuple[str, Any]] = ()) -> AioRpcError:
    return AioRpcError(code, Metadata(), Metadata(*trailers), details=message)
