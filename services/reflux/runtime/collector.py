"""Where traces go: one OTLP collector over gRPC, for our processes and for Envoy alike.

What is said once must mean the same to both, so it is read strictly: an endpoint is `http://host:port` or
`https://host:port` and nothing more. With TLS the authorities travel as bytes, because Envoy has none of its
own and may run where our files are not.
"""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from reflux.runtime.settings import Settings

_HEADER: Final = re.compile(r"(?!grpc-|host$)[a-z0-9_.-]+(?<!-bin)")
_VALUE: Final = re.compile(r"[\x20-\x7e]*")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A parsed `otlp_endpoint`."""

    host: str
    """A name or an address; IPv6 without brackets."""
    port: int
    tls: bool

    @classmethod
    def parse(cls, text: str) -> Endpoint:
        """Read `http://host:port` or `https://host:port`.

        Raises:
            ValueError: it is anything else. The text is not in the message: it may hold a secret.
        """
        try:
            url = urlsplit(text.strip())
            host, port = url.hostname, url.port
        except ValueError:
            host = port = None
        if not host or not port or url.scheme not in ("http", "https") or "@" in url.netloc:
            raise ValueError(
                "give http://host:port, or https://host:port for TLS; OTLP over gRPC has port 4317"
            )
        if url.path not in ("", "/") or url.query or url.fragment:
            raise ValueError("the endpoint of OTLP over gRPC has no path; give http://host:port")
        return cls(host, port, url.scheme == "https")


@dataclass(frozen=True, slots=True)
class Collector:
    """How spans are handed over."""

    endpoint: Endpoint
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    """gRPC metadata of every export, such as an API key."""
    authorities: bytes | None = field(default=None, repr=False)
    """PEM, exactly with TLS: who may vouch for the collector."""

    @classmethod
    def of(cls, settings: Settings) -> Collector | None:
        """The collector of these settings; None when nothing is to be traced.

        Raises:
            ValueError: the authorities cannot be read.
        """
        if not settings.otlp_endpoint or settings.trace_ratio == 0:
            return None
        endpoint = Endpoint.parse(settings.otlp_endpoint)
        authorities = _authorities(settings.otlp_certificate) if endpoint.tls else None
        return cls(endpoint, parse_headers(settings.otlp_headers), authorities)


def parse_headers(text: str) -> tuple[tuple[str, str], ...]:
    """Read `key=value,key=value` as the OpenTelemetry specification writes it, values percent-encoded.

    Raises:
        ValueError: a pair is none, or cannot be gRPC metadata; without the text, which is mostly a secret.
    """
    headers = []
    for number, part in enumerate(filter(None, map(str.strip, text.split(","))), 1):
        key, equals, value = part.partition("=")
        name, content = key.strip().lower(), unquote(value.strip())
        if not equals or not _HEADER.fullmatch(name) or not _VALUE.fullmatch(content):
            raise ValueError(
                f"pair {number} is not key=value with a key and a value that gRPC metadata can carry"
            )
        headers.append((name, content))
    return tuple(headers)


def _authorities(certificate: Path | None) -> bytes:
    given = certificate or ssl.get_default_verify_paths().cafile
    if given is None:
        raise ValueError(
            "this machine has no list of authorities; name a PEM file in OTEL_EXPORTER_OTLP_CERTIFICATE"
        )
    try:
        content = Path(given).read_bytes()
        # What Envoy does not take it would refuse together with every route that is on its way.
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=content.decode("ascii"))
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise ValueError(f"the authorities for the collector are no readable PEM file: {error}") from None
    return content
