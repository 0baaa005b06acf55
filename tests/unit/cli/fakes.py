"""A server as the edge shows it, small enough to be told what to do: real gRPC, real errors, documents judged
by the product's own code. What it keeps is plain attributes that a test sets and reads.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import grpc
import orjson
from google.api.httpbody_pb2 import HttpBody
from google.protobuf.empty_pb2 import Empty
from grpc_status import rpc_status

from reflux.api.flow.v1 import flow_service_pb2 as flow_pb
from reflux.api.flow.v1.contract_service_pb2_grpc import add_ContractServiceServicer_to_server
from reflux.api.flow.v1.flow_service_pb2_grpc import FlowServiceServicer, add_FlowServiceServicer_to_server
from reflux.api.node.v1.node_service_pb2 import Effect
from reflux.api.operation.v1.operation_service_pb2_grpc import add_OperationServiceServicer_to_server
from reflux.api.registry.v1 import registry_service_pb2 as node_pb
from reflux.api.registry.v1.registry_service_pb2_grpc import (
    RegistryServiceServicer,
    add_RegistryServiceServicer_to_server,
)
from reflux.api.routing.v1 import routing_service_pb2 as route_pb
from reflux.api.routing.v1.routing_service_pb2_grpc import (
    RoutingServiceServicer,
    add_RoutingServiceServicer_to_server,
)
from reflux.api.run.v1 import run_service_pb2 as run_pb
from reflux.api.run.v1.run_service_pb2_grpc import RunServiceServicer, add_RunServiceServicer_to_server
from reflux.api.shadow.v1.shadow_service_pb2_grpc import add_ShadowServiceServicer_to_server
from reflux.api.trigger.v1.trigger_service_pb2_grpc import add_TriggerServiceServicer_to_server
from reflux.controlplane import document, views
from reflux.core.errors import (
    AlreadyExists,
    Conflict,
    InvalidArgument,
    NotFound,
    RefluxError,
    Violation,
)
from reflux.core.flow import compile_flow
from reflux.core.reasons import Reason
from reflux.runtime import documents, rpc
from tests.unit.cli.fake_triggers import Triggers
from tests.unit.cli.fake_verdicts import Contracts, Shadows
from tests.unit.cli.operation_fakes import Operations
from tests.unit.cli.shapes import RUN, TIME, a_run

if TYPE_CHECKING:
    from collections.abc import Iterator


class Refusing(grpc.ServerInterceptor):
    """What a handler raises reaches the client as the services' own errors do; `next_error` comes first."""

    def __init__(self, server: FakeServer) -> None:
        self._server = server

    def intercept_service(self, continuation: Any, details: grpc.HandlerCallDetails) -> Any:
        handler = continuation(details)
        self._server.asked.append(details.method.rpartition("/")[2])
        kind = "unary_stream" if handler.response_streaming else "unary_unary"
        behaviour = getattr(handler, kind)

        def refuse(error: RefluxError, context: Any) -> None:
            context.abort_with_status(rpc_status.to_status(rpc.to_status(error)))

        def answer(request: Any, context: Any) -> Any:
            try:
                if self._server.next_errors:
                    raise self._server.next_errors.pop(0)
                return behaviour(request, context)
            except RefluxError as error:
                refuse(error, context)

        def stream(request: Any, context: Any) -> Iterator[Any]:
            try:
                yield from behaviour(request, context)
            except RefluxError as error:
                refuse(error, context)

        return getattr(grpc, f"{kind}_rpc_method_handler")(
            stream if handler.response_streaming else answer,
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )


class Flows(FlowServiceServicer):
    """Saves what compiles; every save of another spec is a version."""

    def __init__(self) -> None:
        self.unfit: list[flow_pb.Problem] = []
        """What the nodes say against any flow."""
        self.flows: dict[str, list[dict[str, Any]]] = {}

    def CreateFlow(self, request: flow_pb.CreateFlowRequest, context: Any) -> HttpBody:
        flow = self._judge(request.document)
        if flow["name"] in self.flows:
            raise AlreadyExists(Reason.FLOW_NAME_TAKEN, f"flow {flow['name']} exists")
        return self._save(flow)

    def ReplaceFlow(self, request: flow_pb.ReplaceFlowRequest, context: Any) -> HttpBody:
        assert request.allow_missing
        return self._save(self._judge(request.document))

    def GetFlow(self, request: flow_pb.GetFlowRequest, context: Any) -> HttpBody:
        return body(self._versions(request.flow_id)[-1])

    def ListFlows(self, request: flow_pb.ListFlowsRequest, context: Any) -> flow_pb.ListFlowsResponse:
        names = sorted(name for name in self.flows if name > request.page_token)
        page, more = names[:2], names[2:]  # small pages, so that clients must ask for all of them
        flows = [self._summary(self.flows[name][-1]) for name in page]
        return flow_pb.ListFlowsResponse(flows=flows, next_page_token=page[-1] if more else "")

    def ListFlowVersions(self, request: Any, context: Any) -> flow_pb.ListFlowVersionsResponse:
        versions = [self._version_summary(each) for each in reversed(self._versions(request.flow_id))]
        return flow_pb.ListFlowVersionsResponse(versions=versions)

    def GetFlowVersion(self, request: flow_pb.GetFlowVersionRequest, context: Any) -> HttpBody:
        return body(self._version(request.flow_id, request.version))

    def RollbackFlow(self, request: flow_pb.RollbackFlowRequest, context: Any) -> HttpBody:
        older = self._version(request.flow_id, request.version)
        return self._save(
            {**self._versions(request.flow_id)[-1], "spec": older["spec"], "digest": older["digest"]}
        )

    def DeleteFlow(self, request: flow_pb.DeleteFlowRequest, context: Any) -> Empty:
        self._versions(request.flow_id)
        del self.flows[request.flow_id]
        return Empty()

    def PlanFlow(self, request: flow_pb.PlanFlowRequest, context: Any) -> flow_pb.PlanFlowResponse:
        value: Any = self._versions(request.flow_id)[-1] if request.flow_id else None
        value = value or documents.parse(request.document, what="the flow")
        result = compile_flow(value)
        return flow_pb.PlanFlowResponse(
            valid=not (result.problems or self.unfit),
            problems=[
                *self.unfit,
                *(
                    flow_pb.Problem(
                        code=each.code, pointer=each.pointer, message=each.message, hint=each.hint
                    )
                    for each in result.problems
                ),
            ],
            steps=[
                flow_pb.PlannedStep(
                    step=step.path,
                    node="http.request",
                    versions=[flow_pb.PlannedVersion(version="1.0.0", weight=10000, endpoints=1)],
                    effect="by input",
                    lane="safe",
                )
                for step in result.calls
            ],
        )

    def _judge(self, given: HttpBody) -> dict[str, Any]:
        value: Any = documents.parse(given, what="the flow")
        result = compile_flow(value)
        if result.flow is None:
            violations = [Violation(each.pointer, each.message) for each in result.problems]
            raise InvalidArgument(Reason.FLOW_INVALID, "the flow has problems", violations=violations)
        kept = {"description": value.get("description", ""), "ui": value.get("ui")}
        return {"name": result.flow.name, **kept, "spec": result.spec, "digest": result.flow.digest}

    def _save(self, flow: dict[str, Any]) -> HttpBody:
        versions = self.flows.setdefault(flow["name"], [])
        if not versions or versions[-1]["digest"] != flow["digest"]:
            times = {"create_time": TIME, "update_time": TIME}
            versions.append({**flow, "id": f"id-of-{flow['name']}", "version": len(versions) + 1, **times})
        return body(versions[-1])

    def _versions(self, key: str) -> list[dict[str, Any]]:
        if key not in self.flows:
            raise NotFound(Reason.FLOW_NOT_FOUND, f"there is no flow {key!r}")
        return self.flows[key]

    def _version(self, key: str, number: int) -> dict[str, Any]:
        for each in self._versions(key):
            if each["version"] == number:
                return each
        raise NotFound(Reason.FLOW_VERSION_NOT_FOUND, f"flow {key} has no version {number}")

    def _version_summary(self, flow: dict[str, Any]) -> flow_pb.FlowVersion:
        message = flow_pb.FlowVersion(
            flow_id=flow["id"], version=flow["version"], digest=flow["digest"], author="ann"
        )
        message.create_time.FromJsonString(TIME)
        return message

    def _summary(self, flow: dict[str, Any]) -> flow_pb.Flow:
        shown = {key: flow[key] for key in ("id", "name", "description", "version", "digest")}
        message = flow_pb.Flow(**shown)
        message.update_time.FromJsonString(TIME)
        return message


class Runs(RunServiceServicer):
    """One run, as the test wants it; executions are remembered."""

    def __init__(self) -> None:
        self.run: dict[str, Any] = a_run("SUCCEEDED")
        self.steps: list[dict[str, Any]] = []
        self.states = ["SUCCEEDED"]
        """States of the answers of ExecuteFlow; the last one stays."""
        self.executed: list[run_pb.ExecuteFlowRequest] = []
        self.listed: list[run_pb.ListRunsRequest] = []
        self.cancelled: list[bytes] = []
        self.said: list[tuple[str, str, dict[str, Any]]] = []
        """The kind of request (or the name of a signal), the step, the document."""
        self.taken_by = "w"
        """The step that takes signals; empty: none does."""
        self.events: list[dict[str, Any]] = []
        self.watched: list[int] = []
        self.breaks_after: list[int] = []
        """Sequence numbers after which the stream breaks, each once."""
        self.let_go = threading.Event()
        """An unfinished run is watched until this is set."""

    def ExecuteFlow(self, request: run_pb.ExecuteFlowRequest, context: Any) -> HttpBody:
        if request.flow_id == "unknown":
            raise NotFound(Reason.FLOW_NOT_FOUND, "there is no flow 'unknown'")
        self.executed.append(request)
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        self.run = a_run(state, input=documents.parse(request.input, what="the input") or {})
        return body(self.run)

    def GetRun(self, request: run_pb.GetRunRequest, context: Any) -> HttpBody:
        self._check(request.run_id)
        return body(self.run)

    def ListRuns(self, request: run_pb.ListRunsRequest, context: Any) -> run_pb.ListRunsResponse:
        self.listed.append(request)
        if request.state and run_pb.Run.State.Name(request.state) != self.run["state"]:
            return run_pb.ListRunsResponse()
        run = run_pb.Run(id=RUN, flow_name="orders", flow_version=3)
        run.state = run_pb.Run.State.Value(self.run["state"])
        run.create_time.FromJsonString(TIME)
        return run_pb.ListRunsResponse(runs=[run], next_page_token="more" if request.page_size == 100 else "")

    def ListStepRuns(self, request: run_pb.ListStepRunsRequest, context: Any) -> HttpBody:
        self._check(request.run_id)
        return body({"steps": self.steps})

    def WatchRun(self, request: run_pb.WatchRunRequest, context: Any) -> Iterator[run_pb.WatchRunResponse]:
        self._check(request.run_id)
        self.watched.append(request.after_seq)
        for event in self.events[request.after_seq :]:
            last = event["kind"] == "RunFinished"
            yield run_pb.WatchRunResponse(
                seq=event["seq"], kind=event["kind"], document=orjson.dumps(event), last=last
            )
            if event["seq"] in self.breaks_after:
                self.breaks_after.remove(event["seq"])
                context.abort(grpc.StatusCode.UNAVAILABLE, "broken by the test")
        if not self.events or self.events[-1]["kind"] != "RunFinished":
            self.let_go.wait(20)

    def CancelRun(self, request: run_pb.CancelRunRequest, context: Any) -> HttpBody:
        self._check(request.run_id)
        self.cancelled.append(request.document.data)
        return body(self.run)

    def _said(self, request: Any, context: Any) -> HttpBody:
        """Any other thing that is said to the run; `said` has what it was."""
        self._check(request.run_id)
        step = getattr(request, "step", "")
        self.said.append((type(request).__name__, step, orjson.loads(request.document.data)))
        return body(self.run)

    PauseRun = ResumeRun = TerminateRun = SkipStep = CompleteStep = AnswerStep = _said

    def SignalRun(self, request: run_pb.SignalRunRequest, context: Any) -> HttpBody:
        self._said(request, context)
        return body({"run_id": RUN, "signal_id": "s", "step": self.taken_by})

    def SendSignal(self, request: run_pb.SendSignalRequest, context: Any) -> HttpBody:
        self.said.append((request.signal, "", orjson.loads(request.document.data)))
        runs = [RUN] if self.taken_by else []
        return body({"signal_id": "s", "run_ids": runs, "keep_time": None if runs else TIME})

    def GetApprovalToken(self, request: Any, context: Any) -> run_pb.ApprovalToken:
        self._check(request.run_id)
        token = f"token-of-{request.step}"
        return run_pb.ApprovalToken(token=token, link=f"/approve#{token}")

    def _check(self, run_id: str) -> None:
        if run_id != RUN:
            raise NotFound(Reason.RUN_NOT_FOUND, f"there is no run {run_id}")


class Nodes(RegistryServiceServicer):
    """http.request in two versions, the second of which nobody serves."""

    def ListNodes(self, request: Any, context: Any) -> node_pb.ListNodesResponse:
        return node_pb.ListNodesResponse(
            nodes=[node_pb.Node(name="http.request", versions=["2.0.0", "1.0.0"])]
        )

    def ListNodeVersions(self, request: Any, context: Any) -> node_pb.ListNodeVersionsResponse:
        if request.node != "http.request":
            raise NotFound(Reason.NODE_NOT_FOUND, f"no node {request.node!r} is registered")
        effect = Effect(expression="input.method == 'GET' ? 'pure' : 'at_most_once'")
        common = {
            "node": "http.request",
            "description": "Sends one request.\n\nMore of it.",
            "effect": effect,
        }
        endpoint = node_pb.Endpoint(id="e", address="127.0.0.1:7001")
        return node_pb.ListNodeVersionsResponse(
            versions=[
                node_pb.NodeVersion(version="2.0.0", state=node_pb.NodeVersion.ABSENT, **common),
                node_pb.NodeVersion(
                    version="1.0.0", state=node_pb.NodeVersion.LIVE, endpoints=[endpoint], **common
                ),
            ]
        )


class Routes(RoutingServiceServicer):
    """The revisions of one route; documents are read by the control plane's own code."""

    known = ("1.0.0", "2.0.0")

    def __init__(self) -> None:
        target = route_pb.Target(version="1.0.0", weight=10000, tries=2)
        first = route_pb.Route(
            node="http.request", revision=1, targets=[target], state=route_pb.Route.APPLIED
        )
        self.revisions = [first]
        self.state = route_pb.Route.APPLIED
        """Where the next update will stand."""
        self.before_update: Any = lambda: None
        """What somebody else does between a client's reading and its update."""
        self.rollbacks: list[route_pb.RollbackRouteRequest] = []
        self.ejections = route_pb.ListEjectionsResponse()
        self.ignoring: list[bool] = []
        """What updates said of contracts."""

    def ListEjections(self, request: Any, context: Any) -> route_pb.ListEjectionsResponse:
        return self.ejections

    def ListRoutes(self, request: Any, context: Any) -> route_pb.ListRoutesResponse:
        return route_pb.ListRoutesResponse(routes=[self._serving("http.request")])

    def GetRoute(self, request: Any, context: Any) -> route_pb.Route:
        return self._serving(request.node)

    def UpdateRoute(self, request: Any, context: Any) -> route_pb.Route:
        self.before_update()
        self.ignoring.append(request.ignore_contracts)
        value: Any = documents.parse(request.document, what="the route")
        read = document.read(request.node, value, self.known)
        if read.violations:
            raise InvalidArgument(Reason.ROUTE_INVALID, "the route has problems", violations=read.violations)
        if read.revision not in (0, self._serving(request.node).revision):
            raise Conflict(Reason.REVISION_STALE, "the route is no longer there; read it again")
        targets = [views.target(each) for each in read.targets]
        return self.add(targets, read.note, sticky=read.sticky, salt=read.salt)

    def ListRouteRevisions(self, request: Any, context: Any) -> route_pb.ListRouteRevisionsResponse:
        self._serving(request.node)
        return route_pb.ListRouteRevisionsResponse(revisions=self.revisions[::-1])

    def GetRouteRevision(self, request: Any, context: Any) -> route_pb.Route:
        return self._revision(request.revision)

    def DiffRoute(self, request: Any, context: Any) -> route_pb.DiffRouteResponse:
        to = request.to_revision or self._serving(request.node).revision
        since = request.from_revision or to - 1
        before = {each.version: each.weight for each in self._revision(since).targets}
        after = {each.version: each.weight for each in self._revision(to).targets}
        changes = [
            route_pb.RouteChange(
                version=version, field="weight", before=str(before.get(version, "")), after=str(weight)
            )
            for version, weight in after.items()
            if before.get(version) != weight
        ]
        return route_pb.DiffRouteResponse(from_revision=since, to_revision=to, changes=changes)

    def RollbackRoute(self, request: Any, context: Any) -> route_pb.Route:
        self.rollbacks.append(request)
        if request.expected_revision not in (0, self._serving(request.node).revision):
            raise Conflict(Reason.REVISION_STALE, "the route is no longer there; read it again")
        return self.add(self._revision(request.revision).targets, request.note)

    def add(
        self, targets: Any, note: str = "", state: Any = None, *, sticky: str = "", salt: str | None = None
    ) -> route_pb.Route:
        """The next revision."""
        route = route_pb.Route(
            node="http.request",
            revision=len(self.revisions) + 1,
            targets=targets,
            note=note,
            state=self.state if state is None else state,
            waiting_for=["mesh-2"] if self.state == route_pb.Route.APPLYING else [],
            sticky=sticky,
            salt=self.revisions[-1].salt if salt is None else salt,
        )
        self.revisions.append(route)
        return route

    def _serving(self, node: str) -> route_pb.Route:
        if node != "http.request":
            raise NotFound(Reason.ROUTE_NOT_FOUND, f"{node!r} has no route")
        return next(each for each in self.revisions[::-1] if each.state != route_pb.Route.REJECTED)

    def _revision(self, number: int) -> route_pb.Route:
        if not 1 <= number <= len(self.revisions):
            raise NotFound(Reason.ROUTE_NOT_FOUND, f"there is no revision {number}")
        return self.revisions[number - 1]


class FakeServer:
    """All of them on one port."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        """Methods called, in order."""
        self.next_errors: list[RefluxError] = []
        self.flows, self.runs, self.nodes, self.routes, self.triggers = (
            Flows(),
            Runs(),
            Nodes(),
            Routes(),
            Triggers(),
        )
        self.operations = Operations()
        self.shadows = Shadows()
        self.contracts = Contracts()
        self.address = ""

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Serve within the block."""
        server = grpc.server(ThreadPoolExecutor(8), interceptors=[Refusing(self)])
        add_FlowServiceServicer_to_server(self.flows, server)
        add_RunServiceServicer_to_server(self.runs, server)
        add_RegistryServiceServicer_to_server(self.nodes, server)
        add_RoutingServiceServicer_to_server(self.routes, server)
        add_TriggerServiceServicer_to_server(self.triggers, server)
        add_OperationServiceServicer_to_server(self.operations, server)
        add_ShadowServiceServicer_to_server(self.shadows, server)
        add_ContractServiceServicer_to_server(self.contracts, server)
        self.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        server.start()
        try:
            yield
        finally:
            self.runs.let_go.set()
            server.stop(0).wait()


def body(value: Any) -> HttpBody:
    """A document as it crosses the API."""
    return HttpBody(content_type="application/json", data=orjson.dumps(value))
