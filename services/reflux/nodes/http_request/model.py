"""What `http.request` is asked and what it answers; the same for all versions of major 1 and 2."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, ConfigDict, Field, JsonValue, model_validator

from reflux.core.document import MAX_DOCUMENT_BYTES
from reflux.sdk import Basic, Bearer, CredentialSlot, Header, Model

PURE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})

EFFECT: Final = (
    "(input.?method ?? 'GET') in ['GET', 'HEAD', 'OPTIONS'] ? 'pure' : "
    "(input.?idempotency_header ?? null) != null ? 'idempotent' : 'at_most_once'"
)
"""Reading is pure; writing happens at most once, unless the target knows idempotency keys."""

_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}")
_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_OURS: Final = frozenset({"host", "content-length", "transfer-encoding", "connection", "upgrade", "te"})

AUTHORIZATION: Final = CredentialSlot(
    "authorization",
    (Bearer, Basic, Header),
    "Sent as a header to the origins that it names, and nowhere else.",
    default=True,
)

Scalar = str | int | float | bool


def _header_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError("is not a header name")
    if name.lower() in _OURS:
        raise ValueError("is set by http.request itself")
    return name


def _headers(headers: dict[str, str]) -> dict[str, str]:
    for name, value in headers.items():
        _header_name(name)
        if _CONTROL.search(value):
            raise ValueError(f"the value of {name} has control characters")
    return headers


def _decodable(text: str) -> str:
    try:
        base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(f"is not base64: {error}") from None
    return text


class Input(Model):
    """One HTTP request."""

    model_config = ConfigDict(extra="forbid", frozen=True, serialize_by_alias=True)

    url: str = Field(min_length=1, max_length=8192, description="http or https, without user and password.")
    method: Literal["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"] = "GET"
    headers: Annotated[dict[str, str], AfterValidator(_headers)] = Field(default_factory=dict)
    query: dict[str, Scalar | list[Scalar]] = Field(
        default_factory=dict, description="Added to the query of the URL; a list repeats its name."
    )
    json_body: JsonValue = Field(default=None, alias="json", description="Body as JSON.")
    text: str | None = Field(default=None, description="Body as UTF-8 text.")
    base64: Annotated[str, AfterValidator(_decodable)] | None = Field(
        default=None, description="Body as bytes, in base64."
    )
    timeout_ms: int = Field(default=30_000, ge=1, le=300_000, description="For the whole exchange.")
    max_redirects: int = Field(
        default=10, ge=0, le=20, description="0: a redirect is the answer, and not followed."
    )
    max_response_bytes: int = Field(default=MAX_DOCUMENT_BYTES, ge=0, le=MAX_DOCUMENT_BYTES)
    accept_status: list[Annotated[int, Field(ge=400, le=599)] | Literal["4xx", "5xx"]] = Field(
        default_factory=list, description="Statuses from 400 that are an answer and not a failure."
    )
    idempotency_header: Annotated[str, AfterValidator(_header_name)] | None = Field(
        default=None,
        description="Header in which the target expects an idempotency key, e.g. Idempotency-Key; "
        "REFLUX fills it, and the request becomes idempotent.",
    )

    @model_validator(mode="after")
    def _one_body(self) -> Self:
        given = self.model_fields_set & {"json_body", "text", "base64"}
        if len(given) > 1:
            raise ValueError("give one body: json, text or base64")
        return self

    def accepts(self, status: int) -> bool:
        """Whether a status is an answer."""
        return status < 400 or status in self.accept_status or f"{status // 100}xx" in self.accept_status

    @property
    def parameters(self) -> list[tuple[str, str]]:
        """The query as pairs of text."""
        return [
            (name, _parameter(item))
            for name, value in self.query.items()
            for item in (value if isinstance(value, list) else [value])
        ]


def _parameter(value: Scalar) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


class Output(Model):
    """What the target answered."""

    status: int
    headers: dict[str, str] = Field(description="Names in lower case; repeated ones joined with a comma.")
    body: JsonValue = Field(description="By content type: a JSON value, text, or bytes in base64; or null.")
    body_format: Literal["json", "text", "base64", "none"]
    url: str = Field(description="What answered, after redirects.")
    elapsed_ms: int
