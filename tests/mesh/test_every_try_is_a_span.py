"""Envoy's spans: one for the call, one for each try, below the span that the call came with."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import grpc
import pytest

from reflux.controlplane.routes import Target
from reflux.core.trace import SpanContext, parse_traceparent
from reflux.runtime.collector import Collector, Endpoint
from tests.mesh.support.mesh import NODE, Mesh, mesh_on
from tests.mesh.support.node import node_fault
from tests.support.otlp import deaf_collector, nobody, running_receiver

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

PARENT = SpanContext(bytes.fromhex("0197a000000070008000000000000001"), b"\2" * 8)
RUN = "0197a000-0000-7000-8000-000000000001"
ENVELOPE = {"x_reflux_run_id": RUN, "x_reflux_step": "a/b", "x_reflux_attempt": 1}


@asynccontextmanager
async def fallen_ill(folder: Path, endpoint: str) -> AsyncIterator[Mesh]:
    """A mesh that traces; its version 1 is ill, and falls back to 2."""
    collector = Collector(Endpoint.parse(endpoint), (("x-key", "k"),))
    async with mesh_on(folder, collector) as mesh:
        one, two = await mesh.node("1"), await mesh.node("2")
        one.behaviour = node_fault()
        await mesh.route(Target("1", 10_000, ("2",)), Target("2", 0))
        two.calls.clear()
        yield mesh


async def test_a_fallback_is_two_tries_below_one_call(tmp_path: Path):
    """The call is below its caller, each try below the call, the node below the try that reached it."""
    with running_receiver() as receiver:
        async with fallen_ill(tmp_path, receiver.endpoint) as mesh:
            reply = await mesh.call(lane="broad", traceparent=str(PARENT), **ENVELOPE)
            trace = await asyncio.to_thread(receiver.trace, RUN, lambda trace: len(trace.spans) == 3)
            heard = [parse_traceparent(node.calls[-1]["traceparent"]) for node in mesh.nodes]
    assert (reply.code, reply.answer, reply.tries) == (grpc.StatusCode.OK, "2", 2)
    server = trace.one(f"node {NODE}")
    tries = trace.children(server)
    assert (server.kind, server.parent_id, server.service) == ("SERVER", PARENT.span_id.hex(), "reflux-envoy")
    assert [(each.name, each.kind, each.failed) for each in tries] == [
        (f"try {NODE}@1", "CLIENT", True),
        (f"try {NODE}@2", "CLIENT", False),
    ]
    assert [each.attributes["reflux.node.version"] for each in tries] == ["1", "2"]
    assert [context.span_id.hex() for context in heard if context] == [each.span_id for each in tries]
    for each in (server, *tries):
        assert each.attributes["reflux.run.id"] == RUN
        assert each.attributes["reflux.step"] == "a/b"
        assert each.attributes["reflux.attempt"] == "1"
        assert each.attributes["reflux.node"] == NODE
    assert receiver.headers[0]["x-key"] == "k"


async def test_envoy_never_decides_to_trace(tmp_path: Path):
    """A call without a parent, and one whose parent is not sampled, give no span; a sampled one stays so."""
    with running_receiver() as receiver:
        async with fallen_ill(tmp_path, receiver.endpoint) as mesh:
            for traceparent in ({}, {"traceparent": str(PARENT._replace(sampled=False))}):
                for _ in range(20):
                    await mesh.call(lane="broad", version="2", **traceparent, **ENVELOPE)
            flags = {parse_traceparent(call.get("traceparent", "")) for call in mesh.nodes[1].calls}
            await mesh.call(lane="broad", version="2", traceparent=str(PARENT), **ENVELOPE)
            await asyncio.to_thread(receiver.trace, RUN, lambda trace: len(trace.spans) == 2)
            await asyncio.sleep(1.0)  # twice Envoy's flush interval: what there is has come
    assert len(receiver.spans) == 2
    assert not any(context.sampled for context in flags if context is not None)


@pytest.mark.parametrize("kind", ["refused", "deaf", "hanging", "unknown name"])
async def test_a_dead_collector_harms_no_call(tmp_path: Path, kind: str):
    """Whatever is wrong with it, the mesh starts, takes new routes, and answers every call."""
    with running_receiver(hang=True) as hanging, deaf_collector() as deaf:
        endpoints = {
            "refused": nobody(),
            "deaf": deaf,
            "hanging": hanging.endpoint,
            "unknown name": "http://collector.invalid:4317",
        }
        async with fallen_ill(tmp_path, endpoints[kind]) as mesh:
            calls = (
                mesh.call(lane="broad", version="2", traceparent=str(PARENT), **ENVELOPE) for _ in range(300)
            )
            replies = await asyncio.gather(*calls)
            await mesh.route(Target("1", 0), Target("2", 10_000))
            after = await mesh.call(lane="broad", traceparent=str(PARENT), **ENVELOPE)
            tried = await mesh.proxy.stats("cluster.otel.upstream_(rq_total|cx_total|rq_pending_total)$")
    assert {reply.code for reply in (*replies, after)} == {grpc.StatusCode.OK}
    assert kind == "unknown name" or any(tried.values()), "nobody tried to tell the collector"


@pytest.mark.skipif(shutil.which("openssl") is None, reason="there is no openssl to make a certificate with")
async def test_over_tls_the_collector_is_checked(tmp_path: Path):
    """Spans arrive where the certificate is vouched for, and nowhere else."""
    certificate, key = _self_signed(tmp_path)
    credentials = grpc.ssl_server_credentials([(key, certificate)])
    other, _ = _self_signed(tmp_path / "other")
    with running_receiver(credentials=credentials) as receiver:
        for number, authority in enumerate((other, certificate)):
            collector = Collector(Endpoint.parse(receiver.endpoint), (), authority)
            folder = tmp_path / str(number)
            folder.mkdir()
            async with mesh_on(folder, collector) as mesh:
                await mesh.node("1")
                await mesh.route(Target("1", 10_000))
                await mesh.call(lane="broad", traceparent=str(PARENT), **ENVELOPE)
                if authority is certificate:
                    await asyncio.to_thread(receiver.trace, RUN, lambda trace: len(trace.spans) == 2)
                else:
                    async with asyncio.timeout(20):
                        while not any((await mesh.proxy.stats("cluster.otel.ssl.fail_verify")).values()):
                            await asyncio.sleep(0.05)
                    assert receiver.requests == 0


def _self_signed(folder: Path) -> tuple[bytes, bytes]:
    """A certificate for 127.0.0.1 and its key, both PEM."""
    folder.mkdir(exist_ok=True)
    key, certificate = folder / "key.pem", folder / "cert.pem"
    command = (
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
    )
    subject = ("-subj", "/CN=collector", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2")
    files = ("-keyout", str(key), "-out", str(certificate))
    subprocess.run([*command, *subject, *files], check=True, capture_output=True)
    return certificate.read_bytes(), key.read_bytes()
