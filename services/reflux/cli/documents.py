"""Documents on disk: read as the server reads them, written so that reading gives the same again.

A file is JSON or YAML, by its ending, else by its content. The server's own reader checks it here first, so a
misplaced brace is told with its line and column before anything is sent.

What is written is YAML that both YAML 1.1 (PyYAML, many editors) and 1.2 (our reader) take for the same
value: a text that either would take for something else stands in quotes. Long texts are blocks, aliases are
never used, keys keep their order.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from reflux.cli.failures import wrong

if TYPE_CHECKING:
    import yaml
    from google.api.httpbody_pb2 import HttpBody  # type: ignore[import-untyped]

JSON: Final = "application/json"
YAML: Final = "application/yaml"
STDIN: Final = "-"

_YAML_12: Final = re.compile(r"[-+]?(\.?[0-9]|0[ox]|\.(inf|nan))|~$|null$|true$|false$|$", re.IGNORECASE)
"""What YAML 1.2's core schema may take for a number or a word; too much rather than too little."""


@dataclass(frozen=True, slots=True)
class Document:
    """A document that was read.

    Attributes:
        name: of its file, for messages.
        raw: as it was written.
        content_type: `application/json` or `application/yaml`.
        value: what it says.
        written: as a person wrote it, when `raw` was made from that.
    """

    name: str
    raw: bytes
    content_type: str
    value: Any
    written: bytes | None = None

    def body(self) -> HttpBody:
        """As it crosses the API."""
        return to_body(self.raw, self.content_type)

    def line(self, pointer: str) -> int | None:
        """The line, from 1, of the place a JSON pointer names, or of the nearest place around it."""
        lines = lines_of(self.raw if self.written is None else self.written)
        while pointer not in lines:
            if not pointer:
                return None
            pointer = pointer.rpartition("/")[0]
        return lines[pointer]


def read(name: str) -> Document:
    """The document in the file `name`; `-` is stdin.

    Raises:
        CommandError: the file cannot be read, or is empty.
        InvalidArgument: it is neither JSON nor YAML, or breaks a bound; with line and column.
    """
    from reflux.core.errors import InvalidArgument
    from reflux.runtime import documents

    raw = _bytes(name)
    label = "stdin" if name == STDIN else name
    if not raw.strip():
        raise wrong(f"{label} is empty")
    suffix = Path(name).suffix.lower()
    if suffix in {".yaml", ".yml"}:
        kind = YAML
    elif suffix == ".json" or raw.lstrip()[:1] in (b"{", b"["):
        kind = JSON
    else:
        kind = YAML
    try:
        return Document(label, raw, kind, documents.parse(to_body(raw, kind), what=label))
    except InvalidArgument:
        if kind == YAML or suffix == ".json":
            raise
        try:  # YAML may begin with a brace too
            return Document(label, raw, YAML, documents.parse(to_body(raw, YAML), what=label))
        except InvalidArgument:
            pass
        raise


def of_value(value: Any, name: str) -> Document:
    """A document that was made here."""
    import orjson

    return Document(name, orjson.dumps(value), JSON, value, written=b"")


def to_body(raw: bytes, content_type: str = JSON) -> HttpBody:
    """Bytes as they cross the API."""
    from google.api.httpbody_pb2 import HttpBody

    return HttpBody(content_type=content_type, data=raw)


def _bytes(name: str) -> bytes:
    if name == STDIN:
        return sys.stdin.buffer.read()
    try:
        return Path(name).read_bytes()
    except OSError as error:
        raise wrong(f"cannot read {name}: {error.strerror}") from error


def lines_of(raw: bytes) -> dict[str, int]:
    """The line of every place in a JSON or YAML text, by JSON pointer; empty when it cannot be read."""
    import yaml

    lines: dict[str, int] = {}
    try:
        root = yaml.compose(raw.decode(), Loader=yaml.CSafeLoader)
    except (yaml.YAMLError, UnicodeDecodeError):
        return lines
    todo: list[tuple[str, yaml.Node, int]] = [("", root, 0)] if root else []
    while todo:
        pointer, node, line = todo.pop()
        lines[pointer] = line + 1
        if isinstance(node, yaml.MappingNode):
            for key, item in node.value:
                name = str(key.value).replace("~", "~0").replace("/", "~1")
                todo.append((f"{pointer}/{name}", item, key.start_mark.line))
        elif isinstance(node, yaml.SequenceNode):
            todo += [(f"{pointer}/{i}", item, item.start_mark.line) for i, item in enumerate(node.value)]
    return lines


def to_yaml(value: Any) -> str:
    """A JSON value as YAML that reads back as the same value."""
    import yaml

    class Dumper(yaml.SafeDumper):
        def ignore_aliases(self, data: Any) -> bool:
            del data
            return True

    Dumper.add_representer(str, _represent_text)
    text: str = yaml.dump(
        value, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=1_000_000, default_flow_style=False
    )
    return text.removesuffix("...\n")  # PyYAML's end of a bare scalar


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    style = None
    if not text.replace("\n", "").isprintable():
        style = '"'  # escaped: some of these are line breaks in YAML (U+0085, U+2028) and would be lost
    elif "\n" in text.strip("\n"):
        style = "|"  # PyYAML falls back to quotes where a block cannot say it
    elif _YAML_12.match(text):
        style = "'"
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


def looks_like_a_file(text: str) -> bool:
    """Whether an argument that may be a file or a name is a file: a path, a known ending, or stdin."""
    return text == STDIN or "/" in text or Path(text).suffix.lower() in {".json", ".yaml", ".yml"}
