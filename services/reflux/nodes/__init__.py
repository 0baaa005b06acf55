"""The node versions that come with REFLUX: one folder per node, one module per version.

Owns: what `ai.chat`, `http.request`, `payment.*` and `transform.execute` do. Calls: the outside world, for
whoever calls; the registry and the orchestrator only through `reflux.sdk`. Called by: the mesh.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from reflux.sdk import NodeVersion

# A sandbox child is forked and executed at once, so gRPC need not halt and restart its threads around each
# fork. gRPC reads this when it is first imported, which no node has done by now.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")

SHIPPED: Final[Mapping[str, str]] = {
    "ai.chat@openai": "reflux.nodes.ai_chat.versions:openai",
    "ai.chat@anthropic": "reflux.nodes.ai_chat.versions:anthropic",
    "ai.chat@local": "reflux.nodes.ai_chat.versions:local",
    "http.request@1.0.0": "reflux.nodes.http_request.v1:request",
    "http.request@2.0.0": "reflux.nodes.http_request.v2:request",
    "payment.charge@stripe": "reflux.nodes.payment.versions:stripe",
    "payment.charge@paypal": "reflux.nodes.payment.versions:paypal",
    "payment.charge@square": "reflux.nodes.payment.versions:square",
    "payment.refund@1.0.0": "reflux.nodes.payment.versions:refund",
    "transform.execute@1.0.0": "reflux.nodes.transform_execute.v1:execute",
}
"""Where each version is, so that their names are known without importing what they need."""


def load(name: str) -> NodeVersion:
    """The version called `name`, e.g. `http.request@1.0.0`.

    Raises:
        KeyError: it is not shipped.
    """
    module, _, attribute = SHIPPED[name].partition(":")
    version: NodeVersion = getattr(importlib.import_module(module), attribute)
    return version


def catalog() -> tuple[NodeVersion, ...]:
    """Every version that is shipped."""
    return tuple(load(name) for name in SHIPPED)
