"""Fixtures of every level: real servers, started when a test first asks for one."""

import os

# Read when gRPC starts, so before anything that uses it: tests start processes while channels are open, and
# gRPC's fork handlers would close descriptors in the child.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "false"

pytest_plugins = ["tests.support.postgres", "tests.support.valkey"]
