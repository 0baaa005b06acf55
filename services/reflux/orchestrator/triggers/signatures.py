"""Whether a delivery comes from who has the trigger's secret, and comes now.

The schemes are those of `core.flow.webhook`. A signature is judged over the body's bytes as they came, before
anything is read of them, and compared in constant time. Where the time is signed, a delivery more than
`TOLERANCE` old or ahead is a replay, whatever its signature; that is told only of one whose signature is
right. Where it is not signed (`plain`), only a delivery id guards against repetition.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from datetime import timedelta
from typing import TYPE_CHECKING, Final, NoReturn, assert_never

from reflux.core.errors import Unauthenticated
from reflux.core.flow.webhook import Encoding, Scheme
from reflux.core.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from reflux.core.flow.webhook import Hmac

    Secrets = Callable[[str], str | None]
    """The value of an environment variable, or None."""

TOLERANCE: Final = timedelta(minutes=5)
MAX_SIGNATURES: Final = 20
"""In one header; a sender whose key changes sends two."""
_MAX_TIME_DIGITS: Final = 12


class SecretUnusable(Exception):
    """There is no key to judge with; the message says why and shows nothing of it."""


def key_of(scheme: Hmac, secrets: Secrets) -> bytes:
    """The key that signatures are made with.

    Raises:
        SecretUnusable: the variable is not set, or holds no key of this scheme.
    """
    text = secrets(scheme.secret)
    if not text:
        raise SecretUnusable(
            f"the environment variable {scheme.secret} is not set where the orchestrator runs"
        )
    if scheme.scheme is not Scheme.STANDARD:
        return text.encode()
    try:
        key = base64.b64decode(text.removeprefix("whsec_"), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not key:
        raise SecretUnusable(f"{scheme.secret} holds no key of Standard Webhooks: whsec_ and base64")
    return key


def verify(scheme: Hmac, key: bytes, headers: Mapping[str, str], body: bytes, now: datetime) -> None:
    """Judge a delivery; `headers` by lower-case name.

    Raises:
        Unauthenticated: SIGNATURE_INVALID, or DELIVERY_REPLAYED.
    """
    value = _header(headers, scheme.header)
    match scheme.scheme:
        case Scheme.STANDARD:
            _standard(key, value, headers, body, now)
        case Scheme.STRIPE:
            _stripe(key, value, body, now)
        case Scheme.PLAIN:
            _plain(scheme, key, value, body)
        case _:
            assert_never(scheme.scheme)


def _standard(key: bytes, value: str, headers: Mapping[str, str], body: bytes, now: datetime) -> None:
    delivery, stamp = _header(headers, "webhook-id"), _header(headers, "webhook-timestamp")
    wanted = base64.b64encode(_mac(key, f"{delivery}.{stamp}.".encode() + body)).decode()
    given = [text[3:] for text in value.split(" ", MAX_SIGNATURES) if text.startswith("v1,")]
    _judge(given[:MAX_SIGNATURES], wanted)
    _fresh(stamp, now)


def _stripe(key: bytes, value: str, body: bytes, now: datetime) -> None:
    parts = [part.strip().partition("=") for part in value.split(",", MAX_SIGNATURES)]
    stamp = next((text for name, _, text in parts if name == "t"), "")
    wanted = _mac(key, f"{stamp}.".encode() + body).hex()
    _judge([text for name, _, text in parts if name == "v1"], wanted)
    _fresh(stamp, now)


def _plain(scheme: Hmac, key: bytes, value: str, body: bytes) -> None:
    if not value.startswith(scheme.prefix):
        _invalid(f"{scheme.header} does not begin with {scheme.prefix}")
    given = value.removeprefix(scheme.prefix)
    mac = _mac(key, body)
    if scheme.encoding is Encoding.HEX:
        _judge([given.lower()], mac.hex())
    else:
        _judge([given], base64.b64encode(mac).decode())


def _mac(key: bytes, signed: bytes) -> bytes:
    return hmac.digest(key, signed, hashlib.sha256)


def _judge(given: list[str], wanted: str) -> None:
    """Every one is compared, so that the time does not tell which one was nearly right."""
    right = [hmac.compare_digest(text.encode(), wanted.encode()) for text in given]
    if not any(right):
        _invalid("the signature was not made over these bytes with the trigger's secret")


def _fresh(stamp: str, now: datetime) -> None:
    if not (stamp.isascii() and stamp.isdigit() and len(stamp) <= _MAX_TIME_DIGITS):
        _invalid("the time of the signature is no number of seconds since 1970")
    off = abs(now.timestamp() - int(stamp))
    if off > TOLERANCE.total_seconds():
        minutes = int(TOLERANCE.total_seconds() // 60)
        message = f"the delivery was signed more than {minutes} minutes from now: sign it anew"
        raise Unauthenticated(Reason.DELIVERY_REPLAYED, message, metadata={"seconds_off": str(int(off))})


def _header(headers: Mapping[str, str], name: str) -> str:
    value = headers.get(name)
    if value is None:
        _invalid(f"the header {name} is missing")
    return value


def _invalid(message: str) -> NoReturn:
    raise Unauthenticated(Reason.SIGNATURE_INVALID, message)
