"""What a provider is reached by, and what an operator still has to give."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from reflux.nodes.payment.model import Provider

_URLS: Final[Mapping[Provider, str]] = {
    "stripe": "https://api.stripe.com",
    "paypal": "https://api-m.paypal.com",
    "square": "https://connect.squareup.com",
}
_VARIABLES: Final[Mapping[Provider, tuple[str, ...]]] = {
    "stripe": ("STRIPE_API_KEY",),
    "paypal": ("PAYPAL_CLIENT_ID", "PAYPAL_CLIENT_SECRET"),
    "square": ("SQUARE_ACCESS_TOKEN",),
}


@dataclass(frozen=True, slots=True)
class Access:
    """How a provider is reached."""

    provider: Provider
    url: str = field(repr=False)
    secrets: tuple[str, ...] = field(repr=False)
    missing: str | None = None
    """What the operator has to do first; None: nothing."""

    @property
    def scope(self) -> str:
        """Within which an idempotency key holds: the account, told by a digest of what opens it."""
        digest = sha256(f"{self.url}\n{self.secrets[:1]}".encode()).hexdigest()[:12]
        return f"{self.provider}/{digest}"

    def redact(self, text: str) -> str:
        """`text` without the secrets, which a provider may repeat."""
        for secret in self.secrets:
            text = text.replace(secret, "***") if secret else text
        return text


def access_to(provider: Provider, environment: Mapping[str, str] = os.environ) -> Access:
    """Access as the environment gives it: `STRIPE_API_KEY` and `STRIPE_BASE_URL`, and so for the others."""
    names = _VARIABLES[provider]
    secrets = tuple(environment.get(name, "").strip() for name in names)
    url_name = f"{provider.upper()}_BASE_URL"
    url = environment.get(url_name, "").strip().rstrip("/") or _URLS[provider]
    absent = [name for name, secret in zip(names, secrets, strict=True) if not secret]
    missing = f"set {' and '.join(absent)}" if absent else None
    if not all(secret.isascii() and secret.isprintable() for secret in secrets):
        missing = f"{' or '.join(names)} has characters no key has"
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        missing = f"{url_name} is not an http or https URL"
    return Access(provider, url, secrets, missing)
