"""Settings: where a value comes from, and what is refused."""

from __future__ import annotations

import os
from ipaddress import ip_network
from pathlib import Path

import pytest
from pydantic import ValidationError

from reflux.runtime import proxies
from reflux.runtime.settings import Address, Settings, SettingsError


@pytest.fixture(autouse=True)
def _clean_surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in os.environ:
        if name.startswith("REFLUX_"):
            monkeypatch.delenv(name)


def test_a_flag_beats_the_environment_beats_the_file_beats_the_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The order of sources, seen by taking them away one by one."""
    assert Settings.load().edge_port == 4000
    Path("reflux.toml").write_text("edge_port = 1\n")
    assert Settings.load().edge_port == 1
    monkeypatch.setenv("REFLUX_EDGE_PORT", "2")
    assert Settings.load().edge_port == 2
    assert Settings.load(edge_port=3).edge_port == 3
    assert Settings.load(edge_port=None).edge_port == 2


def test_an_unknown_environment_variable_is_refused_with_the_nearest_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A misspelt variable stops the process instead of being ignored."""
    monkeypatch.setenv("REFLUX_EDGE_PROT", "1")
    with pytest.raises(SettingsError, match=r"REFLUX_EDGE_PROT; did you mean REFLUX_EDGE_PORT\?"):
        Settings.load()


def test_an_unknown_key_of_the_file_is_refused_with_the_nearest_name() -> None:
    """The same for `reflux.toml`."""
    Path("reflux.toml").write_text("lease_secnds = 5\n")
    with pytest.raises(SettingsError, match=r"key of reflux.toml lease_secnds; did you mean lease_seconds\?"):
        Settings.load()


def test_an_unknown_flag_is_refused() -> None:
    """The same for keyword arguments."""
    with pytest.raises(SettingsError, match="unknown flag colour"):
        Settings.load(colour="blue")


def test_a_file_that_is_not_toml_is_refused() -> None:
    """A broken file is named; it is never skipped."""
    Path("reflux.toml").write_text("edge_port: 1")
    with pytest.raises(SettingsError, match=r"cannot read reflux.toml"):
        Settings.load()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("edge_port", "70000", "edge_port: .*65535"),
        ("mesh_address", "4001", "mesh_address: .*host:port"),
        ("http_allow", "10.0.0.1/8", "http_allow: "),
        ("run_retention_days", "6", "run_retention_days: "),
        ("lease_seconds", "0.1", "lease_seconds: "),
        ("log_format", "xml", "log_format: "),
        ("redis_url", "http://127.0.0.1:6379", "redis_url: "),
        ("ai_local_url", "127.0.0.1:11434", "ai_local_url: "),
        ("ai_idle_seconds", "0", "ai_idle_seconds: "),
    ],
)
def test_a_value_that_does_not_fit_is_refused_by_the_name_of_its_setting(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str
) -> None:
    """Types, ranges and forms are checked when the process starts."""
    monkeypatch.setenv(f"REFLUX_{name.upper()}", value)
    with pytest.raises(SettingsError, match=message):
        Settings.load()


def test_a_refusal_never_shows_the_value(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was typed into the wrong variable may be a secret."""
    monkeypatch.setenv("REFLUX_EDGE_PORT", "hunter2")
    with pytest.raises(SettingsError) as refused:
        Settings.load()
    assert "hunter2" not in str(refused.value)


def test_secrets_are_not_in_the_representation() -> None:
    """Settings may be printed; connection strings carry passwords."""
    settings = Settings.load(
        postgres_dsn="postgresql://u:hunter2@h/d",
        redis_url="redis://:hunter2@h",
        ai_local_url="http://u:hunter2@h/v1",
        ai_local_key="hunter2",
    )
    assert "hunter2" not in f"{settings!r} {settings}"


def test_settings_are_frozen() -> None:
    """Configuration is a value: read once, passed down."""
    with pytest.raises(ValidationError, match="frozen"):
        Settings.load().edge_port = 1


def test_a_child_reads_back_what_its_parent_wrote_to_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """`to_environment` and `load` are inverse, for every kind of value."""
    settings = Settings.load(
        advertise="10.0.0.1:50051",
        bind="::",
        http_allow="127.0.0.0/8, ::1/128",
        mesh_address=Address("::1", 4001),
        lease_seconds=2.5,
        ai_local_url="http://127.0.0.1:11434/v1",
        ai_local_stream=False,
        data_dir=Path("/data"),
    )
    assert settings.http_allow == (ip_network("127.0.0.0/8"), ip_network("::1/128"))
    for name, value in settings.to_environment().items():
        monkeypatch.setenv(name, value)
    assert Settings.load() == settings


@pytest.mark.parametrize("text", ["127.0.0.1:4000", "[::1]:4000", "localhost:0"])
def test_an_address_is_written_as_it_is_read(text: str) -> None:
    """IPv6 keeps its brackets."""
    assert str(Address.parse(text)) == text


@pytest.mark.parametrize("text", ["", "4000", ":4000", "host:", "host:x", "host:65536", "host:-1"])
def test_what_is_not_an_address_is_refused(text: str) -> None:
    """Host and port are both needed."""
    with pytest.raises(ValueError, match="host:port"):
        Address.parse(text)


def test_a_list_of_addresses_reaches_a_child_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """Text, a list of a file, or nothing: the same value on the other side, IPv6 included."""
    Path("reflux.toml").write_text('proxy_stats_addresses = ["mesh:9902", "[::1]:9901"]\n')
    settings = Settings.load(metrics_address="127.0.0.1:0")
    assert settings.proxy_stats_addresses == (Address("mesh", 9902), Address("::1", 9901))
    Path("reflux.toml").unlink()
    for name, value in settings.to_environment().items():
        monkeypatch.setenv(name, value)
    assert Settings.load() == settings
    with pytest.raises(SettingsError, match="proxy_stats_addresses"):
        Settings.load(proxy_stats_addresses="mesh")


def test_several_proxies_are_given_by_ip_address_in_one_family(monkeypatch: pytest.MonkeyPatch) -> None:
    """What gRPC could not call all of is refused, with what to do instead; without a list the name counts."""
    monkeypatch.setenv("REFLUX_MESH_ADDRESS", "mesh:4001")
    assert proxies.addresses(Settings.load()) == (Address("mesh", 4001),)
    monkeypatch.setenv("REFLUX_MESH_ADDRESSES", "10.0.0.5:4001, 10.0.0.6:4001")
    told = Settings.load()
    assert proxies.addresses(told) == (Address("10.0.0.5", 4001), Address("10.0.0.6", 4001))
    assert told.to_environment()["REFLUX_MESH_ADDRESSES"] == "10.0.0.5:4001,10.0.0.6:4001"
    for wrong, words in {
        "mesh-1:4001,mesh-2:4001": "mesh_addresses: .*mesh-1.*give them one name",
        "10.0.0.5:4001,[::1]:4001": "mesh_addresses: .*not both",
        "10.0.0.5": "mesh_addresses: .*host:port",
    }.items():
        monkeypatch.setenv("REFLUX_MESH_ADDRESSES", wrong)
        with pytest.raises(SettingsError, match=words):
            Settings.load()
