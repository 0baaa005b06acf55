"""A local authority and the identities that it vouches for, as files (`reflux.runtime.tls` has the theory).

    FOLDER/
      authority.pem            its certificate: what everybody believes
      authority/key.pem        its key: nobody but `reflux certs` needs it
      ROLE/identity.pem        key and certificate of a role; in one file, so that both change in one step
      ROLE/authority.pem       a copy, so that a process needs its own folder alone
      ROLE/name                the name in the certificate, for the health check
      mesh|edge/envoy-*.json   the same two for Envoy, in the form it reads secrets in

Keys are ECDSA over P-256. A certificate says one DNS name, may be shown by either end of a connection, and
signs nothing. The authority may sign names below `reflux.internal` only, so one that gets out vouches for
nobody else. What there is and lasts is left alone, so making them again is harmless; what is about to expire,
or was signed by another authority, is made anew.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from reflux.runtime.tls import (
    AUTHORITY,
    DOMAIN,
    ENVOY_API,
    ENVOY_AUTHORITY,
    ENVOY_CERTIFICATE,
    IDENTITY,
    Role,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

AUTHORITY_DAYS: Final = 3_650
NAME: Final = "name"
_KEY: Final = "authority/key.pem"
_SKEW: Final = timedelta(minutes=5)
"""Clocks of machines differ: certificates are good from so long before they were made."""
_ENVOYS: Final = frozenset({Role.MESH, Role.EDGE})


class AuthorityError(Exception):
    """The folder is not one of an authority, or its key is gone; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """One certificate as people want to know it."""

    role: str
    """`authority`, or that of an identity."""
    names: tuple[str, ...]
    expires_at: datetime
    signed: bool
    """The authority of the folder has signed it."""

    def left(self, now: datetime) -> timedelta:
        """How long it lasts; negative: it has expired."""
        return self.expires_at - now


@dataclass(frozen=True, slots=True)
class _Signer:
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def make(
    folder: Path,
    roles: Iterable[Role],
    *,
    days: int,
    renew_days: int,
    now: datetime,
    anew: bool = False,
) -> list[str]:
    """Make what is missing, about to expire or not ours; with `anew` every identity.

    Args:
        folder: of the authority; made if it is not there.
        roles: whose identities.
        days: how long an identity lasts.
        renew_days: one that lasts no longer than this is made anew.
        now: in UTC.
        anew: whatever there is.

    Returns:
        What was made: `authority` and roles.

    Raises:
        AuthorityError: see there.
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    made: list[str] = []
    if not (folder / AUTHORITY).exists():
        _make_authority(folder, now)
        made.append("authority")
    authority, key = _authority(folder)
    if authority.not_valid_after_utc <= now + timedelta(days=days):
        raise AuthorityError(
            f"the authority in {folder} expires {authority.not_valid_after_utc:%Y-%m-%d}, before what it "
            "would sign: make another one in a new folder and give every service its new identity"
        )
    for role in roles:
        known = _known(folder, role, authority)
        if anew or known is None or not known.signed or known.left(now) <= timedelta(days=renew_days):
            signer = _Signer(authority, key)
            _make_identity(folder, role, signer, now=now, lasts=timedelta(days=days))
            made.append(str(role))
    return made


def known(folder: Path) -> list[Certificate]:
    """Every certificate of the folder, the authority first.

    Raises:
        AuthorityError: see there.
    """
    authority = _certificate(folder / AUTHORITY)
    found = [_seen("authority", authority, authority)]
    return found + [each for role in Role if (each := _known(folder, role, authority)) is not None]


def _known(folder: Path, role: Role, authority: x509.Certificate) -> Certificate | None:
    path = folder / role / IDENTITY
    return _seen(role, _certificate(path), authority) if path.exists() else None


def _seen(role: str, of: x509.Certificate, authority: x509.Certificate) -> Certificate:
    try:
        names = of.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        shown = tuple(names.get_values_for_type(x509.DNSName))
    except x509.ExtensionNotFound:
        shown = ()
    try:
        of.verify_directly_issued_by(authority)
        signed = True
    except (ValueError, TypeError, InvalidSignature):
        signed = False
    return Certificate(role, shown, of.not_valid_after_utc, signed)


def _authority(folder: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    certificate = _certificate(folder / AUTHORITY)
    try:
        key = serialization.load_pem_private_key((folder / _KEY).read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise AuthorityError(f"the key of the authority cannot be read: {error}") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        raise AuthorityError(f"{folder / _KEY} is not the key of {folder / AUTHORITY}")
    return certificate, key


def _certificate(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificates(path.read_bytes())[0]
    except (OSError, ValueError) as error:
        raise AuthorityError(f"no certificate in {path}: {error}; `reflux certs make` writes them") from None


def _make_authority(folder: Path, now: datetime) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "REFLUX local authority")])
    builder = (
        _builder(name, name, key, now, timedelta(days=AUTHORITY_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.NameConstraints([x509.DNSName(DOMAIN)], None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    (folder / _KEY).parent.mkdir(mode=0o700, exist_ok=True)
    write(folder / _KEY, _private(key), mode=0o600)
    write(folder / AUTHORITY, _pem(builder.sign(key, hashes.SHA256())))


def _make_identity(
    folder: Path,
    role: Role,
    signer: _Signer,
    *,
    now: datetime,
    lasts: timedelta,
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, role.name_in_certificates)])
    usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    dns = x509.SubjectAlternativeName([x509.DNSName(role.name_in_certificates)])
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.key.public_key())
    builder = (
        _builder(name, signer.certificate.subject, key, now, lasts)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(dns, critical=False)
        .add_extension(issuer, critical=False)
    )
    certificate = _pem(builder.sign(signer.key, hashes.SHA256()))
    place = folder / role
    place.mkdir(mode=0o700, exist_ok=True)
    write(place / NAME, role.name_in_certificates.encode())
    write(place / AUTHORITY, _pem(signer.certificate))
    if role in _ENVOYS:
        for file, secret in _secrets(certificate, _private(key), _pem(signer.certificate)).items():
            write(place / file, json.dumps(secret, indent=1).encode(), mode=0o600)
    write(place / IDENTITY, _private(key) + certificate, mode=0o600)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, now: datetime, lasts: timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(min(now, now + lasts) - _SKEW)
        .not_valid_after(now + lasts)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _secrets(certificate: bytes, key: bytes, authority: bytes) -> Mapping[str, dict[str, Any]]:
    """Envoy's files by name; they carry PEM, not paths, so that each changes as a whole."""

    def response(name: str, content: dict[str, Any]) -> dict[str, Any]:
        return {"resources": [{"@type": f"type.googleapis.com/{ENVOY_API}.Secret", "name": name, **content}]}

    chain = {"inline_string": certificate.decode()}
    private = {"inline_string": key.decode()}
    believed = {"inline_string": authority.decode()}
    return {
        ENVOY_CERTIFICATE: response(
            "certificate", {"tls_certificate": {"certificate_chain": chain, "private_key": private}}
        ),
        ENVOY_AUTHORITY: response("authority", {"validation_context": {"trusted_ca": believed}}),
    }


def write(path: Path, content: bytes, *, mode: int = 0o644) -> None:
    """In one step, and never readable by more than `mode` says.

    Raises:
        OSError: the folder cannot be written.
    """
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(file.fileno(), mode)
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def utc_now() -> datetime:
    """The time for `make`."""
    return datetime.now(UTC)
