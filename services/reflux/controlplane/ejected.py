"""Which endpoints a proxy has ejected, since when and why: what `/clusters` and the counters tell together.

Envoy says who is out in `/clusters` (`failed_outlier_check` of a host), and why only in its outlier event log
and in counters. The log is a file beside the proxy, which a control plane on another machine cannot read; so
the reason is taken from the counters: the one that rose in the look in which the endpoint was first seen
out. When none or both did, the reason is not known, and that is said. `/clusters` is asked for only while a
counter says that somebody is out: it is long.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

CLUSTERS: Final = "/clusters?format=json"
CAUSES: Final = (
    "/stats?filter=outlier_detection%5C.ejections_enforced_"
    "(consecutive_gateway_failure%7Cfailure_percentage)$&format=json"
)

_LEAF: Final = re.compile(r"(?P<node>[^@~]+)@(?P<version>[^~]+)")
_COUNTER: Final = re.compile(
    r"cluster\.(?P<node>[^@~]+)@(?P<version>[^~]+)\.outlier_detection\.ejections_enforced_"
    r"(?P<cause>consecutive_gateway_failure|failure_percentage)"
)

Version = tuple[str, str]
"""node, version"""


class Cause(StrEnum):
    """Why an endpoint is out; in Envoy's words."""

    CONSECUTIVE = "consecutive_gateway_failure"
    FAILURE_PERCENTAGE = "failure_percentage"
    UNKNOWN = ""


@dataclass(frozen=True, slots=True)
class Out:
    """An endpoint that is ejected."""

    since: datetime
    """When it was first seen so."""
    cause: Cause


def read_clusters(text: bytes) -> frozenset[tuple[str, str, str]]:
    """Node, version and `host:port` of every endpoint that is ejected, in an answer of `/clusters`.

    Raises:
        ValueError: it is not what Envoy answers.
    """
    found = set()
    try:
        for cluster in json.loads(text).get("cluster_statuses", ()):
            if match := _LEAF.fullmatch(cluster["name"]):
                for host in cluster.get("host_statuses", ()):
                    if host.get("health_status", {}).get("failed_outlier_check"):
                        address = host["address"]["socket_address"]
                        endpoint = f"{address['address']}:{address['port_value']}"
                        found.add((match["node"], match["version"], endpoint))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not Envoy's clusters: {error!r}") from None
    return frozenset(found)


def read_causes(text: bytes) -> Mapping[tuple[Version, Cause], int]:
    """Ejections of each version by cause, since the proxy started.

    Raises:
        ValueError: it is not what Envoy answers.
    """
    try:
        stats = {each["name"]: int(each["value"]) for each in json.loads(text)["stats"] if "name" in each}
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not Envoy's statistics: {error!r}") from None
    matches = ((_COUNTER.fullmatch(name), value) for name, value in stats.items())
    return {
        ((match["node"], match["version"]), Cause(match["cause"])): value for match, value in matches if match
    }


def follow(
    before: Mapping[tuple[str, str, str], Out],
    out: frozenset[tuple[str, str, str]],
    rose: Mapping[Version, frozenset[Cause]],
    now: datetime,
) -> Mapping[tuple[str, str, str], Out]:
    """Those that are out now: who was so before keeps what is known of it."""
    return {
        endpoint: before.get(endpoint) or Out(now, _only(rose.get(endpoint[:2], frozenset())))
        for endpoint in sorted(out)
    }


def risen(
    before: Mapping[tuple[Version, Cause], int] | None, now: Mapping[tuple[Version, Cause], int]
) -> Mapping[Version, frozenset[Cause]]:
    """The causes that ejected since the look before; none when there was none, or the proxy restarted."""
    if before is None:
        return {}
    found: dict[Version, frozenset[Cause]] = {}
    for (version, cause), value in now.items():
        if value > before.get((version, cause), 0):
            found[version] = found.get(version, frozenset()) | {cause}
    return found


def _only(causes: frozenset[Cause]) -> Cause:
    return next(iter(causes)) if len(causes) == 1 else Cause.UNKNOWN
