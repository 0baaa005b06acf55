"""From settings to the list of steps that make a stack, first started first.

The order is chosen for the drain, which is the same list backwards: the orchestrator stops taking work
first, then the nodes finish what they do, then the proxy has nothing left to carry, then the platform, and
the stores last. It is right for the start too: when the orchestrator resumes runs, all they need is there.
"""

from __future__ import annotations

import importlib
import ipaddress
import signal
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import TYPE_CHECKING, Any, Final, Protocol

from reflux.cli.stack import ports, wheels
from reflux.cli.stack.child import unprivileged_user
from reflux.cli.stack.envoy import EnvoyProxy
from reflux.cli.stack.errors import ListenError
from reflux.cli.stack.part import Once, Part
from reflux.cli.stack.postgres import PostgresServer
from reflux.cli.stack.replicas import Replicas
from reflux.cli.stack.routes import routes_are_whole
from reflux.cli.stack.scale import Wanted, part_name
from reflux.cli.stack.services import Service
from reflux.cli.stack.valkey import ValkeyServer
from reflux.runtime.collector import Collector
from reflux.runtime.metrics_server import PATH as METRICS_PATH
from reflux.runtime.migrate import migrate
from reflux.runtime.settings import Address, SettingsError

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Mapping, Sequence

    from reflux.cli.stack.folder import DataFolder
    from reflux.runtime.settings import Settings

_LOOPBACK: Final = "127.0.0.1"
_SERVICES: Final = ("registry", "controlplane", "orchestrator", "gateway")


@dataclass(frozen=True, slots=True)
class Plan:
    """A stack before it starts: what to do, and where everything will be.

    `settings` is complete: every port in it is decided, the stores are named. `urls` and `ports` are what
    others may know: no secrets.
    """

    steps: tuple[Part | Replicas | Once, ...]
    settings: Settings
    urls: Mapping[str, str]
    ports: Mapping[str, int]


def make_plan(
    settings: Settings, folder: DataFolder, *, node_versions: Sequence[str], insecure_listen: bool
) -> Plan:
    """Decide ports and steps.

    Args:
        settings: as given. Stores that were not given are embedded, addresses of services that were not
            given become free ports.
        folder: held by the caller.
        node_versions: each gets processes of its own, as many as it was scaled to; none: one process
            serves all.
        insecure_listen: the caller knows that there is no authentication yet.

    Raises:
        ListenError: an address is not loopback and that was not confirmed.
        SettingsError: the authorities that vouch for the collector cannot be read.
        PortError: a port is taken.
        WheelMissingError: an embedded server is not installed.
        PostgresError: the embedded database has lost its passwords.
    """
    _refuse_what_is_for_single_services(settings)
    _check_listen("mesh_address", settings.mesh_address.host, consent=None)
    _check_listen("--listen", settings.listen, consent=insecure_listen)
    for name in _SERVICES:  # a node on another machine may need them
        _check_listen(f"{name}_address", _host(settings, name), consent=insecure_listen)
    served = _served(node_versions)
    metrics_host = _metrics_host(settings, consent=insecure_listen)
    try:
        Collector.of(settings)
    except ValueError as error:  # else every service would end with it, again and again
        raise SettingsError(f"otlp_certificate: {error}") from None
    claimed = ports.claim(_wanted(settings) | {f"metrics.{part}": (metrics_host, 0) for part in served})
    stores: list[Part | Once] = []
    update: dict[str, Any] = {
        "data_dir": folder.root,
        "edge_port": claimed["--port"],
        "admin_port": claimed["--admin-port"],
        "mesh_address": settings.mesh_address._replace(port=claimed["--mesh-port"]),
        **{
            f"{name}_address": Address(_host(settings, name), claimed[f"{name}_address"])
            for name in _SERVICES
        },
        "proxy_stats_addresses": (Address(_LOOPBACK, claimed["--admin-port"]),),
        "credentials_dir": settings.credentials_dir or folder.root / "credentials",
    }
    if "postgres_dsn" not in settings.model_fields_set:
        postgres = _postgres(folder, claimed["postgres"])
        stores += [postgres_part(postgres), Once("database", postgres.provision)]
        update["postgres_dsn"] = postgres.dsn()
    if "redis_url" not in settings.model_fields_set:
        log = folder.logs.path("valkey")
        valkey = ValkeyServer(folder.part("valkey"), wheels.valkey_program(), claimed["valkey"], log)
        stores.append(valkey_part(valkey))
        update["redis_url"] = valkey.url()
    complete = settings.model_copy(update=update | _faults(settings))
    metrics = {part: Address(metrics_host, claimed[f"metrics.{part}"]) for part in served}
    admin = f"http://{Address(_LOOPBACK, complete.admin_port)}"
    return Plan(
        steps=(*stores, *_services(complete, folder, node_versions, metrics)),
        settings=complete,
        urls={
            "edge": _edge(complete),
            "admin": admin,
            **{f"metrics.{part}": f"http://{address}{METRICS_PATH}" for part, address in metrics.items()},
            "metrics.envoy": f"{admin}/stats/prometheus",
        },
        ports={option.removeprefix("--").removesuffix("_address"): port for option, port in claimed.items()},
    )


def _refuse_what_is_for_single_services(settings: Settings) -> None:
    if settings.bind is not None:
        raise ListenError(
            "bind is for services that are started by themselves; in a stack each binds the host of its "
            "own address: unset REFLUX_BIND, and set registry_address or its like"
        )
    if settings.tls_dir is not None:
        raise ListenError(
            "tls_dir is for services that are started by themselves; in a stack everything is on loopback "
            "and speaks plaintext: unset REFLUX_TLS_DIR"
        )
    if settings.mesh_addresses:
        raise ListenError(
            "mesh_addresses is for orchestrators that are started by themselves; a stack has one proxy, at "
            "mesh_address: unset REFLUX_MESH_ADDRESSES"
        )


def postgres_part(server: PostgresServer) -> Part:
    """The embedded PostgreSQL; SIGINT is its fast shutdown: clients are sent away, everything is written."""
    return Part("postgres", _prepared(server), server.ready, start_seconds=60, stop_signal=signal.SIGINT)


def valkey_part(server: ValkeyServer) -> Part:
    """The embedded Valkey."""
    return Part("valkey", _prepared(server), server.ready)


def envoy_part(proxy: EnvoyProxy) -> Part:
    """The embedded Envoy."""
    return Part("envoy", _prepared(proxy), proxy.ready, stop_seconds=5)


class _Server(Protocol):
    async def prepare(self) -> None: ...
    def start(self) -> subprocess.Popen[bytes]: ...


def _prepared(server: _Server) -> Any:
    async def start(_: int | None) -> subprocess.Popen[bytes]:
        await server.prepare()
        return server.start()

    return start


def _served(node_versions: Sequence[str]) -> tuple[str, ...]:
    """Parts that are processes of ours, first started first; each serves its own metrics."""
    nodes = [part_name(version, 1) for version in node_versions] or ["nodes"]
    return ("platform", *nodes, "orchestrator")


def _services(
    settings: Settings, folder: DataFolder, node_versions: Sequence[str], metrics: Mapping[str, Address]
) -> list[Part | Replicas | Once]:
    """Everything that is not a store."""

    async def migrations() -> None:
        await migrate(settings.postgres_dsn)

    def service(name: str, *arguments: str, **other: Any) -> Part:
        own = settings.model_copy(update={"metrics_address": metrics[name], **other})
        return Service(arguments or (name,), own, folder.logs.path(name)).part(name)

    def replicas(version: str) -> Replicas:
        first = metrics[part_name(version, 1)]

        @cache  # a number keeps its port, however often it comes and goes
        def place(number: int) -> Address:
            return first if number == 1 else first._replace(port=ports.free_ports(1, first.host)[0])

        def part(number: int) -> Part:
            name, address = part_name(version, number), place(number)
            own = settings.model_copy(update={"metrics_address": address})
            made = Service(("node", version), own, folder.logs.path(name)).part(name)
            return replace(made, metrics=f"http://{address}{METRICS_PATH}")

        return Replicas(part_name(version, 1), part, Wanted.of(folder.root, version).read)

    nodes: list[Part | Replicas] = [replicas(version) for version in node_versions]
    return [
        Once("migrations", migrations),
        service("platform"),
        envoy_part(_envoy(settings, folder)),
        *(nodes or [service("nodes")]),
        # `advertise` is where nodes are; the orchestrator is found where it binds.
        service("orchestrator", advertise=None),
        Once("routes", partial(routes_are_whole, _edge(settings))),
    ]


def _edge(settings: Settings) -> str:
    return f"http://{Address(settings.listen, settings.edge_port)}"


def _postgres(folder: DataFolder, port: int) -> PostgresServer:
    home = folder.part("postgres")
    user = unprivileged_user(home / "data")
    programs = wheels.postgres_programs(user, home)
    return PostgresServer(home, programs, port, folder.logs.path("postgres"), user)


def _envoy(settings: Settings, folder: DataFolder) -> EnvoyProxy:
    # The only code of a service in the supervisor: the bootstrap is a value the control plane renders.
    bootstrap = importlib.import_module("reflux.controlplane.bootstrap").render(
        edge=(settings.listen, settings.edge_port),
        mesh=settings.mesh_address,
        admin=(_LOOPBACK, settings.admin_port),
        upstreams={name: getattr(settings, f"{name}_address") for name in _SERVICES},
        node_id="embedded",
        node_cluster="all",
    )
    log = folder.logs.path("envoy")
    return EnvoyProxy(folder.part("envoy"), wheels.envoy_program(), bootstrap, settings.admin_port, log)


def _wanted(settings: Settings) -> dict[str, tuple[str, int]]:
    given = settings.model_fields_set
    services = {
        name: (_host(settings, name), getattr(settings, name).port if name in given else 0)
        for name in (f"{service}_address" for service in _SERVICES)
    }
    return {
        "--port": (settings.listen, settings.edge_port),
        "--mesh-port": settings.mesh_address,
        "--admin-port": (_LOOPBACK, settings.admin_port),
        "postgres": (_LOOPBACK, 0),
        "valkey": (_LOOPBACK, 0),
        **services,
    }


def _metrics_host(settings: Settings, *, consent: bool) -> str:
    """Where the processes serve their metrics, each on a free port.

    Raises:
        ListenError: it is not loopback and that was not confirmed, or one port was named for all of them.
    """
    address = settings.metrics_address
    if address is None:
        return _LOOPBACK
    _check_listen("metrics_address", address.host, consent=consent)
    if address.port:
        raise ListenError(
            f"metrics_address {address}: a stack has several processes and each needs a port of its own: "
            f"give {address._replace(port=0)}, and find the ports in run/stack.json"
        )
    return address.host


def _host(settings: Settings, name: str) -> str:
    return str(getattr(settings, f"{name.removesuffix('_address')}_address").host)


def _check_listen(option: str, host: str, *, consent: bool | None) -> None:
    """Refuse what is not loopback without consent; None: consent cannot be given."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        raise ListenError(f"{option} {host}: give an IP address, such as 127.0.0.1") from None
    if not address.is_loopback and not consent:
        raise ListenError(
            f"{option} {host} is not loopback, and there is no authentication yet: whoever reaches it owns it"
            + ("" if consent is None else ". If that is what you want, add --insecure-listen")
        )


def _faults(settings: Settings) -> dict[str, Any]:
    """A stack on one machine is for trying things, unless somebody says otherwise."""
    return {} if "faults" in settings.model_fields_set else {"faults": "test"}
