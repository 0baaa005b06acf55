"""Server-sent events on the wire (WHATWG HTML, section 9.2), as bytes ready to send."""

from __future__ import annotations

from typing import Final

OPENING: Final = b"retry: 1000\n\n"
"""First on every stream: a client whose stream was cut waits 1 s before it reconnects."""
HEARTBEAT: Final = b":\n\n"
"""A comment without text: nobody but proxies and people takes notice."""


def comment(text: str) -> bytes:
    """A line for people who look at the raw stream."""
    return f": {' '.join(text.split())}\n\n".encode()


def event(seq: int, kind: str, document: bytes) -> bytes:
    """One fact; `seq` is what a client sends back as Last-Event-ID."""
    return f"id: {seq}\nevent: {kind}\n".encode() + _data(document)


def end(seq: int) -> bytes:
    """Nothing follows. It has data because browsers drop an event without any; `seq` is the last fact's."""
    return b"event: end\n" + _data(b'{"seq":%d}' % seq)


def _data(document: bytes) -> bytes:
    return b"".join(b"data: " + line + b"\n" for line in document.splitlines()) + b"\n"
