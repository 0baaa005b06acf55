"""Fixtures of every level: real servers, started when a test first asks for one."""

import gc
import os

# Read when gRPC starts, so before anything that uses it: tests start processes while channels are open, and
# gRPC's fork handlers would close descriptors in the child.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "false"

pytest_plugins = ["tests.support.postgres", "tests.support.valkey"]


def pytest_collection_finish() -> None:
    """Thousands of tests and their modules stay to the end: no collection of garbage need look at them."""
    gc.collect()
    gc.freeze()
