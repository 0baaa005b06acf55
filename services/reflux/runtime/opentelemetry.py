"""The standard OTEL_* variables as a source of settings.

Whoever has an OpenTelemetry set-up names the collector once, for everything on the machine; so what those
variables say about it counts for us too, below our own `REFLUX_*` and above the file. Those that would make
something else of our traces than we do, and that nobody here obeys, are refused: ignoring them would be a
silent lie. Without a collector none of them has a meaning, and none is looked at.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

_OTLP: Final = "OTEL_EXPORTER_OTLP_"
_FIELDS: Final = {"ENDPOINT": "otlp_endpoint", "HEADERS": "otlp_headers", "CERTIFICATE": "otlp_certificate"}
_OBEYED: Final = {
    "PROTOCOL": ("grpc",),
    "CLIENT_KEY": (),
    "CLIENT_CERTIFICATE": (),
    "COMPRESSION": ("none",),
}
"""What may be said of the connection: of gRPC only, without client certificates, not compressed."""
_REFUSED: Final = {
    "OTEL_TRACES_SAMPLER": "a run is sampled as a whole: set REFLUX_TRACE_RATIO",
    "OTEL_TRACES_SAMPLER_ARG": "a run is sampled as a whole: set REFLUX_TRACE_RATIO",
    "OTEL_SERVICE_NAME": "the services of REFLUX have fixed names",
    "OTEL_RESOURCE_ATTRIBUTES": "they would not reach Envoy's spans; add them in the collector",
}
_ALLOWED: Final = {"OTEL_TRACES_EXPORTER": ("otlp",)}


class Contradiction(ValueError):
    """A variable asks for what is not done; the message names it and what to do."""


def read(environment: Mapping[str, str]) -> dict[str, str]:
    """Settings by field name.

    Raises:
        Contradiction: see there.
    """
    given = {name: value.strip() for name, value in environment.items() if name.startswith("OTEL_")}
    off = given.get("OTEL_SDK_DISABLED", "").lower() == "true" or given.get("OTEL_TRACES_EXPORTER") == "none"
    fields = {field: _of_traces(given, name) for name, field in _FIELDS.items()}
    if off or not fields["otlp_endpoint"]:
        return {}
    for name, values in _OBEYED.items():
        _allow(f"{_OTLP}{name}", _of_traces(given, name), values)
    for name, values in _ALLOWED.items():
        _allow(name, given.get(name, ""), values)
    for name, advice in _REFUSED.items():
        if given.get(name):
            raise Contradiction(f"{name} is not supported: {advice}, and unset it for REFLUX")
    return {field: value for field, value in fields.items() if value}


def _of_traces(given: Mapping[str, str], name: str) -> str:
    """The variable for traces alone goes before the one for every signal."""
    return given.get(f"{_OTLP}TRACES_{name}") or given.get(f"{_OTLP}{name}", "")


def _allow(name: str, value: str, values: tuple[str, ...]) -> None:
    if value and value not in values:
        only = f"only {', '.join(values)} is" if values else "it is not"
        raise Contradiction(
            f"{name} (or its form for traces) asks for something else: {only} supported; unset it"
        )
