"""Hosts on one machine: network namespaces with addresses of their own on a bridge, and cables to pull.

    with network() as net:
        net.add("stores")
        with net.inside("stores"):
            process = subprocess.Popen(…)  # has that host's interfaces, addresses and routes, and no others
        with net.without("stores"):
            …                              # its cable is pulled: nothing is refused, packets vanish

Theory. A process has the network namespace of the thread that starts it, so `inside` moves this thread there
and back: no program stands around the child, which keeps its user, its descriptors and its death signal. The
test itself stays outside, at an address of the bridge from which it reaches every host: it is the world.

A host that is cut off sees what a real one sees: the carrier is lost, what is sent vanishes, no connection is
closed. What a host has on its loopback is its own.

Namespaces outlive their maker: those of processes that are gone are removed before new ones are made.
"""

import ctypes
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

_CLONE_NEWNET = 0x40000000
_NAMESPACES = Path("/run/netns")
_PREFIX = "reflux"
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(slots=True)
class Network:
    """A bridge and the hosts on it; `network` makes it."""

    prefix: str
    """First three numbers of every address."""
    number: int
    """Tells its interfaces from those of other networks."""
    hosts: dict[str, int] = field(default_factory=dict)
    _addresses: int = 1

    @property
    def outside(self) -> str:
        """Address of this process on the bridge."""
        return f"{self.prefix}.1"

    @property
    def cidr(self) -> str:
        """All of it."""
        return f"{self.prefix}.0/24"

    def begin(self) -> None:
        """Makes the bridge."""
        _ip(f"link add {self._bridge} type bridge")
        _ip(f"addr add {self.outside}/24 dev {self._bridge}")
        _ip(f"link set {self._bridge} up")

    def add(self, host: str) -> None:
        """Makes a host without an address."""
        number = self.hosts[host] = len(self.hosts) + 1
        name, inner, outer = self._namespace(host), f"rfx{self.number}i{number}", self._cable(host)
        _ip(f"netns add {name}")
        _ip(f"link add {outer} type veth peer name {inner} netns {name}")
        _ip(f"link set {outer} master {self._bridge} up")
        _ip(f"-n {name} link set {inner} name eth0 up")
        _ip(f"-n {name} link set lo up")

    def address(self, host: str) -> str:
        """A new address on a host: a host has one for each thing on it, as containers have them."""
        self._addresses += 1
        address = f"{self.prefix}.{self._addresses}"
        _ip(f"-n {self._namespace(host)} addr add {address}/24 dev eth0")
        return address

    @contextmanager
    def inside(self, host: str) -> Iterator[None]:
        """What this thread starts within the body is on that host. Opens nothing by itself meanwhile."""
        with ExitStack() as stack:
            here = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
            stack.callback(os.close, here)
            there = os.open(_NAMESPACES / self._namespace(host), os.O_RDONLY)
            stack.callback(os.close, there)
            _enter(there)
            try:
                yield
            finally:
                _enter(here)

    def cut(self, host: str) -> None:
        """Pulls its cable."""
        _ip(f"link set {self._cable(host)} down")

    def heal(self, host: str) -> None:
        """Puts it back."""
        _ip(f"link set {self._cable(host)} up")

    @contextmanager
    def without(self, host: str) -> Iterator[None]:
        """The host is cut off within the body."""
        self.cut(host)
        try:
            yield
        finally:
            self.heal(host)

    def remove(self) -> None:
        """Takes all of it away, as far as it is there."""
        for host in self.hosts:
            for part in (f"link del {self._cable(host)}", f"netns del {self._namespace(host)}"):
                with suppress(OSError):
                    _ip(part)
        with suppress(OSError):
            _ip(f"link del {self._bridge}")

    @property
    def _bridge(self) -> str:
        return f"rfx{self.number}"

    def _cable(self, host: str) -> str:
        """The end of it that is outside."""
        return f"rfx{self.number}o{self.hosts[host]}"

    def _namespace(self, host: str) -> str:
        return f"{_PREFIX}-{os.getpid()}-{self.number}-{host}"


@contextmanager
def network() -> Iterator[Network]:
    """A network within the body; nothing of it is left. Processes on it end before it does."""
    _sweep()
    made = Network(_free_prefix(), random.randint(100_000, 999_999))
    try:
        made.begin()
        yield made
    finally:
        made.remove()


def why_not() -> str | None:
    """Why there can be no such network on this machine; None: there can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None:
        return "there is no program ip (package iproute2)"
    try:
        with network() as probe:
            probe.add("probe")
            address = probe.address("probe")
            with probe.inside("probe"):
                server = subprocess.Popen(
                    (sys.executable, "-c", _ANSWER.format(address)), stdout=subprocess.PIPE, text=True
                )
            try:
                assert server.stdout is not None
                server.stdout.readline()
                done = subprocess.run(
                    (sys.executable, "-c", _ASK.format(address)), capture_output=True, text=True, check=False
                )
            finally:
                server.kill()
                server.communicate()
    except OSError as error:
        return f"no network namespaces: {error}"
    return (
        None if done.returncode == 0 else f"hosts on a bridge do not reach each other: {done.stderr[-200:]}"
    )


_ANSWER = 'import socket; s = socket.create_server(("{}", 1)); print("up", flush=True); s.accept()'
_ASK = 'import socket; socket.create_connection(("{}", 1), timeout=5)'


def _ip(arguments: str) -> str:
    """Runs `ip`.

    Raises:
        OSError: it refuses; with its words.
    """
    done = subprocess.run(("ip", *arguments.split()), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise OSError(f"ip {arguments}: {done.stderr.strip()}")
    return done.stdout


def _enter(namespace: int) -> None:
    if _libc.setns(namespace, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns: " + os.strerror(ctypes.get_errno()))


def _free_prefix() -> str:
    """A network of 10.0.0.0/8 to which no way of its own leads yet.

    Raises:
        OSError: none was found.
    """
    for _ in range(100):
        prefix = f"10.{random.randint(64, 250)}.{random.randint(0, 255)}"
        ways = _ip(f"-4 route show match {prefix}.1").splitlines()
        if all(way.startswith("default") for way in ways):
            return prefix
    raise OSError("no free network in 10.0.0.0/8")


def _sweep() -> None:
    """Removes what processes that are gone have left."""
    for path in _NAMESPACES.glob(f"{_PREFIX}-*") if _NAMESPACES.is_dir() else ():
        _, pid, number, _ = path.name.split("-", 3)
        if not Path("/proc", pid).exists():
            with suppress(OSError):
                _ip(f"netns del {path.name}")
            with suppress(OSError):
                _ip(f"link del rfx{number}")
