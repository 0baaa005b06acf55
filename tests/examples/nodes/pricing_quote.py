"""A node version of your own: one decorated function, served as a gRPC service.

python pricing_quote.py
"""

import asyncio
from datetime import timedelta

from reflux.runtime import process
from reflux.runtime.settings import Settings
from reflux.sdk import Context, EffectClass, Model, node, serve


class Article(Model):
    """What a caller sends. Anything else is refused before the function runs."""

    sku: str
    quantity: int = 1


class Quote(Model):
    """What a caller gets, in cents."""

    total: int


@node("pricing.quote", "1.0.0", effect=EffectClass.PURE, attempt_timeout=timedelta(seconds=5))
async def quote(article: Article, ctx: Context[None]) -> Quote:
    """Price of an article, in cents."""
    ctx.log.info("quoting", sku=article.sku)
    return Quote(total=100 * len(article.sku) * article.quantity)


if __name__ == "__main__":
    settings = Settings.load()
    ready = asyncio.Event()
    process.run(serve([quote], settings, ready=ready), name="pricing.quote", settings=settings, ready=ready)
