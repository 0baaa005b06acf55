"""What Envoy says on the wire, as the subscription takes it."""

from __future__ import annotations

from typing import Any

import pytest

from reflux.controlplane import server
from reflux.controlplane.envoy import xds


@pytest.mark.parametrize(("said", "error"), [("no", "no"), ("", "refused without a word"), (None, "")])
def test_a_refusal_is_told_from_an_acknowledgement(said: str | None, error: str) -> None:
    """By the presence of an error, never by its text: an empty one must not count as yes."""
    message: Any = xds.message_class("envoy.service.discovery.v3.DiscoveryRequest")()
    message.type_url = xds.type_url(xds.ROUTE)
    if said is not None:
        message.error_detail.message = said
        message.error_detail.code = 13
    assert server._request(message).error == error
