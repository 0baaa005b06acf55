"""Structured event logs on top of the standard library.

A log line is an *event*: a stable snake_case name and key-values. Context is bound once
(`get_logger("orchestrator").bind(run_id=run_id)`) and travels with the logger; bound loggers are values,
so binding never changes the logger of anybody else.

Rules:
- Standard `logging` stays underneath: records of libraries come out in the same shape, with their message
  as the event.
- Never a secret. Values whose key names a secret, and passwords inside any URL or connection string, are
  replaced before a record is formatted, also inside exception texts. What was told to be a secret
  (`keep_out`) is replaced wherever it stands in a line, whoever writes it.
- One line per event on stderr, whatever the values contain; the supervisor turns stderr into a file.
"""

from __future__ import annotations

import logging
import re
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, TextIO

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from reflux.runtime.settings import LogFormat

_FIELDS: Final = "reflux_fields"
_REDACTED: Final = "***"
_SECRET_KEY: Final = re.compile(
    r"(^|[_.-])(password|passwd|passphrase|secret|secrets|credential|credentials|authorization|cookie"
    r"|api[_-]?key|private[_-]?key|(access|auth|api|bearer|refresh|session)[_-]?token)$",
    re.IGNORECASE,
)
_URL_PASSWORD: Final = re.compile(r"(?P<head>[a-z][a-z0-9+.-]*://[^\s:/@]*):[^\s/@]*@", re.IGNORECASE)
_DSN_PASSWORD: Final = re.compile(r"(?P<head>\bpassword\s*=\s*)('(?:[^'\\]|\\.)*'|[^\s&]+)", re.IGNORECASE)


def redact(text: str) -> str:
    """`text` without the passwords of URLs (`scheme://user:…@host`) and connection strings (`password=…`)."""
    text = _URL_PASSWORD.sub(rf"\g<head>:{_REDACTED}@", text)
    return _DSN_PASSWORD.sub(rf"\g<head>{_REDACTED}", text)


_KEPT_OUT: Final[dict[str, None]] = {}
_MAX_KEPT_OUT: Final = 1_000


def keep_out(secrets: Iterable[str]) -> None:
    """Never write these texts to a log of this process; the latest thousand are remembered."""
    for secret in secrets:
        for form in {secret, orjson.dumps(secret)[1:-1].decode()}:
            _KEPT_OUT.pop(form, None)
            _KEPT_OUT[form] = None
    while len(_KEPT_OUT) > _MAX_KEPT_OUT:
        del _KEPT_OUT[next(iter(_KEPT_OUT))]


def _without_secrets(line: str) -> str:
    for secret in tuple(_KEPT_OUT):
        line = line.replace(secret, _REDACTED)
    return line


@dataclass(frozen=True, slots=True)
class Logger:
    """Writes events under one logger name with bound key-values.

    >>> log = get_logger("registry").bind(node="http.request")
    >>> log.info("lease_expired", version="1.0.0", lease_seconds=10)
    """

    name: str
    fields: Mapping[str, object] = field(default_factory=dict)

    def bind(self, **fields: object) -> Logger:
        """A logger that adds `fields` to every event; the later binding of a key wins."""
        return Logger(self.name, {**self.fields, **fields})

    def debug(self, event: str, **fields: object) -> None:
        """What a developer of this part wants to see."""
        self._log(logging.DEBUG, event, fields)

    def info(self, event: str, **fields: object) -> None:
        """What an operator may want to know; nothing to do."""
        self._log(logging.INFO, event, fields)

    def warning(self, event: str, **fields: object) -> None:
        """Handled here, but somebody should know."""
        self._log(logging.WARNING, event, fields)

    def error(self, event: str, **fields: object) -> None:
        """Something promised could not be done."""
        self._log(logging.ERROR, event, fields)

    def exception(self, event: str, **fields: object) -> None:
        """An error with the traceback of the exception being handled."""
        self._log(logging.ERROR, event, fields, exc_info=True)

    def _log(self, level: int, event: str, fields: Mapping[str, object], *, exc_info: bool = False) -> None:
        target = logging.getLogger(self.name)
        if target.isEnabledFor(level):
            extra = {_FIELDS: {**self.fields, **fields}}
            target.log(level, event, exc_info=exc_info, extra=extra, stacklevel=3)


def get_logger(name: str) -> Logger:
    """The logger called `name` (the service or module that speaks), nothing bound."""
    return Logger(name)


def configure(*, service: str, level: str, log_format: LogFormat, stream: TextIO | None = None) -> None:
    """Send every record of this process to `stream`, stderr if not given, one line each.

    Args:
        service: name of the process, a field of every JSON line.
        level: smallest level written, such as `info`.
        log_format: `json` for machines, `console` for people.
        stream: where to; it must be unbuffered or line buffered.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(_JsonFormatter(service) if log_format == "json" else _ConsoleFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(capture=True)
    # A log that cannot be written must not become output of its own.
    logging.raiseExceptions = False


def _safe_fields(record: logging.LogRecord) -> dict[str, Any]:
    fields: Mapping[str, Any] = getattr(record, _FIELDS, {})
    return {key: _safe(key, value) for key, value in fields.items()}


def _safe(key: str, value: object) -> object:
    if _SECRET_KEY.search(key):
        return _REDACTED
    if isinstance(value, bool | int | float) or value is None:
        return value
    if isinstance(value, dict):
        return {str(inner): _safe(str(inner), item) for inner, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset) and not hasattr(value, "_fields"):
        return [_safe(key, item) for item in value]
    return redact(str(value))


class _JsonFormatter(logging.Formatter):
    """`{"time", "level", "service", "logger", "event", …fields, "exception"?}`; time is RFC 3339, UTC."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": _time(record).isoformat(timespec="microseconds"),
            "level": record.levelname.lower(),
            "service": self._service,
            "logger": record.name,
            "event": redact(record.getMessage()),
        }
        line |= {key: value for key, value in _safe_fields(record).items() if key not in line}
        if record.exc_info:
            line["exception"] = redact(self.formatException(record.exc_info))
        return _without_secrets(orjson.dumps(line, default=str, option=orjson.OPT_NON_STR_KEYS).decode())


class _ConsoleFormatter(logging.Formatter):
    """`12:00:00.123 INFO    orchestrator  run_started run_id=…`; a traceback follows on its own lines."""

    def format(self, record: logging.LogRecord) -> str:
        fields = "".join(f" {key}={_plain(value)}" for key, value in _safe_fields(record).items())
        stamp = _time(record).strftime("%H:%M:%S.%f")[:-3]
        event = _plain(redact(record.getMessage()), spaces=True)
        line = f"{stamp} {record.levelname:<7} {record.name}  {event}{fields}"
        if record.exc_info:
            line += "\n" + redact(self.formatException(record.exc_info))
        return _without_secrets(line)


def _time(record: logging.LogRecord) -> datetime:
    return datetime.fromtimestamp(record.created, tz=UTC)


def _plain(value: object, *, spaces: bool = False) -> str:
    text = str(value)
    if text.isprintable() and (spaces or (text and " " not in text)):
        return text
    return orjson.dumps(text).decode()
