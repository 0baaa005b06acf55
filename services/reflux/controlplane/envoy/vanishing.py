"""How a proxy finds out that a machine has vanished: its power or its cable is gone, and nothing is refused.

A process that dies closes its connections. A machine that vanishes closes none, and TCP goes on sending for a
quarter of an hour, while every call waits for its own limit. HTTP/2 pings would find out, but most gRPC
servers answer pings that come more often than every five minutes with GOAWAY. So the kernels are asked and
not the processes, and a process that is busy or paused is never taken for a machine that is gone:

- what was sent and is not acknowledged within `ACKNOWLEDGE_MILLISECONDS` closes the connection: its calls end
  as reset, which lanes, ejection and claims know how to read;
- over a connection on which nothing is sent, because all calls on it wait for their answers, the kernel asks
  after `SILENT_SECONDS`, and the rule above holds for the question;
- a new connection has a second, and what is not connected was not sent: both lanes try elsewhere.

Two seconds are three lost packets in a row, which a network that works does not lose, and less than anybody
waits for by choice. Less would take a virtual machine that moves, and pauses, for one that is gone.

`envoy/edge.yaml` and `envoy/mesh.yaml` say the same of the clusters of the bootstraps; a test compares them.

Sources: tcp(7), `TCP_USER_TIMEOUT`, which keepalive probes obey as well; RFC 5482.
"""

from __future__ import annotations

from typing import Any, Final

ACKNOWLEDGE_MILLISECONDS: Final = 2_000
SILENT_SECONDS: Final = 5

_IPPROTO_TCP: Final = 6
_TCP_USER_TIMEOUT: Final = 18  # Linux, where the proxies run

NOTICED: Final[dict[str, Any]] = {
    "upstream_bind_config": {
        "socket_options": [
            {
                "description": "TCP_USER_TIMEOUT",
                "level": str(_IPPROTO_TCP),
                "name": str(_TCP_USER_TIMEOUT),
                "int_value": str(ACKNOWLEDGE_MILLISECONDS),
                "state": "STATE_PREBIND",
            }
        ]
    },
    "upstream_connection_options": {
        "tcp_keepalive": {
            "keepalive_time": SILENT_SECONDS,
            "keepalive_interval": 1,
            "keepalive_probes": 3,
        }
    },
}
"""Fields of a cluster."""
