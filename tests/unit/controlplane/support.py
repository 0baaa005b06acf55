"""A proxy for the subscription: asks and answers as Envoy does, without a network."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from reflux.controlplane.envoy import xds
from reflux.controlplane.snapshot import KINDS
from reflux.controlplane.subscription import Request, Subscription

if TYPE_CHECKING:
    from collections.abc import Iterable

    from reflux.controlplane.snapshot import View
    from reflux.controlplane.subscription import Response

NAMES = dict(zip(KINDS, ("CDS", "EDS", "LDS", "RDS"), strict=True))


def view(clusters: str = "", routes: str = "", endpoints: str = "") -> View:
    """A view of clusters named by letters, each with endpoints; `endpoints` makes their content differ."""
    return {
        xds.CLUSTER: {name: name.encode() for name in clusters},
        xds.ENDPOINT: {name: (name + endpoints).encode() for name in clusters},
        xds.LISTENER: {"mesh": b"listener"},
        xds.ROUTE: {"mesh": routes.encode() or b"routes"},
    }


@dataclass(slots=True)
class FakeEnvoy:
    """Keeps what it was told, and whom it has still to answer."""

    subscription: Subscription = field(default_factory=Subscription)
    inbox: list[Response] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    """Every response in order, such as `CDS ab`."""
    nonces: dict[str, str] = field(default_factory=dict)
    names: dict[str, frozenset[str]] = field(default_factory=dict)

    def push(self, target: View) -> list[str]:
        """Give the subscription a new view; return what was sent."""
        return self._take(self.subscription.push(target))

    def ask(self, kind: str, names: Iterable[str] = ()) -> list[str]:
        """Subscribe, or change the names."""
        self.names[kind] = frozenset(names)
        return self._say(kind)

    def ack(self) -> list[str]:
        """Accept the oldest response that was not answered yet."""
        return self._say(self._answered().kind)

    def nack(self, words: str) -> list[str]:
        """Refuse it."""
        return self._say(self._answered().kind, error=words)

    def stale(self, kind: str, nonce: str) -> list[str]:
        """Answer a response that has been overtaken."""
        request = Request(kind, self.names[kind], nonce)
        return self._take(self.subscription.receive(request))

    def ack_all(self) -> list[str]:
        """Accept until there is nothing to answer; return all that was sent meanwhile."""
        sent = []
        while self.inbox:
            sent += self.ack()
        return sent

    def start(self, target: View, clusters: str) -> None:
        """Go through a whole start as Envoy does."""
        self.push(target)
        self.ask(xds.CLUSTER)
        self.ask(xds.ENDPOINT, clusters)
        self.ack_all()
        self.ask(xds.LISTENER)
        self.ask(xds.ROUTE, ["mesh"])
        self.ack_all()
        assert self.subscription.settled

    def _answered(self) -> Response:
        response = self.inbox.pop(0)
        self.nonces[response.kind] = response.nonce
        return response

    def _say(self, kind: str, error: str = "") -> list[str]:
        names = self.names.get(kind, frozenset())
        request = Request(kind, names, self.nonces.get(kind, ""), error)
        return self._take(self.subscription.receive(request))

    def _take(self, responses: list[Response]) -> list[str]:
        self.inbox += responses
        lines = [f"{NAMES[each.kind]} {b' '.join(each.resources).decode()}".strip() for each in responses]
        self.told += lines
        return lines
