"""Credentials: with what a node version proves who a call comes from. Steps name them, nodes alone see them.

A credential is a file in the folder of the setting `credentials_dir`, named as in steps, in YAML or JSON:

    kind: bearer                          kind: basic                    kind: header
    token: …                              user: shop                     name: x-api-key
    origins: [https://api.example.com]    password: …                    value: …
                                          origins: [api.example.com]     origins: [api.example.com]
    kind: key
    key: …

- It is read anew for each call, so a changed file counts at once, and without it the call fails before
  anything is done: CREDENTIAL_UNAVAILABLE says to the operator why, CREDENTIAL_UNFIT to the author of the
  flow. Both are TargetFaults, since nobody is ill: nothing is tried again or ejected for it, and no other
  version is asked.
- A file that others can read, or anybody but its owner can write, is refused.
- What is sent to a target that a flow chooses says to which *origins* it may be sent, so that no flow can
  carry it elsewhere. `api.example.com` means `https://api.example.com`. A `key` is for the provider that a
  node version itself knows.
- Neither outputs, errors nor logs hold a secret: where one would, because a target repeats it, there is
  `***`. So a secret has at least eight characters.
"""

from __future__ import annotations

import base64
import os
import re
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Final, Literal, TypeAlias, get_args
from urllib.parse import urlsplit

import grpc
import orjson
from google.api.httpbody_pb2 import HttpBody  # type: ignore[import-untyped]
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from reflux.api.node.v1 import node_service_pb2
from reflux.core.errors import InvalidArgument
from reflux.core.names import NAME_RULE, is_name
from reflux.core.reasons import Reason
from reflux.runtime import documents, logs
from reflux.sdk.faults import TargetFault

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

MAX_BYTES: Final = 64 << 10
"""Of a file."""
SHORTEST: Final = 8
"""Characters of a secret: a shorter one could not be told from other words."""
MAX_ORIGINS: Final = 32

_HIDDEN: Final = "***"
_HEADER: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}")
_OURS: Final = frozenset({"host", "content-length", "content-type", "transfer-encoding", "connection"})


def _origin(text: str) -> str:
    """`api.example.com` and `https://API.example.com:443/` as `https://api.example.com:443`."""
    parts = urlsplit(text if "://" in text else f"https://{text}")
    try:
        port = parts.port or {"https": 443, "http": 80}[parts.scheme]
    except (KeyError, ValueError):
        raise ValueError("is no origin such as https://api.example.com") from None
    if (
        not text.isascii()
        or not parts.hostname
        or parts.username
        or parts.path not in {"", "/"}
        or parts.query
        or parts.fragment
    ):
        raise ValueError("is no origin such as https://api.example.com")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}:{port}"


def _sendable(text: str) -> str:
    if not (text.isascii() and text.isprintable()):
        raise ValueError("has characters that no header can carry")
    return text


def _header_name(text: str) -> str:
    if not _HEADER.fullmatch(text) or text.lower() in _OURS:
        raise ValueError("is no header that may be set")
    return text


Secret = Annotated[str, Field(min_length=SHORTEST, max_length=16_384, repr=False), AfterValidator(_sendable)]
Origins = Annotated[
    tuple[Annotated[str, AfterValidator(_origin)], ...], Field(min_length=1, max_length=MAX_ORIGINS)
]


class _Kind(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class _Sent(_Kind):
    """Sent as a header to a target that a flow names."""

    origins: Origins

    def may_go_to(self, url: str) -> bool:
        """Whether a request to this URL may carry it."""
        parts = urlsplit(url)
        return _origin(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}") in self.origins


class Bearer(_Sent):
    """`Authorization: Bearer …` (RFC 6750)."""

    kind: Literal["bearer"]
    token: Secret

    @property
    def header(self) -> tuple[str, str]:
        """Its name and value."""
        return "Authorization", f"Bearer {self.token}"

    @property
    def secrets(self) -> tuple[str, ...]:
        """What nobody may read."""
        return (self.token,)


class Basic(_Sent):
    """`Authorization: Basic …` (RFC 7617)."""

    kind: Literal["basic"]
    user: Annotated[str, AfterValidator(_sendable)] = Field(pattern=r"^[^:]*$")
    password: Secret

    @property
    def _encoded(self) -> str:
        return base64.b64encode(f"{self.user}:{self.password}".encode()).decode()

    @property
    def header(self) -> tuple[str, str]:
        """Its name and value."""
        return "Authorization", f"Basic {self._encoded}"

    @property
    def secrets(self) -> tuple[str, ...]:
        """What nobody may read."""
        return (self._encoded, self.password)


class Header(_Sent):
    """A header of its own, such as `x-api-key`."""

    kind: Literal["header"]
    name: Annotated[str, AfterValidator(_header_name)]
    value: Secret

    @property
    def header(self) -> tuple[str, str]:
        """Its name and value."""
        return self.name, self.value

    @property
    def secrets(self) -> tuple[str, ...]:
        """What nobody may read."""
        return (self.value,)


class Key(_Kind):
    """The key of an account at the provider of a node version."""

    kind: Literal["key"]
    key: Secret

    @property
    def secrets(self) -> tuple[str, ...]:
        """What nobody may read."""
        return (self.key,)


Credential: TypeAlias = Bearer | Basic | Header | Key
_ANY: Final[TypeAdapter[Credential]] = TypeAdapter(Annotated[Credential, Field(discriminator="kind")])


@dataclass(frozen=True, slots=True)
class CredentialSlot:
    """A place for a credential in the calls of a node version."""

    name: str
    kinds: tuple[type[Credential], ...]
    description: str = ""
    default: bool = False
    """A step that names one credential, and no slot, means this one."""

    @property
    def kind_names(self) -> list[str]:
        """The kinds, as files call them."""
        return [get_args(kind.model_fields["kind"].annotation)[0] for kind in self.kinds]

    def to_proto(self) -> node_service_pb2.CredentialSlot:
        """As a version describes itself."""
        return node_service_pb2.CredentialSlot(
            name=self.name, description=self.description, kinds=self.kind_names, default=self.default
        )


@dataclass(frozen=True, slots=True)
class Credentials:
    """Those of one call, by slot."""

    by_slot: Mapping[str, Credential] = field(default_factory=dict)

    @property
    def secrets(self) -> tuple[str, ...]:
        """What nobody may read of all of them, the longest first, since one may hold another."""
        every = {secret for each in self.by_slot.values() for secret in each.secrets}
        return tuple(sorted(every, key=len, reverse=True))

    def hide(self, text: str) -> str:
        """`text` without them."""
        for secret in self.secrets:
            text = text.replace(secret, _HIDDEN)
        return text

    def hide_in_json(self, raw: bytes) -> bytes:
        """The same for JSON, in which a secret may be escaped."""
        for secret in self.secrets:
            for form in {secret.encode(), orjson.dumps(secret)[1:-1]}:
                raw = raw.replace(form, _HIDDEN.encode())
        return raw


NONE: Final = Credentials()


class CredentialStore:
    """The folder. Reading blocks.

    Args:
        folder: the setting `credentials_dir`; None: there are no credentials.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def find(self, named: Mapping[str, str], slots: Sequence[CredentialSlot], version: str) -> Credentials:
        """The credentials that a call of `version` names, in those of its slots that it has.

        Raises:
            TargetFault: CREDENTIAL_UNAVAILABLE, CREDENTIAL_UNFIT.
        """
        if not slots:
            raise _unfit(f"{version} takes no credentials")
        found: dict[str, Credential] = {}
        for slot in slots:
            name = named.get(slot.name) or (named.get("") if slot.default else None)
            if name is not None:
                found[slot.name] = self._fitting(name, slot, version)
        if "" in named and not any(slot.default for slot in slots):
            raise _unfit(f"{version} has no default slot for credential {_shown(named[''])}: {_named(slots)}")
        credentials = Credentials(found)
        logs.keep_out(credentials.secrets)
        return credentials

    def _fitting(self, name: str, slot: CredentialSlot, version: str) -> Credential:
        credential = self.read(name)
        if not isinstance(credential, slot.kinds):
            wanted = " or ".join(slot.kind_names)
            message = (
                f"credential {name} is of kind {credential.kind}; {version} takes {wanted} as {slot.name}"
            )
            raise _unfit(message)
        return credential

    def read(self, name: str) -> Credential:
        """One credential.

        Raises:
            TargetFault: CREDENTIAL_UNAVAILABLE; CREDENTIAL_UNFIT for what is no name.
        """
        if not is_name(name):
            raise _unfit(f"{_shown(name)} is no name of a credential: a name is {NAME_RULE}")
        if self._folder is None:
            raise _unavailable(name, "this node has no folder of credentials: set REFLUX_CREDENTIALS_DIR")
        try:
            raw = _read_private(self._folder / name)
        except FileNotFoundError:
            raise _unavailable(name, f"there is no file of this name in {self._folder}") from None
        except OSError as error:
            raise _unavailable(name, f"its file cannot be read: {error.strerror}") from None
        except _WrongFileError as error:
            raise _unavailable(name, str(error)) from None
        try:
            body = HttpBody(content_type="application/yaml", data=raw)
            return _ANY.validate_python(documents.parse(body, what="the file"))
        except InvalidArgument:  # its words may quote the file
            raise _unavailable(name, "its file is neither YAML nor JSON") from None
        except ValidationError as error:
            raise _unavailable(name, f"its file is no credential: {_explain(error)}") from None


class _WrongFileError(Exception):
    """It could be read, and must not be."""


def _read_private(path: Path) -> bytes:
    """A file that its owner alone can write and others cannot read; judged by what was opened."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode):
            raise _WrongFileError("it is no file")
        if about.st_mode & 0o027:
            mode = stat.S_IMODE(about.st_mode)
            raise _WrongFileError(
                f"its file can be read or written by others (mode {mode:04o}): chmod 600 it"
            )
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            raw = file.read(MAX_BYTES + 1)
    finally:
        os.close(descriptor)
    if len(raw) > MAX_BYTES:
        raise _WrongFileError(f"its file is larger than {MAX_BYTES >> 10} KiB")
    return raw


_FIELDS: Final = frozenset({"kind", "token", "user", "password", "name", "value", "key", "origins"})


def _explain(error: ValidationError) -> str:
    """What is wrong, by the names of fields that we know: any other may be a secret in a wrong place."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    if first["type"] in {"union_tag_invalid", "union_tag_not_found"}:
        return "kind is bearer, basic, header or key"
    place = next((str(part) for part in first["loc"][1:] if str(part) in _FIELDS), "")
    if first["type"] == "extra_forbidden":
        return f"{place or 'a key'} does not belong there"
    return f"{place}: {first['msg']}" if place else "it is no object"


def _named(slots: Iterable[CredentialSlot]) -> str:
    return f"it has {', '.join(slot.name for slot in slots)}"


def _shown(name: str) -> str:
    return repr(name[:100]) if is_name(name) else "what the step names"


def _unavailable(name: str, why: str) -> TargetFault:
    code = grpc.StatusCode.FAILED_PRECONDITION
    message = f"credential {name}: {why}"
    return TargetFault(code, message, reason=Reason.CREDENTIAL_UNAVAILABLE, no_effect=True)


def _unfit(message: str) -> TargetFault:
    code = grpc.StatusCode.INVALID_ARGUMENT
    return TargetFault(code, message, reason=Reason.CREDENTIAL_UNFIT, no_effect=True)
