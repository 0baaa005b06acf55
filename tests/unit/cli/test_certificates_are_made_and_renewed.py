"""`reflux certs`: an authority, an identity for each role, renewed in time and told about in time."""

from __future__ import annotations

import json
import ssl
import stat
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from typer.testing import CliRunner

from reflux.cli import authority
from reflux.cli.__main__ import app
from reflux.runtime.tls import Identity, Role, TlsError

if TYPE_CHECKING:
    from pathlib import Path

NOW = datetime(2030, 1, 1, tzinfo=UTC)
ALL = ["authority", *Role]


def make(
    folder: Path, *, at: datetime = NOW, days: int = 90, renew: int = 30, anew: bool = False
) -> list[str]:
    return authority.make(folder, Role, days=days, renew_days=renew, now=at, anew=anew)


def test_every_role_has_a_folder_that_is_enough_for_it(tmp_path: Path) -> None:
    """Key and certificate, whom it believes, its name; the proxies also have what Envoy reads."""
    assert make(tmp_path) == ALL
    for role in Role:
        Identity(tmp_path / role).read()
        names = {path.name for path in (tmp_path / role).iterdir()}
        envoys = {"envoy-certificate.json", "envoy-authority.json"} if role in {"mesh", "edge"} else set()
        assert names == {"identity.pem", "authority.pem", "name"} | envoys
        assert (tmp_path / role / "name").read_text() == f"{role}.reflux.internal"
    assert {each.names for each in authority.known(tmp_path)[1:]} == {
        (f"{role}.reflux.internal",) for role in Role
    }


def test_keys_are_read_by_nobody_else(tmp_path: Path) -> None:
    """Neither by the group, nor for the moment in which they are written."""
    make(tmp_path)
    secret = [
        tmp_path / "authority" / "key.pem",
        *tmp_path.glob("*/identity.pem"),
        *tmp_path.glob("*/*cert*.json"),
    ]
    assert len(secret) == 1 + len(Role) + 2
    for path in secret:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert "PRIVATE KEY" in path.read_text()
    for path in tmp_path.rglob("authority*"):
        if path.is_file():
            assert "PRIVATE KEY" not in path.read_text()


def test_making_them_again_changes_nothing_that_lasts(tmp_path: Path) -> None:
    """So it may run at every start."""
    make(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert make(tmp_path, at=NOW + timedelta(days=59)) == []
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_what_is_about_to_expire_is_made_anew_by_the_same_authority(tmp_path: Path) -> None:
    """Who has the former one and who has the new one believe each other."""
    make(tmp_path)
    believed = (tmp_path / "authority.pem").read_bytes()
    former = (tmp_path / "node" / "identity.pem").read_bytes()
    assert make(tmp_path, at=NOW + timedelta(days=61)) == [*Role]
    assert (tmp_path / "authority.pem").read_bytes() == believed
    assert (tmp_path / "node" / "identity.pem").read_bytes() != former
    assert all(each.signed for each in authority.known(tmp_path))


def test_one_of_another_authority_is_made_anew(tmp_path: Path) -> None:
    """Such as one that was copied here by mistake."""
    make(tmp_path / "ours")
    make(tmp_path / "theirs")
    stranger = (tmp_path / "theirs" / "node" / "identity.pem").read_bytes()
    (tmp_path / "ours" / "node" / "identity.pem").write_bytes(stranger)
    assert [each.role for each in authority.known(tmp_path / "ours") if not each.signed] == ["node"]
    assert make(tmp_path / "ours") == ["node"]


def test_the_authority_vouches_for_our_names_only(tmp_path: Path) -> None:
    """It signs no authorities and no names outside; a certificate of a role signs nothing at all."""
    make(tmp_path)
    root = x509.load_pem_x509_certificate((tmp_path / "authority.pem").read_bytes())
    constraints = root.extensions.get_extension_for_class(x509.NameConstraints)
    assert constraints.critical
    assert constraints.value.permitted_subtrees == [x509.DNSName("reflux.internal")]
    assert root.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length == 0
    _, _, text = (tmp_path / "node" / "identity.pem").read_text().partition("-----BEGIN CERT")
    leaf = x509.load_pem_x509_certificate(("-----BEGIN CERT" + text).encode())
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_openssl_takes_what_is_made(tmp_path: Path) -> None:
    """Key and certificate in one file, as Python's own server reads it."""
    make(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "gateway" / "identity.pem")
    context.load_verify_locations(tmp_path / "gateway" / "authority.pem")


def test_an_authority_without_its_key_signs_nothing(tmp_path: Path) -> None:
    """It is said what is missing, and nothing is replaced."""
    make(tmp_path)
    (tmp_path / "authority" / "key.pem").unlink()
    with pytest.raises(authority.AuthorityError, match="the key of the authority cannot be read"):
        make(tmp_path, at=NOW + timedelta(days=80))


def test_an_authority_that_expires_first_is_said(tmp_path: Path) -> None:
    """Instead of signing what would fail before its own date."""
    make(tmp_path)
    with pytest.raises(authority.AuthorityError, match="make another one in a new folder"):
        make(tmp_path, at=NOW + timedelta(days=authority.AUTHORITY_DAYS - 80))


@pytest.mark.parametrize("content", ["", "-----BEGIN CERTIFICATE-----", "-----BEGIN PRIVATE KEY-----"])
def test_a_process_says_which_folder_holds_no_identity(tmp_path: Path, content: str) -> None:
    """At its start, and not at the first call."""
    make(tmp_path)
    (tmp_path / "node" / "identity.pem").write_text(content)
    with pytest.raises(TlsError, match=r"tls_dir: .*node.*`reflux certs make`"):
        Identity(tmp_path / "node").read()
    with pytest.raises(TlsError, match=r"`reflux certs make` writes such folders"):
        Identity(tmp_path / "nobody").read()


def test_the_commands_say_what_they_did_and_what_is_to_do(tmp_path: Path) -> None:
    """Exit status 0: all last. 1: one has expired, expires soon, or is not ours. 2: there is no authority."""
    run = CliRunner().invoke
    folder = str(tmp_path / "certs")
    assert run(app, ["certs", "status", folder]).exit_code == 2
    made = run(app, ["certs", "make", folder, "--days", "20", "--json"])
    assert json.loads(made.stdout)["made"] == ALL
    assert "nothing to do" in run(app, ["certs", "make", folder, "--renew", "5"]).stdout
    assert run(app, ["certs", "status", folder]).exit_code == 0
    soon = run(app, ["certs", "status", folder, "--within", "30", "--json"])
    assert soon.exit_code == 1
    states = {each["role"]: each["state"] for each in json.loads(soon.stdout)["certificates"]}
    assert states == {"authority": "ok", **dict.fromkeys(Role, "expires soon")}
    authority.make(
        tmp_path / "certs",
        [Role.EDGE],
        days=1,
        renew_days=0,
        now=datetime.now(UTC) - timedelta(days=3),
        anew=True,
    )
    gone = run(app, ["certs", "status", folder])
    assert gone.exit_code == 1
    assert "EXPIRED" in gone.stdout
    assert "made: mesh" not in run(app, ["certs", "make", folder, "--renew", "5"]).stdout
    assert run(app, ["certs", "status", folder]).exit_code == 0
