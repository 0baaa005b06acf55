"""A version of `http.request` that is ill from the start: every call is a NodeFault, and falls back.

with ill_version(stack, environment):
    …  # http.request@0.9.0 is registered
"""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta

import grpc

from reflux.nodes.http_request.model import EFFECT, Input, Output
from reflux.runtime import process
from reflux.runtime.settings import Settings
from reflux.sdk import Context, NodeFault, node, serve
from tests.support.stack import Stack

VERSION = "0.9.0"
START_SECONDS = 30


@node("http.request", VERSION, effect=EFFECT, attempt_timeout=timedelta(seconds=5), claims_itself=True)
async def request(given: Input, ctx: Context[None]) -> Output:
    """Always ill."""
    raise NodeFault(grpc.StatusCode.UNAVAILABLE, f"no connection for {given.method}")


@contextmanager
def ill_version(stack: Stack, environment: Mapping[str, str]) -> Iterator[None]:
    """The version beside a stack, in the mesh within the body."""
    registry = f"127.0.0.1:{stack.state['ports']['registry']}"
    own = {**os.environ, **environment, "REFLUX_REGISTRY_ADDRESS": registry}
    started = subprocess.Popen([sys.executable, "-m", "tests.support.ill_node"], env=own)
    try:
        deadline = time.monotonic() + START_SECONDS
        while not _is_known(stack):
            assert time.monotonic() < deadline, "the node did not register"
            time.sleep(0.1)
        yield
    finally:
        started.terminate()
        started.wait(START_SECONDS)


def _is_known(stack: Stack) -> bool:
    versions = stack.rest.get("/api/nodes/http.request/versions")["versions"]
    return any(each["version"] == VERSION and each["state"] == "LIVE" for each in versions)


if __name__ == "__main__":
    settings = Settings.load()
    ready = asyncio.Event()
    process.run(serve([request], settings, ready=ready), name="ill", settings=settings, ready=ready)
