"""What a version needs to reach its provider, and what an operator still has to give."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from reflux.runtime.settings import Settings

ProviderName = Literal["openai", "anthropic", "local"]


@dataclass(frozen=True, slots=True)
class Access:
    """How a provider is reached."""

    provider: ProviderName
    idle_seconds: float
    key: str = field(default="", repr=False)
    url: str | None = field(default=None, repr=False)
    """None: the SDK's own."""
    model: str | None = None
    """Asked where the input names none."""
    streams: bool = True
    missing: str | None = None
    """What the operator has to do before this version can answer; None: nothing."""

    wrong_url: str | None = field(default=None, repr=False)
    """The part of `missing` that no key can mend."""
    own: bool = False
    """The key is one that the step named: what its account may do is the step's matter."""

    def with_key(self, key: str) -> Access:
        """The same provider, by the account of a step's own credential."""
        return replace(self, key=key, missing=self.wrong_url, own=True)

    def redact(self, text: str) -> str:
        """`text` without the key, which a provider may repeat."""
        return text.replace(self.key, "***") if self.key else text


def to_openai(settings: Settings, environment: Mapping[str, str]) -> Access:
    """Access to OpenAI, or to what speaks for it at OPENAI_BASE_URL."""
    return _standard("openai", settings.ai_openai_model, settings, environment)


def to_anthropic(settings: Settings, environment: Mapping[str, str]) -> Access:
    """Access to Anthropic, or to what speaks for it at ANTHROPIC_BASE_URL."""
    return _standard("anthropic", settings.ai_anthropic_model, settings, environment)


def to_local(settings: Settings) -> Access:
    """Access to the operator's own server."""
    key, url = settings.ai_local_key or "", settings.ai_local_url
    wrong_url = _wrong_url("REFLUX_AI_LOCAL_URL", url) if url else "set REFLUX_AI_LOCAL_URL"
    return Access(
        provider="local",
        key=key,
        url=url,
        model=settings.ai_local_model,
        idle_seconds=settings.ai_idle_seconds,
        streams=settings.ai_local_stream,
        missing=wrong_url or _wrong_key("REFLUX_AI_LOCAL_KEY", key),
        wrong_url=wrong_url,
    )


def _standard(
    provider: ProviderName, model: str, settings: Settings, environment: Mapping[str, str]
) -> Access:
    """A provider whose key and URL come from the variables that its own SDK reads."""
    key_name, url_name = f"{provider.upper()}_API_KEY", f"{provider.upper()}_BASE_URL"
    key, url = environment.get(key_name, "").strip(), environment.get(url_name, "").strip() or None
    wrong_url = _wrong_url(url_name, url)
    return Access(
        provider=provider,
        key=key,
        url=url,
        model=model,
        idle_seconds=settings.ai_idle_seconds,
        missing=_wrong_key(key_name, key) or wrong_url if key else f"set {key_name}",
        wrong_url=wrong_url,
    )


def _wrong_key(name: str, key: str) -> str | None:
    return None if key.isascii() and (key.isprintable() or not key) else f"{name} has characters no key has"


def _wrong_url(name: str, url: str | None) -> str | None:
    if url is None:
        return None
    try:
        parts = urlsplit(url)
        good = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    return None if good else f"{name} is not an http or https URL"
