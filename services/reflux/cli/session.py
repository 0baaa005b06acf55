"""One client command: the channel to a server, its services, the output, and what a failure becomes.

    with session(server, data_dir, as_json=as_json) as reflux:
        flow = read(reflux.flows.GetFlow(request, timeout=SECONDS))

gRPC is loaded when a session opens, so that `reflux --help` does not wait for it. The channel is lazy: a
command that fails before its first call has not connected.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import typer

from reflux.cli import failures, target
from reflux.cli.exits import Exit
from reflux.cli.failures import CommandError
from reflux.cli.output import Output

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import grpc
    from google.api.httpbody_pb2 import HttpBody  # type: ignore[import-untyped]
    from google.protobuf.message import Message

    from reflux.api.flow.v1.flow_service_pb2_grpc import FlowServiceStub
    from reflux.api.operation.v1.operation_service_pb2_grpc import OperationServiceStub
    from reflux.api.registry.v1.registry_service_pb2_grpc import RegistryServiceStub
    from reflux.api.routing.v1.routing_service_pb2_grpc import RoutingServiceStub
    from reflux.api.run.v1.run_service_pb2_grpc import RunServiceStub
    from reflux.api.shadow.v1.shadow_service_pb2_grpc import ShadowServiceStub
    from reflux.api.trigger.v1.trigger_service_pb2_grpc import TriggerServiceStub
    from reflux.cli.target import Target

SECONDS: Final = 30.0
"""Deadline of a call."""
PAGE_SIZE: Final = 1000
"""The largest page the API gives."""

_OPTIONS: Final = (
    ("grpc.enable_http_proxy", 0),  # the edge is inside; a proxy of the shell's environment is not meant
    ("grpc.enable_retries", 0),  # Envoy's business
    ("grpc.keepalive_time_ms", 30_000),  # a watch notices a server that vanished
    ("grpc.keepalive_timeout_ms", 10_000),
)


@dataclass
class Session:
    """A server, and where to write."""

    target: Target
    out: Output
    channel: grpc.Channel

    @cached_property
    def flows(self) -> FlowServiceStub:
        """Flows and their versions."""
        from reflux.api.flow.v1.flow_service_pb2_grpc import FlowServiceStub

        return FlowServiceStub(self.channel)

    @cached_property
    def runs(self) -> RunServiceStub:
        """Runs."""
        from reflux.api.run.v1.run_service_pb2_grpc import RunServiceStub

        return RunServiceStub(self.channel)

    @cached_property
    def operations(self) -> OperationServiceStub:
        """Going on from runs."""
        from reflux.api.operation.v1.operation_service_pb2_grpc import OperationServiceStub

        return OperationServiceStub(self.channel)

    @cached_property
    def nodes(self) -> RegistryServiceStub:
        """Nodes and their versions."""
        from reflux.api.registry.v1.registry_service_pb2_grpc import RegistryServiceStub

        return RegistryServiceStub(self.channel)

    @cached_property
    def routes(self) -> RoutingServiceStub:
        """Routes."""
        from reflux.api.routing.v1.routing_service_pb2_grpc import RoutingServiceStub

        return RoutingServiceStub(self.channel)

    @cached_property
    def shadows(self) -> ShadowServiceStub:
        """What versions in the shadow made of their copies."""
        from reflux.api.shadow.v1.shadow_service_pb2_grpc import ShadowServiceStub

        return ShadowServiceStub(self.channel)

    @cached_property
    def triggers(self) -> TriggerServiceStub:
        """Triggers."""
        from reflux.api.trigger.v1.trigger_service_pb2_grpc import TriggerServiceStub

        return TriggerServiceStub(self.channel)


@contextmanager
def session(server: str | None, data_dir: Path | None, *, as_json: bool) -> Iterator[Session]:
    """A session for the block; what goes wrong in it is shown and ends the command with its exit status.

    Raises:
        typer.Exit: always, when the block did not end well.
    """
    out = Output(as_json)
    with explained(out):
        where = target.find(server, data_dir)
        with opened(where) as channel:
            import grpc

            try:
                yield Session(where, out, channel)
            except grpc.RpcError as error:
                raise CommandError(failures.of_call(error, where)) from error


@contextmanager
def explained(out: Output) -> Iterator[None]:
    """Everything a caller can do something about ends the command with its message, not with a traceback."""
    from reflux.core.errors import InvalidArgument, RefluxError
    from reflux.core.reasons import Reason
    from reflux.runtime.settings import SettingsError

    try:
        yield
    except CommandError as error:
        failure = error.failure
    except SettingsError as error:
        failure = failures.of_error(InvalidArgument(Reason.ARGUMENT_INVALID, str(error)))
    except RefluxError as error:
        failure = failures.of_error(error)
    except KeyboardInterrupt:
        raise typer.Exit(Exit.INTERRUPTED) from None
    else:
        return
    out.failure(failure)
    raise typer.Exit(failure.exit)


@contextmanager
def opened(where: Target) -> Iterator[grpc.Channel]:
    """A plaintext channel, closed after the block."""
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # stderr is ours
    import grpc

    with grpc.insecure_channel(where.address, options=_OPTIONS) as channel:
        yield channel


def read(body: HttpBody) -> Any:
    """The document in an answer."""
    import orjson

    return orjson.loads(body.data)


def to_dict(message: Message) -> dict[str, Any]:
    """A message as REST shows it."""
    from google.protobuf import json_format

    return json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )


def all_pages(call: Callable[..., Any], request: Any, field: str, *, limit: int | None = None) -> list[Any]:
    """Every item of a list, or the first `limit`; `request` is used up."""
    items: list[Any] = []
    while limit is None or len(items) < limit:
        request.page_size = PAGE_SIZE if limit is None else min(PAGE_SIZE, limit - len(items))
        page = call(request, timeout=SECONDS)
        items.extend(getattr(page, field))
        request.page_token = page.next_page_token
        if not page.next_page_token:
            break
    return items
