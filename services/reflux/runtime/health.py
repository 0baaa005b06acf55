"""`python -m reflux.runtime.health ADDRESS`: whether a service answers, for who restarts it or waits for it.

ADDRESS is `host:port` of a gRPC server, asked by `grpc.health.v1`, or the `http://` URL of a page. Exit
status: 0 it serves; 1 it does not, and one line says why; 2 a wrong argument.

Container engines ask every few seconds, for each container: so this imports little and is no part of the
`reflux` command, which needs ten times as long to start.
"""

from __future__ import annotations

import sys
import urllib.error
import urllib.request
from typing import Final

SECONDS: Final = 4.0
"""How long an answer may take."""


def problem(address: str) -> str | None:
    """What is wrong with the service at `address`; None: it serves.

    Raises:
        ValueError: it is neither an `http://` URL nor of the form `host:port`.
    """
    if address.startswith("http://"):
        return _http(address)
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise ValueError(f"{address!r} is neither host:port nor an http:// URL")
    return _grpc(address)


def _http(url: str) -> str | None:
    try:
        # The engine's own question: no proxy of the environment has a say in it.
        urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=SECONDS).close()
    except (OSError, urllib.error.URLError) as error:
        return f"{url}: {error}"
    return None


def _grpc(address: str) -> str | None:
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]

    options = (("grpc.enable_http_proxy", 0),)
    with grpc.insecure_channel(address, options=options) as channel:
        try:
            stub = health_pb2_grpc.HealthStub(channel)
            answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=SECONDS)
        except grpc.RpcError as error:
            return f"{address}: {error.code().name}: {error.details()}"
    if answer.status != health_pb2.HealthCheckResponse.SERVING:
        return f"{address}: {health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)}"
    return None


def main(arguments: list[str]) -> int:
    """The exit status for the arguments of the command."""
    try:
        [address] = arguments
        found = problem(address)
    except ValueError as error:
        print(f"health: give one address: {error}", file=sys.stderr)  # noqa: T201 - the answer of a command
        return 2
    if found is not None:
        print(found, file=sys.stderr)  # noqa: T201
    return 0 if found is None else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
