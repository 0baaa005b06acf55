"""The deployment of compose.yaml over several hosts, each of which can be cut off: `compose` on a `network`.

with network() as net, running_hosts(tmp_path, net, PLACES, scale={"orchestrator": 2}) as compose:
    with net.without("orchestrators-2"):
        …

Theory. Replicas of the file stand on the hosts that `places` says, each at an address of its host; everything
between them, certificates included, is what the file says.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from tests.support.compose import Compose, running_compose
from tests.support.network import Network

Places = Mapping[str, Sequence[tuple[str, int]]]
"""Host → the replicas on it, each as service and number."""


class Hosts:
    """The grounds of `compose`: a host for each replica."""

    def __init__(self, net: Network, places: Places, elsewhere: str) -> None:
        self._net = net
        self._host = {replica: host for host, replicas in places.items() for replica in replicas}
        self._elsewhere = elsewhere

    def host(self, service: str, number: int = 1) -> str:
        """Where a replica is."""
        return self._host.get((service, number), self._elsewhere)

    def address(self, service: str, number: int) -> str:
        """A new one on its host."""
        return self._net.address(self.host(service, number))

    def nobody(self) -> str:
        """The last one of the network: more than it has hosts."""
        return f"{self._net.prefix}.254"

    def inside(self, service: str, number: int) -> AbstractContextManager[None]:
        """On its host."""
        return self._net.inside(self.host(service, number))


@contextmanager
def running_hosts(
    folder: Path,
    net: Network,
    places: Places,
    *,
    environment: Mapping[str, str],
    scale: Mapping[str, int],
    without: Collection[str],
) -> Iterator[Compose]:
    """The deployment within the body, on hosts of `net` that are made here; what `places` does not name is on
    the first of them. See `running_compose` for the rest.
    """
    for host in places:
        net.add(host)
    grounds = Hosts(net, places, next(iter(places)))
    with running_compose(
        folder, environment=environment, scale=scale, without=without, grounds=grounds
    ) as compose:
        yield compose
