"""An answer while it comes in. It leaves this module only whole: what has no end was cut off."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

from reflux.nodes.ai_chat.faults import Nonsense

if TYPE_CHECKING:
    from reflux.nodes.ai_chat.model import FinishReason, Usage

MAX_TEXT: Final = 1 << 20
"""Characters; more would fit into no run."""


class Arriving(Protocol):
    """What a draft has to know of the HTTP response it is read from."""

    @property
    def num_bytes_downloaded(self) -> int:
        """Of its body, so far."""


@dataclass(slots=True)
class Draft:
    """What has arrived so far."""

    source: Arriving | None = None
    """The stream it is read from, from its first moment."""
    id: str = ""
    model: str = ""
    parts: list[str] = field(default_factory=list)
    length: int = 0
    finish: FinishReason | None = None
    refused: bool = False
    """Whether the words are a refusal, which OpenAI says beside the reason."""
    usage: Usage | None = None
    standard_tier: bool = True
    """Whether list prices hold: priority and batch tiers have their own."""

    @property
    def text(self) -> str:
        """The words so far."""
        return "".join(self.parts)

    @property
    def begun(self) -> bool:
        """Whether the provider is at work on the answer.

        Any byte tells it, and not the first word only: a model may think for minutes before that, while its
        provider sends pings and comments, which the SDKs keep to themselves.
        """
        return self.source is not None and self.source.num_bytes_downloaded > 0

    def add(self, text: str | None) -> None:
        """More words.

        Raises:
            Nonsense: more than any limit on tokens allows.
        """
        if not text:
            return
        self.parts.append(text)
        self.length += len(text)
        if self.length > MAX_TEXT:
            raise Nonsense(f"it did not stop after {MAX_TEXT} characters")

    def end(self, reason: str, known: dict[str, FinishReason]) -> None:
        """The last word was said.

        Raises:
            Nonsense: for a reason that is not in `known`.
        """
        if reason not in known:
            raise Nonsense(f"it ended with {reason[:40]!r}, which is no reason we know")
        self.finish = known[reason]
