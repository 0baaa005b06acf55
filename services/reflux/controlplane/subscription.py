"""One proxy's ADS stream (state of the world) without I/O: requests and views in, responses out.

Theory. A proxy asks per type, gets everything it asked for, and answers each response with its nonce: ACK, or
NACK with its own words. Rules kept here:

- A request with an old nonce is answered by nothing: the one that matters is on its way.
- Clusters and listeners are sent whole, because absence deletes; endpoints and routes only where named.
- A list of names that grew is answered at once; Envoy holds a new cluster back until its endpoints are there.
- What was refused is not sent again, not even as the old half of a later view: a proxy is taken to have what
  it accepted last. A view without it is the way out.
- Make before break. A new view goes out in stages, each after the ACKs of the one before:
    1. clusters and endpoints, old and new together
    2. listeners, then routes
    3. clusters and endpoints without the old
  so no route ever leads to a cluster that is not there. Envoy acknowledges a cluster only when it is warm,
  which makes the ACK of stage 1 a real barrier.
- Endpoints follow clusters even if they did not change: a cluster that was replaced waits for them.

A stage that is never acknowledged holds the next one back, and a newer view replaces what is still waiting.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import Enum, auto
from itertools import count
from typing import TYPE_CHECKING, Final

from reflux.controlplane.envoy import xds
from reflux.controlplane.snapshot import KINDS, version

if TYPE_CHECKING:
    from reflux.controlplane.snapshot import Resources, View

_WHOLE: Final = frozenset({xds.CLUSTER, xds.LISTENER})


@dataclass(frozen=True, slots=True)
class Request:
    """What a proxy says: a subscription, an ACK or, with `error`, a NACK."""

    kind: str
    names: frozenset[str] = frozenset()
    nonce: str = ""
    error: str = ""


@dataclass(frozen=True, slots=True)
class Response:
    """What a proxy is told."""

    kind: str
    version: str
    nonce: str
    resources: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a proxy did not accept, in its own words."""

    kind: str
    words: str


class _Answer(Enum):
    NONE = auto()
    """Nothing was sent yet."""
    AWAITED = auto()
    ACCEPTED = auto()
    REFUSED = auto()


@dataclass(slots=True)
class _Watch:
    names: frozenset[str]
    nonce: str = ""
    version: str = ""
    answer: _Answer = _Answer.NONE
    accepted: Resources = field(default_factory=dict)
    """What was served when the proxy last said yes."""


class Subscription:
    """The state of one stream. Every method returns the responses to write, in order."""

    def __init__(self) -> None:
        self._nonces = count(1)
        self._watches: dict[str, _Watch] = {}
        self._served: dict[str, Resources] = {}
        self._stages: deque[View] = deque()
        self._stage: frozenset[str] = frozenset()
        self._goal: View = {}
        self.refusal: Refusal | None = None
        """Of the newest view; None while it has not been refused."""

    @property
    def settled(self) -> bool:
        """Whether the proxy has accepted all of the newest view."""
        return (
            bool(self._goal)
            and not self._stages
            and all(
                self._answer(kind) is _Answer.ACCEPTED
                for kind in KINDS
                if kind in _WHOLE or self._goal[kind] or kind in self._watches
            )
        )

    def push(self, view: View) -> list[Response]:
        """Lead the proxy to a new view."""
        self._goal, self.refusal = view, None
        both = {kind: {**self._served.get(kind, {}), **view[kind]} for kind in (xds.CLUSTER, xds.ENDPOINT)}
        use = {kind: view[kind] for kind in (xds.LISTENER, xds.ROUTE)}
        exact = {kind: view[kind] for kind in (xds.CLUSTER, xds.ENDPOINT)}
        self._stages = deque((both, use, exact))
        return self._advance()

    def receive(self, request: Request) -> list[Response]:
        """Take what the proxy said. A type that we do not serve is answered by nothing."""
        if request.kind not in KINDS:
            return []
        watch = self._watches.setdefault(request.kind, _Watch(request.names))
        if request.nonce != watch.nonce:
            return []
        if request.error:
            watch.names, watch.answer = request.names, _Answer.REFUSED
            self._served[request.kind] = watch.accepted
            self.refusal = Refusal(request.kind, request.error)
            self._stages.clear()
            return []
        grew = request.names > watch.names or not request.names <= watch.names
        watch.names = request.names
        if watch.answer is _Answer.AWAITED:
            watch.answer, watch.accepted = _Answer.ACCEPTED, self._served[request.kind]
        responses = []
        if request.kind in self._served and (grew or watch.answer is _Answer.NONE):
            responses = self._send(request.kind, again=True)
        return responses + self._advance()

    def _advance(self) -> list[Response]:
        """Enter the next stages as far as the answers allow."""
        responses: list[Response] = []
        while self._stages and self._complete():
            stage = self._stages.popleft()
            self._stage = frozenset(stage)
            self._served.update(stage)
            clusters = False
            for kind in KINDS:
                if kind in stage:
                    sent = self._send(kind, again=clusters and kind == xds.ENDPOINT)
                    clusters = clusters or (kind == xds.CLUSTER and bool(sent))
                    responses += sent
        return responses

    def _complete(self) -> bool:
        """Whether everything sent has an answer, and whoever must ask in this stage has asked."""
        asked = all(self._answer(kind) is not _Answer.NONE for kind in self._stage & _WHOLE)
        return asked and all(watch.answer is not _Answer.AWAITED for watch in self._watches.values())

    def _answer(self, kind: str) -> _Answer:
        watch = self._watches.get(kind)
        return watch.answer if watch else _Answer.NONE

    def _send(self, kind: str, *, again: bool) -> list[Response]:
        """Send what the proxy watches of `kind`; what it already was told, only `again`."""
        watch = self._watches.get(kind)
        if watch is None:
            return []
        resources = self._served[kind]
        if kind not in _WHOLE:
            resources = {name: resources[name] for name in sorted(watch.names) if name in resources}
        current = version(resources)
        if current == watch.version and watch.answer is not _Answer.NONE and not again:
            return []
        watch.nonce, watch.version, watch.answer = str(next(self._nonces)), current, _Answer.AWAITED
        return [Response(kind, current, watch.nonce, tuple(resources[name] for name in sorted(resources)))]
