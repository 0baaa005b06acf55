"""The descriptor set, indexed by full name.

Works on the raw `FileDescriptorProto`s because only they carry the comments. Names are full and without the
leading dot (`reflux.api.run.v1.Run.State`); `short` drops the package (`Run.State`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.resources import files
from typing import TYPE_CHECKING, Self

from google.api import annotations_pb2  # type: ignore[import-untyped]
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    MethodDescriptorProto,
)

from reflux.api.document.v1 import document_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator

# The options of a method. They must be registered before the set is parsed, or they are not understood.
HTTP = annotations_pb2.http
REQUEST, RESPONSE = document_pb2.request, document_pb2.response

_MESSAGE, _ENUM, _SERVICE = 4, 5, 6  # field numbers in FileDescriptorProto: the first step of a path
_FIELD, _NESTED, _NESTED_ENUM, _VALUE, _METHOD = 2, 3, 4, 2, 2  # and in what is nested


@dataclass(frozen=True, slots=True)
class Service:
    """A service and its methods by full name, in the order of the file."""

    name: str
    short: str
    methods: dict[str, MethodDescriptorProto]


@dataclass(frozen=True, slots=True)
class Api:
    """Everything in the set, by full name."""

    messages: dict[str, DescriptorProto] = field(default_factory=dict)
    enums: dict[str, EnumDescriptorProto] = field(default_factory=dict)
    services: list[Service] = field(default_factory=list)
    shorts: dict[str, str] = field(default_factory=dict)
    comments: dict[str, str] = field(default_factory=dict)

    @classmethod
    def load(cls) -> Self:
        """Read the set that `proto/generate` wrote into the package."""
        data = files("reflux.api").joinpath("reflux.binpb").read_bytes()
        api = cls()
        for file in FileDescriptorSet.FromString(data).file:
            api._add_file(file)
        return api

    def comment(self, name: str) -> str:
        """What the .proto file says of `name`, paragraphs parted by an empty line; else empty."""
        return self.comments.get(name, "")

    def _add_file(self, file: FileDescriptorProto) -> None:
        comments = {
            tuple(location.path): _reflow(location.leading_comments)
            for location in file.source_code_info.location
            if location.leading_comments
        }
        for name, path in self._walk(file):
            self.shorts[name] = name.removeprefix(f"{file.package}.")
            if text := comments.get(path):
                self.comments[name] = text if file.package.startswith("reflux.") else text.split("\n\n")[0]

    def _walk(self, file: FileDescriptorProto) -> Iterator[tuple[str, tuple[int, ...]]]:
        for index, message in enumerate(file.message_type):
            yield from self._walk_message(f"{file.package}.{message.name}", (_MESSAGE, index), message)
        for index, enum in enumerate(file.enum_type):
            yield from self._walk_enum(f"{file.package}.{enum.name}", (_ENUM, index), enum)
        for index, described in enumerate(file.service):
            name, path = f"{file.package}.{described.name}", (_SERVICE, index)
            methods = {f"{name}.{method.name}": method for method in described.method}
            self.services.append(Service(name, described.name, methods))
            yield name, path
            yield from ((method, (*path, _METHOD, number)) for number, method in enumerate(methods))

    def _walk_message(
        self, name: str, path: tuple[int, ...], message: DescriptorProto
    ) -> Iterator[tuple[str, tuple[int, ...]]]:
        self.messages[name] = message
        yield name, path
        for index, member in enumerate(message.field):
            yield f"{name}.{member.name}", (*path, _FIELD, index)
        for index, nested in enumerate(message.nested_type):
            yield from self._walk_message(f"{name}.{nested.name}", (*path, _NESTED, index), nested)
        for index, enum in enumerate(message.enum_type):
            yield from self._walk_enum(f"{name}.{enum.name}", (*path, _NESTED_ENUM, index), enum)

    def _walk_enum(
        self, name: str, path: tuple[int, ...], enum: EnumDescriptorProto
    ) -> Iterator[tuple[str, tuple[int, ...]]]:
        self.enums[name] = enum
        yield name, path
        for index, value in enumerate(enum.value):
            yield f"{name}.{value.name}", (*path, _VALUE, index)


def _reflow(comment: str) -> str:
    """The lines of a paragraph joined, paragraphs kept."""
    paragraphs = "\n".join(line.strip() for line in comment.strip().splitlines()).split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
