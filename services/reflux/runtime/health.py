"""`python -m reflux.runtime.health ADDRESS`: whether a service answers, for who restarts it or waits for it.

ADDRESS is `host:port` of a gRPC server, asked by `grpc.health.v1`, or the `http://` URL of a page. Exit
status: 0 it serves; 1 it does not, and one line says why; 2 a wrong argument.

Container engines ask every few seconds, for each container: so this imports little and is no part of the
`reflux` command, which needs ten times as long to start.
"""

from __future__ import annotations

import os
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import ssl

    import grpc

SECONDS: Final = 4.0
"""How long an answer may take."""
TLS_DIR: Final = "REFLUX_TLS_DIR"
"""The setting `tls_dir`; with it an `http://` URL is asked by https."""


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
        handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({})]
        if (context := _context()) is not None:
            url = url.replace("http://", "https://", 1)
            handlers.append(urllib.request.HTTPSHandler(context=context))
        urllib.request.build_opener(*handlers).open(url, timeout=SECONDS).close()
    except (OSError, urllib.error.URLError) as error:
        return f"{url}: {error}"
    return None


def _channel(address: str) -> grpc.Channel:
    """With the identity of the process that is asked, if it has one: the check runs beside it."""
    import grpc

    options: tuple[tuple[str, Any], ...] = (("grpc.enable_http_proxy", 0),)
    folder = os.environ.get(TLS_DIR)
    if not folder:
        return grpc.insecure_channel(address, options=options)
    key, chain, authorities, name = _identity(Path(folder))
    credentials = grpc.ssl_channel_credentials(authorities, key, chain)
    options = (*options, ("grpc.ssl_target_name_override", name))
    return grpc.secure_channel(address, credentials, options=options)


def _identity(folder: Path) -> tuple[bytes, bytes, bytes, str]:
    """The files that `reflux.runtime.tls` describes, read without what that module needs."""
    key, marker, chain = (folder / "identity.pem").read_bytes().partition(b"-----BEGIN CERTIFICATE-----")
    name = (folder / "name").read_text(encoding="ascii")
    return key, marker + chain, (folder / "authority.pem").read_bytes(), name


def _context() -> ssl.SSLContext | None:
    import ssl

    folder = os.environ.get(TLS_DIR)
    if not folder:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # by this machine's loopback; the chain is checked
    context.load_cert_chain(Path(folder) / "identity.pem")
    context.load_verify_locations(Path(folder) / "authority.pem")
    return context


def _grpc(address: str) -> str | None:
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]

    with _channel(address) as channel:
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
