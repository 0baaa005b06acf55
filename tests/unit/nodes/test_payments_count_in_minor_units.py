"""Money means the same to every provider, so that a payment that falls over moves the same amount."""

import pytest

from reflux.nodes.payment.access import access_to
from reflux.nodes.payment.model import decimal, minor

SAME = [
    (1999, "USD", "19.99"),
    (5, "EUR", "0.05"),
    (500, "JPY", "500"),
    (50_000, "HUF", "500"),
    (50_050, "HUF", "500.50"),
]


@pytest.mark.parametrize(("amount", "currency", "written"), SAME)
def test_minor_units_are_written_as_paypal_does(amount, currency, written):
    """And read back to the same amount."""
    assert decimal(amount, currency) == written
    assert minor(written, currency) == amount


@pytest.mark.parametrize(("value", "currency"), [("1.999", "USD"), ("5.5", "JPY"), ("much", "USD")])
def test_what_is_no_amount_is_refused(value, currency):
    """Nothing is rounded."""
    with pytest.raises(ValueError, match=r"."):
        minor(value, currency)


def test_another_account_is_another_scope():
    """A key holds within one account: whoever changes the account cannot repeat a payment in the new one."""
    one = access_to("stripe", {"STRIPE_API_KEY": "sk_1"})
    other = access_to("stripe", {"STRIPE_API_KEY": "sk_2"})
    assert one.scope != other.scope
    assert "sk_1" not in one.scope + repr(one)


def test_a_new_secret_of_the_same_account_is_the_same_scope():
    """PayPal's client id names the account; its secret may change."""
    one = {"PAYPAL_CLIENT_ID": "shop", "PAYPAL_CLIENT_SECRET": "a"}
    assert access_to("paypal", one).scope == access_to("paypal", one | {"PAYPAL_CLIENT_SECRET": "b"}).scope


def test_what_is_missing_is_named():
    """Not its value."""
    assert access_to("paypal", {"PAYPAL_CLIENT_ID": "shop"}).missing == "set PAYPAL_CLIENT_SECRET"
    wrong = access_to("square", {"SQUARE_ACCESS_TOKEN": "x", "SQUARE_BASE_URL": "ftp://square"})
    assert wrong.missing == "SQUARE_BASE_URL is not an http or https URL"
