"""The router's access log of tries: one entry per try that did not answer OK, sent to the control plane.

Only those: of a call that was answered at the first try, which is nearly every one, the reply's own labels
already say all there is, so the log costs nothing where nothing goes wrong. Every try would cost Envoy some
40 µs and the control plane some 15 µs of each call (measured; ADR 50). The try that answered after others had
failed is the one that is missing in the log, and the reply says whose it was.

The log is written by the upstream side of the router, which writes an entry for each try, with the leaf it
went to, its own flags, its own beginning and length. Calls that are mirrored have no router of this kind.
A control plane that does not listen costs the entries, and no call waits for it.
"""

from __future__ import annotations

from typing import Any, Final

from reflux.controlplane.envoy.xds import typed

NAME: Final = "tries"
"""Name of the log; the receiver takes no other."""

CLUSTER: Final = "controlplane"
"""Of the bootstraps: where the ADS stream goes too."""

FLUSH_SECONDS: Final = 0.5
"""What is known of a try is there so much later at the most."""

BUFFER_BYTES: Final = 64 << 10
"""Of each worker; a full buffer is sent at once."""

RUN, STEP, ATTEMPT, BATCH = "x-reflux-run-id", "x-reflux-step", "x-reflux-attempt", "x-reflux-batch-id"
STATUS: Final = "grpc-status"
GATE: Final = "x-reflux-gate"
"""Flags of a try that ended behind the gate of a version with limits."""
UNANSWERED: Final = "x-reflux-unanswered"
"""Header of what no version has answered (`faults`): the flags, FI for an abort that the call asked for."""


def router() -> dict[str, Any]:
    """The router filter of the mesh listener, with its log of tries."""
    return typed("envoy.extensions.filters.http.router.v3.Router", {"upstream_log": [failed_tries()]})


def failed_tries() -> dict[str, Any]:
    """An entry of every try that did not end with OK; one without any status has none of it."""
    return {**logger(NAME), "filter": {"grpc_status_filter": {"statuses": ["OK"], "exclude": True}}}


def logger(name: str) -> dict[str, Any]:
    """The log `name`, of every try."""
    common = {
        "log_name": name,
        "transport_api_version": "V3",
        "grpc_service": {"envoy_grpc": {"cluster_name": CLUSTER}},
        "buffer_flush_interval": f"{FLUSH_SECONDS}s",
        "buffer_size_bytes": BUFFER_BYTES,
    }
    return {
        "name": "envoy.access_loggers.http_grpc",
        "typed_config": typed(
            "envoy.extensions.access_loggers.grpc.v3.HttpGrpcAccessLogConfig",
            {
                "common_config": common,
                "additional_request_headers_to_log": [RUN, STEP, ATTEMPT, BATCH],
                # A failure is trailers-only (a header then) or, of a TargetFault, in the trailers.
                "additional_response_headers_to_log": [STATUS, GATE, UNANSWERED],
                "additional_response_trailers_to_log": [STATUS],
            },
        ),
    }
