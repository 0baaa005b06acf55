"""Signatures of webhooks: the vectors that others have published, and what must not pass."""

from __future__ import annotations

import base64
import hashlib
import hmac
from datetime import UTC, datetime, timedelta

import pytest

from reflux.core.errors import Unauthenticated
from reflux.core.flow.webhook import Encoding, Hmac, Scheme
from reflux.core.reasons import Reason
from reflux.orchestrator.triggers.signatures import SecretUnusable, key_of, verify

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
STANDARD = Hmac("KEY")
STRIPE = Hmac("KEY", Scheme.STRIPE, "stripe-signature")
GITHUB = Hmac("KEY", Scheme.PLAIN, "x-hub-signature-256", "sha256=")

# The example of the Standard Webhooks reference libraries.
VECTOR_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
VECTOR_ID = "msg_p5jXN8AQM9LWM0D4loKWxJek"
VECTOR_TIME = 1614265330
VECTOR_BODY = b'{"test": 2432232314}'
VECTOR_SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def headers(signature=VECTOR_SIGNATURE, stamp: object = VECTOR_TIME, delivery=VECTOR_ID):
    return {"webhook-id": delivery, "webhook-timestamp": str(stamp), "webhook-signature": signature}


def key(scheme=STANDARD, secret=VECTOR_SECRET):
    return key_of(scheme, {"KEY": secret}.get)


def at(seconds: float) -> datetime:
    return datetime.fromtimestamp(VECTOR_TIME, UTC) + timedelta(seconds=seconds)


def refusal(scheme, secret, given, body=VECTOR_BODY, now=None) -> Unauthenticated:
    with pytest.raises(Unauthenticated) as caught:
        verify(scheme, key(scheme, secret), given, body, now or at(0))
    return caught.value


def test_the_vector_of_standard_webhooks_passes():
    """The published secret, id, time, body and signature."""
    verify(STANDARD, key(), headers(), VECTOR_BODY, at(0))


def test_the_example_of_github_passes():
    """From GitHub's page on validating webhook deliveries."""
    given = {"x-hub-signature-256": "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"}
    verify(GITHUB, key(GITHUB, "It's a Secret to Everybody"), given, b"Hello, World!", NOW)


def test_stripe_signs_time_and_body():
    """The time before a dot, the key as it is written, several v1 while a key changes, v0 ignored."""
    stamp = int(NOW.timestamp())
    mac = hmac.new(b"whsec_test", f"{stamp}.".encode() + b"{}", hashlib.sha256).hexdigest()
    given = {"stripe-signature": f"t={stamp},v1={'0' * 64},v1={mac},v0=x"}
    verify(STRIPE, key(STRIPE, "whsec_test"), given, b"{}", NOW)
    late = NOW + timedelta(minutes=6)
    assert refusal(STRIPE, "whsec_test", given, b"{}", late).reason is Reason.DELIVERY_REPLAYED
    only_v0 = {"stripe-signature": f"t={stamp},v0={mac}"}
    assert refusal(STRIPE, "whsec_test", only_v0, b"{}", NOW).reason is Reason.SIGNATURE_INVALID


def test_a_plain_signature_may_be_base64():
    """As shops write it, without a prefix."""
    shop = Hmac("KEY", Scheme.PLAIN, "x-shop-hmac", "", Encoding.BASE64)
    mac = base64.b64encode(hmac.digest(b"k", b"\x00\xff", "sha256")).decode()
    verify(shop, b"k", {"x-shop-hmac": mac}, b"\x00\xff", NOW)
    assert refusal(shop, "k", {"x-shop-hmac": mac}, b"\x00\xfe").reason is Reason.SIGNATURE_INVALID


def test_one_right_signature_of_several_is_enough():
    """A sender that changes its key signs with both; versions that we do not know are passed over."""
    verify(STANDARD, key(), headers(f"v1a,AAAA v1,AAAA {VECTOR_SIGNATURE}"), VECTOR_BODY, at(0))


@pytest.mark.parametrize("seconds", [-299, 0, 299])
def test_five_minutes_of_difference_are_allowed(seconds):
    """Either way: clocks differ, and deliveries wait in queues."""
    verify(STANDARD, key(), headers(), VECTOR_BODY, at(seconds))


@pytest.mark.parametrize("seconds", [-302, 302, 86_400])
def test_what_was_signed_at_another_time_is_a_replay(seconds):
    """A right signature of a wrong time: a reason of its own."""
    error = refusal(STANDARD, VECTOR_SECRET, headers(), now=at(seconds))
    assert error.reason is Reason.DELIVERY_REPLAYED
    assert error.metadata == {"seconds_off": str(abs(seconds))}


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"webhook-signature": VECTOR_SIGNATURE},
        headers("") | {"webhook-signature": "v1," + base64.b64encode(bytes(32)).decode()},
        headers(VECTOR_SIGNATURE.removeprefix("v1,")),
        headers(VECTOR_SIGNATURE[:-2]),
        headers("v1,ä"),
        headers(stamp=VECTOR_TIME + 1),
        headers(stamp="soon"),
        headers(stamp="9" * 400),
        headers(delivery="msg_other"),
        headers(" ".join(["v1,AAAA"] * 1000 + [VECTOR_SIGNATURE])),
    ],
)
def test_a_missing_or_wrong_signature_is_refused(given):
    """Of another key, cut off, of another version, id or time, behind a thousand others, or none."""
    assert refusal(STANDARD, VECTOR_SECRET, given).reason is Reason.SIGNATURE_INVALID


def test_every_byte_of_the_body_counts():
    """Also a blank that means nothing in JSON: bytes are signed, not values."""
    assert refusal(STANDARD, VECTOR_SECRET, headers(), VECTOR_BODY + b" ").reason is Reason.SIGNATURE_INVALID


@pytest.mark.parametrize("secret", [None, "", "whsec_", "whsec_not base64!", "hunter2!"])
def test_without_a_key_nothing_is_judged(secret):
    """An empty key would let everybody in; what is wrong is said without what was found."""
    with pytest.raises(SecretUnusable) as caught:
        key(STANDARD, secret)
    assert "KEY" in str(caught.value)
    assert not secret or secret == "whsec_" or secret not in str(caught.value)


def test_no_refusal_shows_what_would_have_been_right():
    """Neither the key nor the wanted signature."""
    error = refusal(GITHUB, "swordfish", {"x-hub-signature-256": "sha256=" + "0" * 64})
    assert "swordfish" not in str(error)
    assert hmac.new(b"swordfish", VECTOR_BODY, "sha256").hexdigest() not in str(error)
