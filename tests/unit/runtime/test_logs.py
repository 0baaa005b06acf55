"""Logs are events with bound key-values, in one shape, without secrets."""

from __future__ import annotations

import io
import json
import logging
from typing import TYPE_CHECKING, Any

import pytest

from reflux.runtime import logs

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _restored_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)


def written(log_format: Any, level: str = "debug") -> io.StringIO:
    """Configure logging into a text that can be looked at."""
    stream = io.StringIO()
    logs.configure(service="registry", level=level, log_format=log_format, stream=stream)
    return stream


def test_an_event_is_one_json_object_with_its_bound_and_its_own_fields() -> None:
    """Name, level, service, logger and every key-value, with types kept."""
    stream = written("json")
    logs.get_logger("leases").bind(node="http.request").info("lease_expired", seconds=10, ok=False)
    event = json.loads(stream.getvalue())
    assert event.pop("time").endswith("+00:00")
    assert event == {
        "level": "info",
        "service": "registry",
        "logger": "leases",
        "event": "lease_expired",
        "node": "http.request",
        "seconds": 10,
        "ok": False,
    }


def test_binding_does_not_change_the_logger_that_was_bound() -> None:
    """Loggers are values; the later binding of a key wins."""
    stream = written("json")
    base = logs.get_logger("x").bind(a=1)
    base.bind(a=2, b=3).info("one")
    base.info("two")
    one, two = map(json.loads, stream.getvalue().splitlines())
    assert (one["a"], one["b"], two["a"]) == (2, 3, 1)
    assert "b" not in two


def test_records_of_libraries_have_the_same_shape() -> None:
    """Their message is the event."""
    stream = written("json")
    logging.getLogger("library").warning("took %s s", 3)
    assert json.loads(stream.getvalue())["event"] == "took 3 s"


def test_below_the_level_nothing_is_written() -> None:
    """`info` hides debug events."""
    stream = written("json", level="info")
    logs.get_logger("x").debug("hidden")
    assert stream.getvalue() == ""


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_secrets_are_replaced_wherever_they_stand(log_format: str) -> None:
    """By key, in URLs, in connection strings, in nested values, in exception texts."""
    stream = written(log_format)
    log = logs.get_logger("x")
    log.info("a", password="hunter2", api_key="hunter2", nested={"authorization": "hunter2"})
    log.info("b", dsn="postgresql://reflux:hunter2@127.0.0.1/reflux", url="redis://:hunter2@h:1")
    log.info("c", text="host=h password=hunter2 dbname=d")
    try:
        int("postgresql://u:hunter2@h/d")
    except ValueError:
        log.exception("d")
    logging.getLogger("library").info("connecting to redis://:hunter2@h")
    assert "hunter2" not in stream.getvalue()
    assert "127.0.0.1/reflux" in stream.getvalue()


def test_a_fencing_token_is_not_a_secret() -> None:
    """What operators need to see stays visible."""
    stream = written("json")
    logs.get_logger("x").info("a", fencing_token=7, page_token="p")
    event = json.loads(stream.getvalue())
    assert (event["fencing_token"], event["page_token"]) == (7, "p")


def test_a_value_cannot_forge_a_second_line() -> None:
    """Line ends inside values are escaped in both formats."""
    for log_format in ("json", "console"):
        stream = written(log_format)
        logs.get_logger("x").info("a", name="b\n12:00:00 INFO forged")
        assert len(stream.getvalue().splitlines()) == 1


def test_a_console_line_shows_event_and_fields() -> None:
    """What a person reads."""
    stream = written("console")
    logs.get_logger("x").bind(run_id="r1").info("run_started", reason="a person asked")
    assert stream.getvalue().rstrip().endswith('INFO    x  run_started run_id=r1 reason="a person asked"')
