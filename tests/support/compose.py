"""compose.yaml without a container engine: each service's own command in its own environment, as processes.

What an engine gives to a container, and what stands for it here:

- an address: each replica has one of 127.0.0.0/8, and `0.0.0.0` and `127.0.0.1` of the file become it, so
  every port is the file's;
- names of services, with an address for each replica: `/etc/hosts` of a mount namespace; names stay names;
- images of others: the same programs from wheels, PostgreSQL, Valkey and Envoy. Jaeger where it is on PATH,
  else nobody is at its address;
- `docker-entrypoint-initdb.d`: the file's own script, run by psql as the superuser;
- volumes: folders; a reader gets a copy in which `0.0.0.0` and `127.0.0.1` are its own address;
- conditions of `depends_on`, health checks, stop signals and grace periods: as they are in the file.

Not played: users, capabilities, read-only file systems, the separation of networks, restarts. Each run has
addresses of its own, so several run side by side.

`grounds` may put the replicas elsewhere than on loopback: `tests.support.hosts` has a host for each.
"""

import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import psycopg

from reflux.cli.stack import wheels
from reflux.cli.stack.child import Launch, base_environment, end_group, spawn, unprivileged_user
from reflux.cli.stack.postgres import PostgresServer
from tests.support import composefile
from tests.support.composefile import Service
from tests.support.rest import Rest
from tests.support.server import running_server

READY_SECONDS = 120.0
PASSWORD = "not: a/secret@all?"  # a password may be anything
EDGE_PORT = 4000
_ANYWHERE = ("0.0.0.0", "127.0.0.1")
_ADDRESS = re.compile(r"(?:http://)?([0-9.]+):([0-9]+)/?")
_VALKEY_CLI = """#!{python}
import socket, sys
assert sys.argv[1] == "-h" and sys.argv[3:] == ["ping"], sys.argv
with socket.create_connection((sys.argv[2], 6379), timeout=2) as server:
    server.sendall(b"PING\\r\\n")
    print(server.recv(100).decode())
"""


class Grounds(Protocol):
    """Where replicas run."""

    def address(self, service: str, number: int) -> str:
        """An IP address for a replica."""

    def nobody(self) -> str:
        """One at which nobody is."""

    def inside(self, service: str, number: int) -> AbstractContextManager[None]:
        """What this thread starts within the body runs where the replica does."""


class Loopback:
    """All on this machine, in a part of 127.0.0.0/8 that nobody uses."""

    def __init__(self) -> None:
        self._free = _free_network()

    def address(self, service: str, number: int) -> str:
        """The next one."""
        del service, number
        return next(self._free)

    def nobody(self) -> str:
        """The next one."""
        return next(self._free)

    def inside(self, service: str, number: int) -> AbstractContextManager[None]:
        """It is here."""
        del service, number
        return nullcontext()


@dataclass(slots=True)
class Replica:
    """One container that is a process."""

    service: Service
    number: int
    ip: str
    log: Path
    environment: dict[str, str]
    process: subprocess.Popen[bytes] | None = None

    @property
    def name(self) -> str:
        """Of the container."""
        return f"{self.service.name}-{self.number}"


@dataclass(slots=True)
class Compose:
    """A deployment of the file; `running_compose` makes it."""

    folder: Path
    replicas: dict[str, list[Replica]]
    order: list[Service]
    programs: str
    """PATH of every process."""
    hosts: Path
    password: str
    grounds: Grounds
    _unended: list[str] = field(default_factory=list)

    @property
    def edge(self) -> str:
        """URL of the edge."""
        return f"http://{self.replicas['edge'][0].ip}:{EDGE_PORT}"

    @property
    def rest(self) -> Rest:
        """REST calls through the edge."""
        return Rest(self.edge)

    @property
    def dsn(self) -> str:
        """The database, as REFLUX's own login."""
        return psycopg.conninfo.make_conninfo(
            host=self.address("postgres"), user="reflux", dbname="reflux", password=self.password
        )

    def address(self, service: str, number: int = 1) -> str:
        """IP address of a replica; replicas count from 1, as the engine does it."""
        return self.replicas[service][number - 1].ip

    def process(self, service: str, number: int = 1) -> subprocess.Popen[bytes]:
        """The process of a replica."""
        process = self.replicas[service][number - 1].process
        assert process is not None, f"{service} {number} was not started"
        return process

    def kill(self, service: str, number: int = 1, signal_number: int = signal.SIGKILL) -> None:
        """Sends a signal; after a SIGKILL nothing of the replica is left."""
        process = self.process(service, number)
        process.send_signal(signal_number)
        if signal_number == signal.SIGKILL:
            end_group(process)

    def log(self, service: str, number: int = 1) -> str:
        """What a replica has written."""
        return self.replicas[service][number - 1].log.read_text(errors="replace")

    def up(self) -> None:
        """Starts everything in order and waits until it is well, as `up --wait` does."""
        for service in self.order:
            for other, condition in service.depends_on.items():
                for replica in self.replicas.get(other, []):
                    self._await(replica, condition)
            for number in range(1, len(self.replicas[service.name]) + 1):
                self.start(service.name, number)
        for service in self.order:
            for replica in self.replicas[service.name]:
                if service.healthcheck is not None:
                    self._await(replica, "service_healthy")

    def start(self, service: str, number: int = 1) -> None:
        """Starts a replica, also one that has ended."""
        replica = self.replicas[service][number - 1]
        argv, environment = self._as_process(replica)
        launch = Launch(argv=(*_with_names(self.hosts), *argv), log=replica.log, env=environment)
        with self.grounds.inside(service, number):
            replica.process = spawn(launch)

    def down(self) -> None:
        """Stops everything in reverse order, each with its own signal and grace period."""
        for service in reversed(self.order):
            running = [each for each in self.replicas[service.name] if each.process is not None]
            for replica in running:
                if replica.process.poll() is None:
                    replica.process.send_signal(signal.Signals[service.stop_signal])
            for replica in running:
                try:
                    replica.process.wait(service.stop_seconds)
                except subprocess.TimeoutExpired:
                    self._unended.append(replica.name)
                finally:
                    end_group(replica.process)
        assert not self._unended, f"did not end within their grace period: {self._unended}"

    def _await(self, replica: Replica, condition: str) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while not self._meets(replica, condition):
            assert time.monotonic() < deadline, f"{replica.name} is not {condition}:\n{self._tail(replica)}"
            time.sleep(0.2)

    def _meets(self, replica: Replica, condition: str) -> bool:
        # PostgreSQL has no process here: it runs around all of this.
        status = None if replica.process is None else replica.process.poll()
        if condition == "service_completed_successfully":
            assert not status, f"{replica.name} ended with {status}:\n{self._tail(replica)}"
            return status == 0
        assert status is None, f"{replica.name} ended with {status}:\n{self._tail(replica)}"
        return condition == "service_started" or self.healthy(replica.service.name, replica.number)

    def healthy(self, service: str, number: int = 1) -> bool:
        """What the service's own health check says, once."""
        replica = self.replicas[service][number - 1]
        check = replica.service.healthcheck
        assert check is not None, f"{service} has no health check"
        if not _somebody_listens(check.argv[-1]):
            return False  # as the check would say, which costs a process of a second's work
        with replica.log.open("ab") as log:
            try:
                done = subprocess.run(
                    check.argv,
                    env={**replica.environment, "PATH": self.programs},
                    stdout=subprocess.DEVNULL,
                    stderr=log,
                    timeout=check.timeout,
                    check=False,
                )
            except subprocess.TimeoutExpired:
                return False
        return done.returncode == 0

    def _as_process(self, replica: Replica) -> tuple[tuple[str, ...], dict[str, str]]:
        folders = self._mounted(replica)
        argv = replica.service.argv
        for path, place in folders.items():
            argv = tuple(text.replace(path, str(place)) for text in argv)
        replica.environment = {
            name: str(folders.get(text, text)) for name, text in replica.environment.items()
        }
        environment = {
            **base_environment(),
            "HOSTNAME": replica.name,  # as the engine does it
            **replica.environment,
            "PATH": self.programs,
        }
        return argv, environment

    def _mounted(self, replica: Replica) -> dict[str, Path]:
        """Where each volume of a replica is, by its path inside, those inside another one too."""
        folders: dict[str, Path] = {}
        for name, path, read_only in sorted(replica.service.volumes, key=lambda each: len(each[1])):
            place = self._volume(replica, name, path, read_only=read_only)
            for outer, folder in folders.items():
                if path.startswith(f"{outer}/") and not (link := folder / path[len(outer) + 1 :]).exists():
                    link.symlink_to(place)
            folders[path] = place
        for place in folders.values():
            for file in place.glob("*.json") if "mounts" in place.parts else ():
                text = file.read_text(encoding="utf-8")
                for path, other in folders.items():
                    text = text.replace(f'"{path}', f'"{other}')
                file.write_text(text, encoding="utf-8")
        return {path: place for path, place in folders.items() if not _is_inside(path, folders)}

    def _volume(self, replica: Replica, name: str, path: str, *, read_only: bool) -> Path:
        shared = self.folder / "volumes" / name
        shared.mkdir(parents=True, exist_ok=True)
        if not read_only:
            return shared
        copy = self.folder / "mounts" / f"{replica.name}{path.replace('/', '_')}"
        shutil.copytree(shared, copy, dirs_exist_ok=True)
        for file in copy.glob("*.json"):
            text = file.read_text(encoding="utf-8")
            for address in _ANYWHERE:
                text = text.replace(json.dumps(address), json.dumps(replica.ip))
            file.write_text(text, encoding="utf-8")
        return copy

    def _tail(self, replica: Replica) -> str:
        return "\n".join(replica.log.read_text(errors="replace").splitlines()[-30:])


@contextmanager
def running_compose(
    folder: Path,
    *,
    environment: Mapping[str, str] | None = None,
    scale: Mapping[str, int] | None = None,
    without: Collection[str] = (),
    grounds: Grounds | None = None,
) -> Iterator[Compose]:
    """The deployment of compose.yaml within the body, drained afterwards.

    >>> with running_compose(tmp_path, environment={"REFLUX_HTTP_ALLOW": "127.0.0.0/8"}) as compose:
    ...     compose.rest.get("/api/flows")
    ...     compose.kill("orchestrator")

    Args:
        folder: for logs, volumes and the database.
        environment: the variables of the file, as from `.env`. Nothing of the caller's own reaches a service.
        scale: how many replicas of a service there are, 1 if not given.
        without: services that are not started; their names mean nobody.
        grounds: where they run; on loopback if not given.
    """
    variables = {"POSTGRES_PASSWORD": PASSWORD, **(environment or {})}
    document = composefile.load()
    absent = {*without, *(() if shutil.which("jaeger") else ("jaeger",))}
    names = [name for name in document["services"] if name not in absent]
    unknown = {*without, *(scale or {})} - set(document["services"])
    assert not unknown, f"compose.yaml has no {sorted(unknown)}"
    folder.mkdir(parents=True, exist_ok=True)
    grounds = grounds or Loopback()
    replicas: dict[str, list[Replica]] = {}
    for name in names:
        replicas[name] = []
        for number in range(1, (scale or {}).get(name, 1) + 1):
            ip = grounds.address(name, number)
            service = _localized(document, name, ip, variables)
            log = folder / f"{name}-{number}.log"
            replicas[name].append(Replica(service, number, ip, log, dict(service.environment)))
    services = {name: replicas[name][0].service for name in names}
    order = [each for each in composefile.startable(services) if each.name != "postgres"]
    server = _postgres(folder, replicas["postgres"][0], grounds)
    compose = Compose(
        folder=folder,
        replicas=replicas,
        order=order,
        programs=_programs(folder, server),
        password=variables["POSTGRES_PASSWORD"],
        grounds=grounds,
        hosts=_hosts(folder, replicas, {name: grounds.nobody() for name in absent}),
    )
    with running_server(server, stop=signal.Signals[services["postgres"].stop_signal]):
        _first_start(compose, server)
        try:
            compose.up()
            yield compose
        finally:
            compose.down()


def _somebody_listens(asked: str) -> bool:
    """Whether a connection opens to what a health check asks, when that is an address."""
    found = _ADDRESS.fullmatch(asked)
    if found is None:
        return True
    try:
        socket.create_connection((found[1], int(found[2])), timeout=2).close()
    except OSError:
        return False
    return True


def _is_inside(path: str, folders: Mapping[str, Path]) -> bool:
    """Whether a volume lies in another one, whose path stands for both."""
    return any(path.startswith(f"{outer}/") for outer in folders)


def _localized(document: Mapping[str, Any], name: str, ip: str, variables: Mapping[str, str]) -> Service:
    """The service as the replica at `ip` runs it; what variables say is not changed."""

    def own(value: Any) -> Any:
        if isinstance(value, str):
            for address in _ANYWHERE:
                value = value.replace(address, ip)
            return value
        if isinstance(value, dict):
            return {key: own(each) for key, each in value.items()}
        return [own(each) for each in value] if isinstance(value, list) else value

    services = {**document["services"]}
    if not _writes_for_others(services, name):
        services[name] = own(services[name])
    return composefile.read(composefile.interpolate({**document, "services": services}, variables), name)


def _writes_for_others(services: Mapping[str, Any], name: str) -> bool:
    """Whether others read what it writes: the addresses in it are theirs."""
    read = {text for each in services.values() for text in each.get("volumes", []) if text.endswith(":ro")}
    return any(f"{text}:ro" in read for text in services[name].get("volumes", []))


def _free_network() -> Iterator[str]:
    """Addresses of 127.0.0.0/8, in a part of it that nobody uses."""
    while True:
        network = f"127.{random.randint(64, 254)}.{random.randint(0, 255)}"
        try:
            socket.create_server((f"{network}.1", EDGE_PORT)).close()
        except OSError:
            continue
        yield from (f"{network}.{host}" for host in range(2, 255))


def _with_names(hosts: Path) -> tuple[str, ...]:
    """What runs the command after it in a mount namespace where `hosts` is /etc/hosts."""
    as_root = () if os.geteuid() == 0 else ("--map-root-user",)
    mount = 'mount --bind "$0" /etc/hosts && exec "$@"'
    return (shutil.which("unshare") or "unshare", "--mount", *as_root, "sh", "-c", mount, str(hosts))


def why_not() -> str | None:
    """Why nothing of this works on this machine; None: it does."""
    try:
        done = subprocess.run(
            (*_with_names(Path("/etc/hosts")), "true"), capture_output=True, text=True, check=False
        )
    except OSError as error:
        return str(error)
    return None if done.returncode == 0 else f"no mount namespace: {done.stderr.strip()}"


def _hosts(folder: Path, replicas: Mapping[str, list[Replica]], absent: Mapping[str, str]) -> Path:
    lines = ["127.0.0.1 localhost"]
    lines += [f"{each.ip} {name}" for name, group in replicas.items() for each in group]
    lines += [f"{ip} {name}" for name, ip in absent.items()]
    path = folder / "hosts"
    path.write_text("\n".join(lines) + "\n")
    path.chmod(0o644)
    return path


def _programs(folder: Path, server: PostgresServer) -> str:
    """PATH: what the images hold."""
    ours = folder / "bin"
    ours.mkdir(exist_ok=True)
    (ours / "envoy").symlink_to(wheels.envoy_program())
    (ours / "valkey-server").symlink_to(wheels.valkey_program())
    cli = ours / "valkey-cli"  # the wheel has none
    cli.write_text(_VALKEY_CLI.format(python=sys.executable))
    cli.chmod(0o755)
    if jaeger := shutil.which("jaeger"):
        (ours / "jaeger").symlink_to(jaeger)
    return f"{ours}:{Path(sys.executable).parent}:{server.programs}:/usr/local/bin:/usr/bin:/bin"


@dataclass(frozen=True, slots=True)
class _Postgres(PostgresServer):
    host: str = ""
    grounds: Grounds = field(default_factory=Loopback)

    async def prepare(self) -> None:
        """As the image: whoever knows a password is let in from anywhere."""
        await PostgresServer.prepare(self)
        with (self.folder / "data" / "pg_hba.conf").open("a") as rules:
            rules.write("host all all all scram-sha-256\n")

    def start(self) -> subprocess.Popen[bytes]:
        with self.grounds.inside("postgres", 1):
            return PostgresServer.start(self)

    def dsn(self, database: str = "reflux", user: str = "reflux") -> str:
        return PostgresServer.dsn(self, database, user).replace("127.0.0.1", self.host)


def _postgres(folder: Path, replica: Replica, grounds: Grounds) -> _Postgres:
    """The image's server; it makes its superuser itself and nothing else."""
    user = unprivileged_user()
    return _Postgres(
        folder=folder / "postgres",
        programs=wheels.postgres_programs(user, folder),
        port=5432,
        log=replica.log,
        user=user,
        options=(f"listen_addresses={replica.ip}", "fsync=off"),
        sync=False,
        host=replica.ip,
        grounds=grounds,
    )


def _first_start(compose: Compose, server: _Postgres) -> None:
    """What the image does with `docker-entrypoint-initdb.d` on an empty volume."""
    replica = compose.replicas["postgres"][0]
    superuser = psycopg.conninfo.conninfo_to_dict(server.admin_dsn())
    environment = {
        **replica.environment,
        "PATH": compose.programs,
        "PGHOST": replica.ip,
        "PGPASSWORD": str(superuser["password"]),
    }
    for path, content in replica.service.configs.items():
        assert path.startswith("/docker-entrypoint-initdb.d/"), path
        done = subprocess.run(
            ["bash", "-eo", "pipefail", "-c", content],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
