"""Where traces go: our own settings, the standard variables, and what is refused of either."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

import pytest

from reflux.runtime.collector import Collector, Endpoint
from reflux.runtime.settings import Settings, SettingsError

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


@pytest.fixture(autouse=True)
def _clean_surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in os.environ:
        if name.startswith(("REFLUX_", "OTEL_")):
            monkeypatch.delenv(name)


def test_without_an_endpoint_there_is_no_collector() -> None:
    """Nothing is traced, whatever else is said."""
    assert Collector.of(Settings.load()) is None
    assert Collector.of(Settings.load(otlp_headers="a=b", trace_ratio=0.5)) is None


def test_without_a_share_there_is_no_collector() -> None:
    """A ratio of 0 is as good as no endpoint."""
    assert Collector.of(Settings.load(otlp_endpoint="http://c:4317", trace_ratio=0)) is None


def test_the_standard_variables_name_the_collector(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those for every signal, and before them those for traces alone."""
    monkeypatch.setenv(ENDPOINT, "http://all:4317")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-key=a%20b, X-Team = 7")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    assert Collector.of(Settings.load()) == Collector(
        Endpoint("all", 4317, tls=False), (("x-key", "a b"), ("x-team", "7"))
    )
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://traces:4317")
    found = Collector.of(Settings.load())
    assert found is not None
    assert found.endpoint.host == "traces"


def test_our_own_variable_beats_the_standard_one_beats_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """As everywhere the nearer word counts."""
    Path("reflux.toml").write_text('otlp_endpoint = "http://file:1"\n')
    assert Settings.load().otlp_endpoint == "http://file:1"
    monkeypatch.setenv(ENDPOINT, "http://standard:2")
    assert Settings.load().otlp_endpoint == "http://standard:2"
    monkeypatch.setenv("REFLUX_OTLP_ENDPOINT", "http://own:3")
    assert Settings.load().otlp_endpoint == "http://own:3"


def test_the_standard_headers_count_whoever_named_the_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key in the environment and an address in the file are a natural split."""
    Path("reflux.toml").write_text('otlp_endpoint = "http://file:1"\n')
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-key=k")
    found = Collector.of(Settings.load())
    assert found is not None
    assert found.headers == (("x-key", "k"),)


@pytest.mark.parametrize(("name", "value"), [("OTEL_SDK_DISABLED", "true"), ("OTEL_TRACES_EXPORTER", "none")])
def test_the_standard_ways_to_say_no_are_heard(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    """Then the standard endpoint does not count."""
    monkeypatch.setenv(ENDPOINT, "http://all:4317")
    monkeypatch.setenv(name, value)
    assert Settings.load().otlp_endpoint == ""


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
        ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "/key.pem"),
        ("OTEL_TRACES_EXPORTER", "zipkin"),
        ("OTEL_TRACES_SAMPLER", "always_off"),
        ("OTEL_SERVICE_NAME", "mine"),
        ("OTEL_RESOURCE_ATTRIBUTES", "a=b"),
    ],
)
def test_a_standard_variable_that_nobody_obeys_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    """Ignored it would be a lie; without a collector it has no meaning and is not looked at."""
    monkeypatch.setenv(name, value)
    assert Settings.load().otlp_endpoint == ""
    with pytest.raises(SettingsError, match=name.replace("TRACES_PROTOCOL", "PROTOCOL")):
        Settings.load(otlp_endpoint="http://own:4317")
    monkeypatch.setenv(ENDPOINT, "http://all:4317")
    with pytest.raises(SettingsError, match=name.replace("TRACES_PROTOCOL", "PROTOCOL")):
        Settings.load()


@pytest.mark.parametrize(
    "text",
    [
        "collector:4317",
        "http://collector",
        "grpc://collector:4317",
        "http://collector:4317/v1/traces",
        "http://collector:4317?a=b",
        "http://me:hunter2@collector:4317",
        "http://:4317",
        "http://collector:99999",
        "http://[::1:4317",
    ],
)
def test_an_endpoint_is_a_scheme_a_host_and_a_port(text: str) -> None:
    """Anything else would mean one thing to us and another to Envoy."""
    with pytest.raises(SettingsError, match=r"otlp_endpoint: .*http://host:port") as refused:
        Settings.load(otlp_endpoint=text)
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("text", ["a", "a b=c", "grpc-x=1", "x-bin=1", "a=%0a", "a=ü"])
def test_a_header_must_be_metadata_of_grpc(text: str) -> None:
    """And its refusal does not show it: it is mostly a key."""
    with pytest.raises(SettingsError, match=r"otlp_headers: .*pair 2") as refused:
        Settings.load(otlp_headers=f"x-key=hunter2,{text}")
    assert "hunter2" not in str(refused.value)


def test_keys_are_not_in_the_representation() -> None:
    """Settings and the collector may be printed."""
    settings = Settings.load(otlp_endpoint="http://c:4317", otlp_headers="x-key=hunter2")
    assert "hunter2" not in f"{settings!r} {settings} {Collector.of(settings)!r}"


def test_with_tls_the_authorities_are_read_here() -> None:
    """A file that is named, or the machine's own. What is no PEM is refused, before Envoy does it."""
    authority = ssl.get_default_verify_paths().cafile
    assert authority is not None
    Path("ca.pem").write_bytes(Path(authority).read_bytes())
    tls = Settings.load(otlp_endpoint="https://c:4317", otlp_certificate="ca.pem")
    found = Collector.of(tls)
    assert found is not None
    assert (found.endpoint.tls, found.authorities) == (True, Path(authority).read_bytes())
    Path("empty.pem").touch()
    Path("text.pem").write_text("-----BEGIN CERTIFICATE-----\nno\n-----END CERTIFICATE-----\n")
    Path("binary.pem").write_bytes(b"\x30\x82\xff")
    for name in ("nowhere.pem", "empty.pem", "text.pem", "binary.pem"):
        with pytest.raises(ValueError, match="no readable PEM file"):
            Collector.of(Settings.load(otlp_endpoint="https://c:4317", otlp_certificate=name))


def test_a_child_gets_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The supervisor's children are told by our variables alone."""
    monkeypatch.setenv(ENDPOINT, "https://c:4317")
    settings = Settings.load(otlp_headers="a=b", otlp_certificate="/ca.pem", trace_ratio=0.25)
    monkeypatch.delenv(ENDPOINT)
    for name, value in settings.to_environment().items():
        monkeypatch.setenv(name, value)
    assert Settings.load() == settings
