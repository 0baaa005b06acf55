"""Fixtures of every level: real servers, started when a test first asks for one."""

pytest_plugins = ["tests.support.postgres", "tests.support.valkey"]
