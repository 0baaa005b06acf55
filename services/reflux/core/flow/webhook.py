"""The compiled form of a webhook trigger: who may send what where, and what its sender gets.

A webhook is reached at `/hooks/<path>` with one HTTP method. Who sends proves it, or need not (`hmac`). Every
scheme is HMAC-SHA-256 over the body's bytes as they came; they differ in what stands around them:

| scheme     | header                | value                  | signed                  | key               |
|------------|-----------------------|------------------------|-------------------------|-------------------|
| `standard` | `webhook-signature`   | `v1,<base64>`, several | `<id>.<time>.<body>`    | base64, `whsec_…` |
| `stripe`   | `stripe-signature`    | `t=<time>,v1=<hex>`, … | `<time>.<body>`         | the text itself   |
| `github`   | `x-hub-signature-256` | `sha256=<hex>`         | `<body>`                | the text itself   |
| `plain`    | any                   | prefix, hex or base64  | `<body>`                | the text itself   |

`github` is `plain` with its header, prefix and delivery id filled in. Of the ids of deliveries, those of
`standard` (`webhook-id`) and of `stripe` (the body's `id`) are signed; the header that names a delivery with
`plain` is not, so it keeps apart only what the sender itself repeats. Sources: the specification of Standard
Webhooks 1.0.0; the pages of GitHub and Stripe on validating deliveries.

The input of the run is the trigger's `input`, over the roots `request` and `vars`; without one it is the
request's body when that is an object, `{}` when there is no body, and else `{body: …}`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from datetime import timedelta

    from reflux.core.document import JsonValue
    from reflux.core.expression import Template

METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE")
MAX_PATH: Final = 200
"""Characters."""
PATH_RULE: Final = (
    "segments of a-z 0-9 . _ ~ - with / between them, at most 200 characters, such as shop/orders"
)
TRIGGER_TYPE: Final = "webhook"
MANUAL: Final = "manual"
"""`trigger.type` of a run that somebody started by hand."""

_PATH: Final = re.compile(r"[a-z0-9._~-]+(/[a-z0-9._~-]+)*")


class Scheme(StrEnum):
    """What is signed, and how the signature is written."""

    STANDARD = "standard"
    STRIPE = "stripe"
    PLAIN = "plain"


class Encoding(StrEnum):
    """How the bytes of a plain signature are written."""

    HEX = "hex"
    BASE64 = "base64"


class Respond(StrEnum):
    """What the sender gets."""

    ACCEPTED = "accepted"  # the run's id, once the run is durable
    RUN = "run"  # the run's output, once it has ended


@dataclass(frozen=True, slots=True)
class Hmac:
    """How a sender proves who it is."""

    secret: str
    """Name of the environment variable that holds the key."""
    scheme: Scheme = Scheme.STANDARD
    header: str = "webhook-signature"
    """In lower case."""
    prefix: str = ""
    """Of a plain signature's value."""
    encoding: Encoding = Encoding.HEX
    """Of a plain signature."""


@dataclass(frozen=True, slots=True)
class Webhook:
    """A trigger of type webhook."""

    id: str
    pointer: str
    """JSON pointer of the trigger in the document as it was sent."""
    method: str
    path: str
    """Below /hooks/, without a slash at either end."""
    hmac: Hmac | None
    """None: anybody may send."""
    delivery_id: str | None
    """Header that names a delivery, in lower case: what comes twice under one id starts one run. None: the
    body's `id` names it, as Stripe has it.
    """
    respond: Respond
    timeout: timedelta
    """How long a sender waits for the run's output."""
    input: Template | None
    """None: see above."""


def default_input(body: JsonValue) -> JsonValue:
    """What a run gets of a request's body when the trigger does not say.

    >>> default_input("hello"), default_input({"a": 1}), default_input(None)
    ({'body': 'hello'}, {'a': 1}, {})
    """
    if body is None:
        return {}
    return body if isinstance(body, dict) else {"body": body}


def normal_path(text: str) -> str | None:
    """The path of a webhook without the slash that it may begin with; None when it is not one.

    >>> normal_path("/shop/orders"), normal_path("../orders")
    ('shop/orders', None)
    """
    path = text.removeprefix("/")
    if len(path) > MAX_PATH or _PATH.fullmatch(path) is None:
        return None
    return None if {".", ".."} & set(path.split("/")) else path


def is_hidden(header: str) -> bool:
    """Whether expressions do not see a header, because it holds, or proves, a secret.

    Signatures are hidden because an input is kept for ever, and a kept request that could be sent again is a
    key of its own.
    """
    return any(word in header for word in SECRET_WORDS) or is_ours(header)


def is_ours(header: str) -> bool:
    """Whether the edge takes a header away from what comes from outside, for it is the platform's own."""
    return header.startswith(("x-reflux-", "x-envoy-"))


SECRET_WORDS: Final = (
    "access-key",
    "api-key",
    "apikey",
    "assertion",
    "auth",
    "client-cert",
    "cookie",
    "hmac",
    "jwt",
    "oidc",
    "password",
    "secret",
    "session",
    "signature",
    "token",
)
"""A header with one of these in its name is hidden: rather one too many than a key that is kept."""
