"""What `ai.chat` is asked and what it answers; the same for every version.

The rules of a conversation are those that every wire takes: system messages only at the beginning, then the
user first and the user last (newer models refuse to continue an answer put into their mouth).
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, JsonValue, model_validator

from reflux.sdk import Model

MAX_MESSAGES: Final = 1_000
MAX_TEXT: Final = 500_000
"""Characters of one message; the whole input is bounded by 1 MiB."""
MAX_TOKENS: Final = 131_072

FinishReason = Literal["stop", "length", "refusal"]

_NOT_SHARED: Final = ("model", "temperature", "top_p", "seed")


class Message(Model):
    """One turn of the conversation."""

    role: Literal["system", "user", "assistant"]
    content: str = Field(min_length=1, max_length=MAX_TEXT)


class Choice(Model):
    """Which model a version asks."""

    model: str | None = Field(
        default=None,
        min_length=1,
        max_length=256,
        description="Default: what the operator set for the version.",
    )


class Sampling(Choice):
    """… and how that model draws its words; a model may refuse what it has no use for."""

    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, ge=0, le=1)
    seed: int | None = Field(default=None, ge=-(2**63), le=2**63 - 1)


class Providers(Model):
    """What differs between the versions; each reads its own part."""

    openai: Sampling = Sampling()
    anthropic: Choice = Field(
        default=Choice(), description="Anthropic's API takes no temperature, top_p or seed since 2026-10-21."
    )
    local: Sampling = Sampling()


class Input(Model):
    """A question to a language model."""

    messages: list[Message] = Field(
        min_length=1,
        max_length=MAX_MESSAGES,
        description="System messages first, then the conversation, which the user begins and ends.",
    )
    max_tokens: int = Field(
        default=4096, ge=1, le=MAX_TOKENS, description="Of the answer, a model's unseen reasoning included."
    )
    stop: list[Annotated[str, Field(min_length=1, max_length=1_000)]] = Field(
        default_factory=list, max_length=4, description="Texts that end the answer; they are not in it."
    )
    json_schema: dict[str, JsonValue] | None = Field(
        default=None,
        description="The answer is a JSON value of this schema, and comes parsed as well. Providers want "
        "`additionalProperties: false` and all properties required.",
    )
    providers: Providers = Field(default=Providers(), description="What only one version reads.")

    @model_validator(mode="before")
    @classmethod
    def _say_where_it_belongs(cls, value: Any) -> Any:
        """A field that only some versions have is refused like any unknown one, and with its place."""
        if isinstance(value, dict):
            for name in _NOT_SHARED:
                if name in value:
                    raise ValueError(
                        f"{name} differs between providers: write it as providers.<version>.{name}, "
                        "so that a call that falls back means the same to whoever answers it"
                    )
        return value

    @model_validator(mode="after")
    def _is_a_conversation(self) -> Self:
        roles = [message.role for message in self.messages]
        talk = roles[len(self.system) :]
        if "system" in talk:
            raise ValueError("a system message stands before all others")
        if not talk or talk[0] != "user" or talk[-1] != "user":
            raise ValueError("after the system messages the first message and the last are the user's")
        return self

    @property
    def system(self) -> list[str]:
        """The texts of the leading system messages."""
        texts = []
        for message in self.messages:
            if message.role != "system":
                break
            texts.append(message.content)
        return texts


class Usage(Model):
    """Tokens, as the provider counted them."""

    input_tokens: int = Field(description="All of the question, cached or not.")
    cache_read_tokens: int = Field(description="Of these: read from the provider's cache.")
    cache_write_tokens: int = Field(description="Of these: written into it.")
    output_tokens: int = Field(description="All of the answer, unseen reasoning included.")


class Cost(Model):
    """Money, by the list prices that come with REFLUX's price table."""

    amount: str = Field(description="Decimal text: what is added up must not be rounded first.")
    currency: Literal["USD"]


class Output(Model):
    """The answer of a language model."""

    text: str
    parsed: JsonValue = Field(
        description="The text as JSON when `json_schema` was given and the answer is complete; else null."
    )
    finish_reason: FinishReason = Field(
        description="`stop`: complete. `length`: cut at max_tokens or at the model's limit. `refusal`: the "
        "model or a filter of the provider declined; the text is what it said, perhaps nothing."
    )
    model: str = Field(description="As the provider names it.")
    provider: Literal["openai", "anthropic", "local"]
    id: str = Field(description="The provider's name for this answer, for its support.")
    usage: Usage | None = Field(description="Null when the provider did not say.")
    cost: Cost | None = Field(description="Null when it is not known for certain; always for `local`.")
