"""Settings: one frozen value, read once when a process starts and passed down.

Every process of REFLUX reads the same model. A value comes from, first match wins:

1. a flag of the command line (keyword arguments of `Settings.load`),
2. the environment, `REFLUX_<FIELD>`; for the collector of traces also the standard `OTEL_*` variables,
3. `reflux.toml` in the working directory: flat, its keys are the field names,
4. the default.

Unknown keys are refused in all three, with the nearest known name: a misspelt setting that is silently
ignored is worse than a process that does not start. Children of the supervisor get their settings only
through the environment (`Settings.to_environment`).
"""

from __future__ import annotations

import difflib
import os
import tomllib
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, NamedTuple, Self

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, ValidationError
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    NoDecode,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from reflux.runtime import opentelemetry
from reflux.runtime.collector import Endpoint, parse_headers

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic_settings import PydanticBaseSettingsSource

LogFormat = Literal["console", "json"]
LogLevel = Literal["debug", "info", "warning", "error"]
Network = IPv4Network | IPv6Network

START_ONCE_DAYS: Final = 7
"""For so long a start-once handle names its run, which must exist until then."""

_PREFIX: Final = "REFLUX_"
_FILE: Final = Path("reflux.toml")


class SettingsError(Exception):
    """A setting is unknown or has no valid value; the message names it and never shows a secret."""


class Address(NamedTuple):
    """Where something listens or is found: `host:port`, `[::1]:port` for IPv6. Port 0 asks for a free one."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `host:port`.

        Raises:
            ValueError: no host, no port, or a port outside 0-65535.
        """
        host, colon, port = text.rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        if not colon or not host or not (port.isascii() and port.isdigit()) or int(port) > 65535:
            raise ValueError(f"{text!r} is not an address of the form host:port")
        return cls(host, int(port))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _to_address(value: object) -> object:
    return Address.parse(value) if isinstance(value, str) else value


def _to_server(value: object) -> object:
    if not isinstance(value, str):
        return value
    if value.startswith("https://"):
        raise ValueError("TLS is not spoken yet; give host:port")
    return Address.parse(value.removeprefix("http://").removesuffix("/"))


def _to_networks(value: object) -> object:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


def _to_addresses(value: object) -> object:
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    return tuple(map(_to_address, value)) if isinstance(value, list | tuple) else value


def _to_proxies(value: tuple[Address, ...]) -> tuple[Address, ...]:
    try:
        families = {ip_address(address.host).version for address in value}
    except ValueError as error:
        raise ValueError(f"{error}; to find several proxies by name, give them one name") from None
    if len(families) > 1:
        raise ValueError("give IPv4 addresses or IPv6 addresses, not both")
    return value


def _to_endpoint(value: str) -> str:
    if value:
        Endpoint.parse(value)
    return value


def _to_retention(value: int) -> int:
    if 0 < value < START_ONCE_DAYS:
        raise ValueError(f"0 keeps runs for ever; else at least {START_ONCE_DAYS} days")
    return value


def _to_headers(value: str) -> str:
    parse_headers(value)
    return value


AddressSetting = Annotated[Address, NoDecode, BeforeValidator(_to_address), PlainSerializer(str)]
OptionalAddressSetting = Annotated[
    Address | None, NoDecode, BeforeValidator(_to_address), PlainSerializer(str)
]
AddressesSetting = Annotated[
    tuple[Address, ...],
    NoDecode,
    BeforeValidator(_to_addresses),
    PlainSerializer(lambda addresses: ",".join(map(str, addresses))),
]
ProxiesSetting = Annotated[AddressesSetting, AfterValidator(_to_proxies)]
NetworksSetting = Annotated[
    tuple[Network, ...],
    NoDecode,
    BeforeValidator(_to_networks),
    PlainSerializer(lambda networks: ",".join(map(str, networks))),
]
Port = Annotated[int, Field(ge=0, le=65535)]


class Settings(BaseSettings):
    """What a process of REFLUX can be told. Build it with `Settings.load`.

    >>> settings = Settings.load(edge_port=4010)
    >>> str(settings.registry_address)
    '127.0.0.1:4101'
    """

    model_config = SettingsConfigDict(
        env_prefix=_PREFIX,
        env_ignore_empty=True,
        extra="forbid",
        frozen=True,
        populate_by_name=True,
        toml_file=_FILE,
        validate_default=True,
    )

    # Stores. The text carries passwords: never logged, not in the repr.
    postgres_dsn: str = Field(default="postgresql://reflux@127.0.0.1:5432/reflux", repr=False)
    """libpq connection string or URL of the one database."""
    redis_url: str = Field(default="redis://127.0.0.1:6379/0", repr=False, pattern=r"^(rediss?|unix)://")
    """Redis or Valkey: `redis://`, `rediss://` or `unix://`."""
    data_dir: Path = Path(".reflux")
    """Folder of everything the embedded stack keeps."""

    # What the outside sees.
    listen: str = "127.0.0.1"
    """Address the edge listener binds; anything but loopback needs `--insecure-listen` with `reflux up`."""
    edge_port: Port = 4000
    """Port of REST, gRPC and gRPC-Web; 0 = a free one."""
    admin_port: Port = 9901
    """Port of Envoy's admin interface on loopback; 0 = a free one."""
    server: Annotated[Address | None, NoDecode, BeforeValidator(_to_server), PlainSerializer(str)] = None
    """`host:port` of the edge that the client commands of `reflux` talk to; default: the running stack's."""

    # Where services are found. Each also listens there, unless `bind` says otherwise.
    bind: IPv4Address | IPv6Address | None = None
    """IP address a service started by itself binds, with the port of its own address below: `0.0.0.0` in a
    container, where the name it is found by may mean several replicas. Default: the host of that address.
    """
    mesh_address: AddressSetting = Address("127.0.0.1", 4001)
    """Envoy's mesh listener: the orchestrator calls nodes here. A name may mean several proxies."""
    mesh_addresses: ProxiesSetting = ()
    """The mesh proxies an orchestrator calls by turns, comma-separated `ip:port`, where no name means them
    all; default: `mesh_address`. See `reflux.runtime.proxies`.
    """
    registry_address: AddressSetting = Address("127.0.0.1", 4101)
    """gRPC of the registry."""
    controlplane_address: AddressSetting = Address("127.0.0.1", 4102)
    """gRPC of the control plane: ADS for Envoy and the RoutingService."""
    orchestrator_address: AddressSetting = Address("127.0.0.1", 4103)
    """gRPC of the orchestrator: flows, runs, claims."""
    gateway_address: AddressSetting = Address("127.0.0.1", 4104)
    """HTTP of the gateway behind the edge."""

    # Nodes.
    node_port: Port = 0
    """Port of a node version's server; 0 = a free one."""
    advertise: OptionalAddressSetting = None
    """`ip:port` at which others reach this process; port 0 = the one it binds. A node version registers it,
    default: the local address of its registry connection. An orchestrator tells it to nodes, for claims;
    default: see `reflux.runtime.places`.
    """
    tls_dir: Path | None = None
    """Folder of this process's identity, made by `reflux certs`: mutual TLS with every other service.
    Default: plaintext, which is for loopback. Not for `reflux up`, where everything is on loopback.
    """
    credentials_dir: Path | None = None
    """Folder of the credentials that steps name, a file each, read by nodes alone; see
    `reflux.sdk.credentials`. Default: none; of `reflux up` the folder `credentials` in its data folder.
    """
    http_allow: NetworksSetting = ()
    """Private networks that `http.request` may reach, comma-separated CIDRs; none by default."""

    # Language models. Keys of OpenAI and Anthropic, and URLs of gateways in front of them, come from the
    # variables that everybody knows: OPENAI_API_KEY, OPENAI_BASE_URL, ANTHROPIC_API_KEY, ANTHROPIC_BASE_URL.
    ai_openai_model: str = Field(default="gpt-6-luna", min_length=1)
    """Model of `ai.chat@openai` where a step names none."""
    ai_anthropic_model: str = Field(default="claude-haiku-5-5", min_length=1)
    """Model of `ai.chat@anthropic` where a step names none."""
    ai_local_url: str | None = Field(default=None, repr=False, pattern=r"^https?://")
    """Base URL of the OpenAI-compatible server of `ai.chat@local`, e.g. `http://127.0.0.1:11434/v1`."""
    ai_local_key: str | None = Field(default=None, repr=False)
    """Its key, when it wants one."""
    ai_local_model: str | None = None
    """Model of `ai.chat@local` where a step names none; without it every step must name one."""
    ai_local_stream: bool = True
    """Whether that server's answers are read as a stream; `false` for a server that has no streams. Then a
    server that falls silent is noticed only when the step's time is over."""
    ai_idle_seconds: float = Field(default=60.0, ge=0.1, le=600.0)
    """Seconds a provider may be silent, before its first word too, until the next version is asked. Its pings
    and comments are no silence. A model that may think for longer without any sign of life needs more, since
    each such silence counts against the version; with 120 s or more, which is all the time a try has, a
    provider that hangs leaves none for the next one.
    """

    # Execution.
    shards: int = Field(default=64, ge=1, le=4096)
    """Number of shards runs are spread over; fixed when a database is first used."""
    faults: Literal["off", "test"] = "off"
    """Whether test runs may have faults injected; `reflux up` allows it unless told otherwise. The
    orchestrators and the control plane must be told the same."""
    lease_seconds: float = Field(default=10.0, ge=0.5, le=300.0)
    """Seconds without a heartbeat after which an orchestrator, or an endpoint, counts as gone."""
    run_retention_days: Annotated[int, AfterValidator(_to_retention)] = Field(default=0, ge=0, le=36_500)
    """Days for which a run is kept after its end, at least; 0 keeps every run for ever. At least 7 otherwise,
    because for so long the same `request_id` gives the same run. Runs go in whole partitions, so up to a
    quarter of it (at most 30 days) later.
    """

    # What is seen of it.
    log_level: LogLevel = "info"
    log_format: LogFormat = "console"
    metrics_address: OptionalAddressSetting = None
    """Where this process serves `GET /metrics`, without authentication; none by default. `reflux up` gives
    each of its processes a port of its own on loopback.
    """
    proxy_stats_addresses: AddressesSetting = ()
    """Where the control plane finds Envoy's `/stats`, comma-separated, one per proxy; set by `reflux up`."""
    otlp_endpoint: Annotated[str, AfterValidator(_to_endpoint)] = Field(default="", repr=False)
    """Collector of traces, OTLP over gRPC: `http://host:4317`, `https://` for TLS. Also read from
    `OTEL_EXPORTER_OTLP_ENDPOINT`. Without one nothing is traced."""
    otlp_headers: Annotated[str, AfterValidator(_to_headers)] = Field(default="", repr=False)
    """Metadata of every export, `key=value,key=value`; also from `OTEL_EXPORTER_OTLP_HEADERS`."""
    otlp_certificate: Path | None = None
    """PEM file of the authorities that vouch for the collector; default: those of the machine. Also from
    `OTEL_EXPORTER_OTLP_CERTIFICATE`."""
    trace_ratio: float = Field(default=1.0, ge=0.0, le=1.0)
    """Share of the runs that are traced, each as a whole."""

    ready_fd: int | None = Field(default=None, ge=3)
    """Descriptor that gets a newline when the process is ready (s6's protocol); set by the supervisor."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flag > environment > file; no `.env`, no secrets folder."""
        del dotenv_settings, file_secret_settings
        standard = InitSettingsSource(settings_cls, init_kwargs=dict(opentelemetry.read(os.environ)))
        return init_settings, env_settings, standard, TomlConfigSettingsSource(settings_cls)

    @classmethod
    def load(cls, **flags: Any) -> Self:
        """Read every source; flags that are `None` were not given.

        Raises:
            SettingsError: an unknown key, or a value that does not fit, in any source.
        """
        given = {name: value for name, value in flags.items() if value is not None}
        known = set(cls.model_fields)
        _refuse_unknown(given, known, "flag")
        environment = {f"{_PREFIX}{name.upper()}" for name in known}
        _refuse_unknown(
            {name for name in os.environ if name.upper().startswith(_PREFIX)},
            environment,
            "environment variable",
        )
        _refuse_unknown(_file_keys(), known, f"key of {_FILE}")
        try:
            settings = cls(**given)
            if settings.otlp_endpoint:
                opentelemetry.check(os.environ)
        except ValidationError as error:
            raise SettingsError(_explain(error)) from None
        except opentelemetry.Contradiction as error:
            raise SettingsError(str(error)) from None
        return settings

    def to_environment(self) -> dict[str, str]:
        """Write this value as `REFLUX_*` variables, such that `load` in a child gives it back."""
        fields = self.model_dump(mode="json", exclude_none=True)
        return {f"{_PREFIX}{name.upper()}": str(value) for name, value in fields.items() if value != ""}


def _file_keys() -> Mapping[str, object]:
    try:
        return tomllib.loads(_FILE.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"cannot read {_FILE}: {error}") from None


def _refuse_unknown(names: Mapping[str, object] | set[str], known: set[str], kind: str) -> None:
    for name in sorted(set(names) - known):
        near = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.5)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise SettingsError(f"unknown {kind} {name}{hint}")


def _explain(error: ValidationError) -> str:
    """The errors without the values, which may be secrets."""
    lines = []
    for detail in error.errors(include_url=False, include_input=False, include_context=False):
        name = str(detail["loc"][0]) if detail["loc"] else "settings"
        lines.append(f"{name.removeprefix(_PREFIX).lower()}: {detail['msg']}")
    return "invalid settings: " + "; ".join(dict.fromkeys(lines))
