"""What an answer costs by its provider's list prices, or nothing when that is not certain.

The prices are the table that `genai-prices` ships; its updater, which would fetch a newer one, is never
started. Null for a model that the table does not have, for tiers with prices of their own, and for `local`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from reflux.nodes.ai_chat.model import Cost

if TYPE_CHECKING:
    from reflux.nodes.ai_chat.access import ProviderName
    from reflux.nodes.ai_chat.draft import Draft


def load() -> None:
    """Import the table, which takes half a second; for a thread."""
    from genai_prices.data_snapshot import get_snapshot

    get_snapshot()


def cost_of(answer: Draft, provider: ProviderName) -> Cost | None:
    """The price of a whole answer, in US dollars."""
    if provider == "local" or answer.usage is None or not answer.standard_tier:
        return None
    from genai_prices import Usage, calc_price

    used = answer.usage
    tokens = Usage(
        input_tokens=used.input_tokens,
        cache_read_tokens=used.cache_read_tokens or None,
        cache_write_tokens=used.cache_write_tokens or None,
        output_tokens=used.output_tokens,
    )
    try:
        price = calc_price(tokens, answer.model, provider_id=provider)
    except (LookupError, ValueError):
        return None
    return Cost(amount=f"{price.total_price.normalize():f}", currency="USD")
