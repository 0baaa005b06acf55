"""Each question of `ai.chat` is a span, by OpenTelemetry's GenAI conventions; no word of it is in there."""

import pytest

from reflux.core.trace import SpanContext
from reflux.runtime.collector import Collector, Endpoint
from reflux.runtime.trace_export import exporting
from tests.support.otlp import running_receiver
from tests.unit.nodes.chat import ASKED, VERSIONS, chat

PARENT = SpanContext(b"\1" * 16, b"\2" * 8)


@pytest.fixture(params=VERSIONS)
def version(request):
    return request.param


async def traced(provider, version):
    """The spans of one call, that of the node first."""
    with running_receiver() as receiver:
        async with (
            exporting(Collector(Endpoint.parse(receiver.endpoint))) as exporter,
            chat(provider, version, exporter=exporter) as call,
        ):
            await call(ASKED, timeout=60, traceparent=str(PARENT), effect="pure")
        return sorted(receiver.spans, key=lambda span: span.kind != "SERVER")


async def test_a_question_is_a_span_below_that_of_the_call(provider, version):
    """Who was asked for which model, who answered as what, and how many tokens it took."""
    server, asked = await traced(provider, version)
    assert (asked.kind, asked.parent_id, asked.failed) == ("CLIENT", server.span_id, False)
    assert asked.name == f"chat {asked.attributes['gen_ai.request.model']}"
    assert asked.attributes["gen_ai.provider.name"] == version
    assert asked.attributes["gen_ai.usage.output_tokens"] == 5
    assert "one two three" not in repr((server, asked))


async def test_a_provider_that_fails_leaves_a_failed_span(provider, version):
    """The error is told in both."""
    provider.tell(version, "status", status=500)
    server, asked = await traced(provider, version)
    assert (asked.failed, server.failed) == (True, True)
