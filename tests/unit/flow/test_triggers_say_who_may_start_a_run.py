"""What a webhook trigger means, where it says little and where it says all."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import pytest
import yaml

from reflux.core.flow import compile_flow
from reflux.core.flow.triggers import _KEYS
from reflux.core.flow.webhook import Encoding, Hmac, Respond, Scheme, default_input, is_hidden, normal_path


def hook(**keys):
    """The one trigger of a flow that has nothing wrong."""
    trigger = {"id": "hook", "type": "webhook", "path": "orders", **keys}
    spec = {"vars": {"n": 1}, "triggers": [trigger], "steps": [{"id": "a", "node": "x"}]}
    result = compile_flow({"name": "hooked", "spec": spec})
    assert result.problems == ()
    return result.flow.trigger("hook")


def test_the_trigger_of_the_readme_is_one():
    """What people copy has nothing wrong, and shows every key."""
    text = (Path(__file__).parents[3] / "gateway" / "README.md").read_text(encoding="utf-8")
    [block] = re.findall(r"```yaml\n(triggers:.*?)```", text, re.DOTALL)
    [shown] = yaml.safe_load(block)["triggers"]
    assert hook(**shown).respond is Respond.RUN
    assert set(shown) == set(_KEYS)


def test_a_trigger_that_says_little_is_an_open_post():
    """POST, nobody proves anything, and the sender gets the run's id."""
    plain = hook()
    assert (plain.method, plain.path, plain.hmac, plain.input) == ("POST", "orders", None, None)
    assert (plain.respond, plain.timeout, plain.delivery_id) == (
        Respond.ACCEPTED,
        timedelta(seconds=30),
        "webhook-id",
    )


@pytest.mark.parametrize(
    ("signature", "meaning"),
    [
        (None, Hmac("KEY", Scheme.STANDARD, "webhook-signature")),
        ("standard", Hmac("KEY", Scheme.STANDARD, "webhook-signature")),
        ("stripe", Hmac("KEY", Scheme.STRIPE, "stripe-signature")),
        ("github", Hmac("KEY", Scheme.PLAIN, "x-hub-signature-256", "sha256=")),
        (
            {"header": "X-Shop-Hmac", "encoding": "base64"},
            Hmac("KEY", Scheme.PLAIN, "x-shop-hmac", "", Encoding.BASE64),
        ),
    ],
)
def test_a_scheme_is_named_or_described(signature, meaning):
    """Standard Webhooks unless something else is said."""
    keys = {} if signature is None else {"signature": signature}
    assert hook(auth="hmac", secret={"env": "KEY"}, **keys).hmac == meaning


def test_the_delivery_id_is_where_the_sender_writes_it():
    """GitHub has a header of its own, Stripe writes it in the body, and anybody may name a header."""
    secret = {"env": "KEY"}
    stripe = {"auth": "hmac", "secret": secret, "signature": "stripe"}
    assert hook(**stripe).delivery_id is None
    assert hook(**stripe, delivery_id="X-Event-Id").delivery_id == "x-event-id"
    assert hook(auth="hmac", secret=secret, signature="github").delivery_id == "x-github-delivery"
    assert hook(delivery_id="X-Request-Id").delivery_id == "x-request-id"


def test_the_input_is_a_template_over_the_request_and_constants():
    """It is evaluated before there is a run."""
    template = hook(input={"order": "{{ request.body }}", "n": "{{ vars.n }}"}).input
    assert template.evaluate({"request": {"body": [1]}, "vars": {"n": 1}}) == {"order": [1], "n": 1}


@pytest.mark.parametrize(
    ("body", "given"), [({"a": 1}, {"a": 1}), (None, {}), ("text", {"body": "text"}), ([1], {"body": [1]})]
)
def test_without_an_input_the_body_is_the_input(body, given):
    """An object as it is, nothing as an empty object, anything else as a field."""
    assert default_input(body) == given


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("orders", "orders"),
        ("/shop/v1.0/a_b~c-d", "shop/v1.0/a_b~c-d"),
        ("", None),
        ("/", None),
        ("//a", None),
        ("a/", None),
        ("a//b", None),
        ("a/../b", None),
        ("./a", None),
        ("Orders", None),
        ("a b", None),
        ("ä", None),
        ("a%20b", None),
        ("a?b", None),
        ("a" * 200, "a" * 200),
        ("a" * 201, None),
    ],
)
def test_a_path_has_one_spelling(text, path):
    """Nothing that a proxy on the way could read in another way."""
    assert normal_path(text) == path


def test_steps_read_what_started_the_run():
    """`trigger.?id` is empty for a run that a person started, and a step may always ask."""
    step = {"id": "a", "set": {"from": "{{ trigger.?id ?? 'a person' }}", "type": "{{ trigger.type }}"}}
    assert compile_flow({"name": "hooked", "spec": {"steps": [step]}}).problems == ()


def test_headers_that_hold_or_prove_a_secret_are_hidden():
    """Whatever the sender calls them."""
    hidden = ("authorization", "proxy-authorization", "cookie", "webhook-signature", "x-hub-signature-256")
    assert all(map(is_hidden, (*hidden, "x-gitlab-token", "x-api-key", "x-reflux-actor")))
    others = ("x-shopify-hmac-sha256", "authentication", "x-auth-key", "x-access-key", "x-session")
    assert all(map(is_hidden, (*others, "x-goog-iap-jwt-assertion", "x-amzn-oidc-data")))
    assert is_hidden("x-forwarded-client-cert")
    assert not any(map(is_hidden, ("content-type", "webhook-id", "x-github-event", "user-agent")))
