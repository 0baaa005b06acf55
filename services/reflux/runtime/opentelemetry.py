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


class Contradiction(ValueError):
    """A variable asks for what is not done; the message names it and what to do."""


def read(environment: Mapping[str, str]) -> dict[str, str]:
    """Settings by field name; none when the standard way to say no was used."""
    if _off(environment):
        return {}
    fields = {field: _of_traces(environment, name) for name, field in _FIELDS.items()}
    return {field: value for field, value in fields.items() if value}


def check(environment: Mapping[str, str]) -> None:
    """Refuse what contradicts tracing as we do it; to be asked when there is a collector.

    Raises:
        Contradiction: see there.
    """
    if _off(environment):
        return
    for name, values in _OBEYED.items():
        _allow(f"{_OTLP}{name}", _of_traces(environment, name), values)
    _allow("OTEL_TRACES_EXPORTER", environment.get("OTEL_TRACES_EXPORTER", "").strip(), ("otlp",))
    for name, advice in _REFUSED.items():
        if environment.get(name, "").strip():
            raise Contradiction(f"{name} is not supported: {advice}, and unset it for REFLUX")


def _off(environment: Mapping[str, str]) -> bool:
    disabled = environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    return disabled or environment.get("OTEL_TRACES_EXPORTER", "").strip() == "none"


def _of_traces(environment: Mapping[str, str], name: str) -> str:
    """The variable for traces alone goes before the one for every signal."""
    alone = environment.get(f"{_OTLP}TRACES_{name}", "").strip()
    return alone or environment.get(f"{_OTLP}{name}", "").strip()


def _allow(name: str, value: str, values: tuple[str, ...]) -> None:
    if value and value not in values:
        only = f"only {', '.join(values)} is" if values else "it is not"
        raise Contradiction(
            f"{name} (or its form for traces) asks for something else: {only} supported; unset it"
        )
