"""Names and ids as people and programs write them.

A name is `[a-z][a-z0-9._-]{0,62}`; a UUID form is always an id, anything else a name, so one path segment of
the API can take either. A node version is written `node@version`.
"""

import re
from typing import NewType

RunId = NewType("RunId", str)
FlowId = NewType("FlowId", str)
StepPath = NewType("StepPath", str)

UNDO = "~compensate"
"""Ends the path of what undoes the step before it."""

NAME_RULE = "a lower-case letter, then at most 62 of a-z 0-9 . _ -"

_NAME = re.compile(r"[a-z][a-z0-9._-]{0,62}")
_VERSION = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)


def is_name(text: str) -> bool:
    """Whether `text` may name a flow, a node or a trigger."""
    return _NAME.fullmatch(text) is not None and not is_id(text)


def is_id(text: str) -> bool:
    """Whether `text` is a UUID, in letters of any case; who keeps or compares one makes them lower."""
    return _UUID.fullmatch(text) is not None


def is_version(text: str) -> bool:
    """Whether `text` may be the version of a node, e.g. `1.0.0` or `anthropic-claude`."""
    return _VERSION.fullmatch(text) is not None


def split_node(text: str) -> tuple[str, str | None]:
    """`http.request@1.0.0` as (`http.request`, `1.0.0`); without a version as (name, None).

    Raises:
        ValueError: `text` is neither `name` nor `name@version`.
    """
    name, at, version = text.partition("@")
    if not is_name(name) or (at and not is_version(version)):
        raise ValueError(f"{text!r} is not a node: write name or name@version")
    return name, version if at else None
