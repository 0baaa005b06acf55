"""What can go wrong with a provider, as faults: who is ill decides whether the mesh falls back.

what happened                           code                 reason                   falls back
key, URL, model or SDK missing          UNAVAILABLE          PROVIDER_NOT_CONFIGURED  yes
the node has only just started          DEADLINE_EXCEEDED    NODE_FAULT               yes
401 402 403, no quota, a redirect       UNAVAILABLE          PROVIDER_REFUSED         yes
404 for what the operator set           UNAVAILABLE          PROVIDER_REFUSED         yes
429                                     RESOURCE_EXHAUSTED   PROVIDER_LIMITED         yes
not reached, 5xx, 529, 409, cut off     UNAVAILABLE          PROVIDER_UNAVAILABLE     yes
an answer that makes no sense           UNAVAILABLE          PROVIDER_UNAVAILABLE     yes
silent, 408                             DEADLINE_EXCEEDED    PROVIDER_TIMEOUT         yes
answering when the time was over        DEADLINE_EXCEEDED    PROVIDER_TIMEOUT         no: the input's
404 or 403 for the input's model        FAILED_PRECONDITION  PROVIDER_DECLINED        no: the input's
400 413 422                             INVALID_ARGUMENT     PROVIDER_DECLINED        no: the input's
401 402 403, no quota, of a step's key  FAILED_PRECONDITION  PROVIDER_REFUSED         no: the step's
429 for a step's key                    RESOURCE_EXHAUSTED   PROVIDER_LIMITED         no: the step's

What an operator must mend falls back as well: a run should not fail because a key has expired. The input's
faults do not, since another provider's answer to a broken question would hide it. And what falls back also
counts against the version, which is ejected for everybody: so no input should be able to cause it. Words that
could repeat the input never decide that a provider is ill, only that it is not. Silence remains: a model that
thinks without a sign of life for longer than `idle_seconds` cannot be told from a provider that hangs.

A provider's words are quoted for the input's faults only, where the author of the flow needs them: what it
says about a key may contain part of it. The key itself is taken out of whatever is quoted.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

import grpc

from reflux.nodes.patience import retry_after
from reflux.sdk import NodeFault, Reason, TargetFault

if TYPE_CHECKING:
    from collections.abc import Mapping

    from reflux.nodes.ai_chat.access import Access

_EXCERPT: Final = 500
_OF_THE_ACCOUNT: Final = frozenset({Reason.PROVIDER_REFUSED, Reason.PROVIDER_LIMITED})
_SEE_TO_IT: Final = "see to the credential that the step names, or to its account"
_TOKENLESS: Final = frozenset({"insufficient_quota", "billing_error", "billing_hard_limit_reached"})
_LIMITED: Final = frozenset({"rate_limit_error", "rate_limit_exceeded"})
_BROKE: Final = "Your credit balance"
"""How Anthropic begins to say so, with the status and the type of an invalid request."""


class Nonsense(Exception):
    """An answer that makes no sense, or has no end; the message says how."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a provider answered instead of an answer."""

    status: int
    """Of HTTP; 0 when the error came in the middle of a stream, which had begun with 200."""
    body: object = None
    """As JSON when it was JSON, else text."""
    headers: Mapping[str, str] | None = None

    def _error(self) -> Mapping[str, object]:
        body = self.body
        inner = body.get("error", body) if isinstance(body, dict) else None
        return inner if isinstance(inner, dict) else {}

    @property
    def is_documented(self) -> bool:
        """Whether this is an error of the API, and not of some server in between."""
        return bool(self._error())

    @property
    def kinds(self) -> frozenset[str]:
        """The names the provider gives the error."""
        error = self._error()
        return frozenset(str(error[key]) for key in ("type", "code") if error.get(key))

    @property
    def words(self) -> str:
        """The provider's own words."""
        said = self._error().get("message") or (self.body if isinstance(self.body, str) else "")
        return " ".join(str(said).split())[:_EXCERPT]

    def is_about(self, model: str) -> bool:
        """Whether `model` is what is refused: there is none of that name, or not for this account.

        A 404 or a 403 of some server in between is about the way, and most 403 are about the key.
        """
        if not self.is_documented or self.status not in {403, 404}:
            return False
        alone = rf"(?<![\w.-]){re.escape(model)}(?![\w-]|\.\w)"
        return (
            self.status == 404 or "model_not_found" in self.kinds or re.search(alone, self.words) is not None
        )


def not_configured(access: Access, what: str) -> NodeFault:
    """The operator has something to do first."""
    return _ill(access, f"has no provider yet: {what}", Reason.PROVIDER_NOT_CONFIGURED)


def of_account(fault: NodeFault | TargetFault, *, own: bool) -> NodeFault | TargetFault:
    """A fault, whose it is: what the account of a step's own key may not do is no illness of the version.

    Else one flow's key could have the version ejected for everybody.
    """
    if not own or not isinstance(fault, NodeFault) or fault.reason not in _OF_THE_ACCOUNT:
        return fault
    code = fault.code
    if fault.reason is Reason.PROVIDER_REFUSED:
        code = grpc.StatusCode.FAILED_PRECONDITION
    return TargetFault(
        code,
        fault.message.replace("the operator must see to its key or account", _SEE_TO_IT),
        reason=fault.reason,
        metadata=fault.metadata,
        retry_after=fault.retry_after,
        no_effect=True,
    )


def loading(access: Access) -> NodeFault:
    """The process has only just started, and the call's time was too short to wait for it."""
    message = f"ai.chat@{access.provider} is still loading its provider's SDK"
    return NodeFault(grpc.StatusCode.DEADLINE_EXCEEDED, message)


def unreachable(access: Access) -> NodeFault:
    """Not resolved, not connected, no TLS, or the connection broke: the SDKs do not tell these apart."""
    return _ill(access, "could not reach its provider, or lost it in the middle", Reason.PROVIDER_UNAVAILABLE)


def nonsense(access: Access, how: str) -> NodeFault:
    """An answer that cannot be relied on; nothing of it is returned."""
    return _ill(access, f"got no whole answer from its provider: {how}", Reason.PROVIDER_UNAVAILABLE)


def silent(access: Access) -> NodeFault:
    """Nothing was heard for `idle_seconds`, or nothing at all until the deadline."""
    message = f"ai.chat@{access.provider}: the provider is silent"
    return NodeFault(
        grpc.StatusCode.DEADLINE_EXCEEDED,
        message,
        reason=Reason.PROVIDER_TIMEOUT,
        metadata={"idle_seconds": f"{access.idle_seconds:g}"},
    )


def still_speaking(access: Access, length: int) -> TargetFault:
    """The answer was on its way when the time was over: more time is needed, not another provider."""
    return TargetFault(
        grpc.StatusCode.DEADLINE_EXCEEDED,
        f"ai.chat@{access.provider}: the answer was not complete in time; give the step a longer "
        "`timeout.attempt`, or a smaller max_tokens",
        reason=Reason.PROVIDER_TIMEOUT,
        metadata={"characters": str(length)},
    )


def no_json(access: Access) -> TargetFault:
    """The model was asked for JSON and, complete as it is, this is none."""
    return TargetFault(
        grpc.StatusCode.FAILED_PRECONDITION,
        f"ai.chat@{access.provider}: the answer is not JSON, though json_schema was given",
        reason=Reason.PROVIDER_DECLINED,
    )


def of_refusal(refusal: Refusal, access: Access, *, named: str | None) -> NodeFault | TargetFault:
    """An error status, or an error in the middle of a stream.

    Args:
        refusal: what the provider said.
        access: whose provider.
        named: the model that the input named; None: the operator's was asked.
    """
    status, kinds = refusal.status or _status_of(refusal.kinds), refusal.kinds
    # Only the beginning of the words is the provider's own: further on they may quote the input.
    broke = access.provider == "anthropic" and status == 400 and refusal.words.startswith(_BROKE)
    if broke or kinds & _TOKENLESS:
        return _ill(access, _operator(status), Reason.PROVIDER_REFUSED, status)
    if named is not None and refusal.is_about(named):
        return _declined(grpc.StatusCode.FAILED_PRECONDITION, refusal, access)
    if status in {401, 402, 403}:
        return _ill(access, _operator(status), Reason.PROVIDER_REFUSED, status)
    if status == 429:
        return _limited(refusal, access)
    if 300 <= status < 400 or status in {404, 405}:
        return _ill(
            access, f"{_operator(status)}, or its URL or default model", Reason.PROVIDER_REFUSED, status
        )
    if status == 408:
        return silent(access)
    if status >= 500 or status == 409:
        return _ill(access, f"has an ill provider: it answered {status}", Reason.PROVIDER_UNAVAILABLE, status)
    return _declined(grpc.StatusCode.INVALID_ARGUMENT, refusal, access)


def _status_of(kinds: frozenset[str]) -> int:
    """The status an error in a stream would have had at its beginning."""
    if kinds & _LIMITED:
        return 429
    return 529 if "overloaded_error" in kinds else 400 if "invalid_request_error" in kinds else 500


def _operator(status: int) -> str:
    return f"was refused by its provider ({status}): the operator must see to its key or account"


def _limited(refusal: Refusal, access: Access) -> NodeFault:
    seconds = retry_after((refusal.headers or {}).get("retry-after"), datetime.now(UTC))
    return NodeFault(
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        f"ai.chat@{access.provider}: the provider takes no more requests for now",
        reason=Reason.PROVIDER_LIMITED,
        metadata={"status": "429"},
        retry_after=None if seconds is None else timedelta(seconds=seconds),
    )


def _declined(code: grpc.StatusCode, refusal: Refusal, access: Access) -> TargetFault:
    # A 403 may speak of the key that lacks the right as well.
    no_access = "its account has no access to the model that the step names"
    words = no_access if refusal.status == 403 else access.redact(refusal.words) or "without a word"
    return TargetFault(
        code,
        f"ai.chat@{access.provider}: the provider declines the input ({refusal.status}): {words}",
        reason=Reason.PROVIDER_DECLINED,
        metadata={"status": str(refusal.status)},
    )


def _ill(access: Access, what: str, reason: Reason, status: int | None = None) -> NodeFault:
    metadata = {} if status is None else {"status": str(status)}
    code = grpc.StatusCode.UNAVAILABLE
    return NodeFault(code, f"ai.chat@{access.provider} {what}", reason=reason, metadata=metadata)
