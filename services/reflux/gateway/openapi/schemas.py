"""Messages and enums as JSON Schema 2020-12 of their proto3 JSON form, as the edge prints and reads it.

Property names are the field names, 64-bit integers are strings, enums are their value's name. A message
becomes a component under its short name when something first refers to it; two messages with one short name
would be a mistake in the API and are refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeAlias

from google.protobuf.descriptor_pb2 import FieldDescriptorProto

from reflux.core.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Iterable

    from reflux.gateway.openapi.descriptors import Api

Schema: TypeAlias = dict[str, Any]

_INT32: Final[Schema] = {"type": "integer", "format": "int32"}
_INT64: Final[Schema] = {"type": "string", "format": "int64"}
_SCALARS: Final[dict[int, Schema]] = {
    FieldDescriptorProto.TYPE_STRING: {"type": "string"},
    FieldDescriptorProto.TYPE_BOOL: {"type": "boolean"},
    FieldDescriptorProto.TYPE_BYTES: {"type": "string", "contentEncoding": "base64"},
    FieldDescriptorProto.TYPE_INT32: _INT32,
    FieldDescriptorProto.TYPE_INT64: _INT64,
    FieldDescriptorProto.TYPE_DOUBLE: {"type": "number"},
}
_WELL_KNOWN: Final[dict[str, Schema]] = {
    "google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    "google.protobuf.Duration": {"type": "string", "pattern": r"^-?\d+(\.\d{1,9})?s$", "examples": ["1.5s"]},
    "google.protobuf.Empty": {"type": "object", "maxProperties": 0},
    "google.protobuf.Value": {},  # any JSON
    "google.api.HttpBody": {},
}
_REASON: Final[Schema] = {"$ref": "#/components/schemas/Reason"}
_CLOSED: Final[dict[str, Schema]] = {  # strings in the descriptors that have few values
    "google.rpc.ErrorInfo.reason": _REASON,
    "google.rpc.ErrorInfo.domain": {"const": "reflux.dev"},
    "reflux.api.run.v1.Error.reason": _REASON,
}
_UNUSED: Final = "Never sent."
"""The comment of an enum value that only exists because protobuf wants a zero."""


class Schemas:
    """The components that were referred to."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._owners: dict[str, str] = {}
        self._components: dict[str, Schema] = {
            "Reason": {
                "type": "string",
                "description": "What a program may branch on; stable for ever.",
                "enum": [reason.value for reason in Reason],
            }
        }

    def components(self) -> dict[str, Schema]:
        """Every component, by name."""
        return dict(sorted(self._components.items()))

    def define(self, name: str, schema: Schema) -> None:
        """Add a component that no descriptor knows."""
        self._components[name] = schema

    def named(self, full_name: str) -> Schema:
        """The schema, or a reference to the component, of a message or an enum.

        Raises:
            NotImplementedError: another message has the same short name.
        """
        if (known := _WELL_KNOWN.get(full_name)) is not None:
            return dict(known)
        short = self._api.shorts[full_name]
        if (owner := self._owners.setdefault(short, full_name)) != full_name:
            raise NotImplementedError(f"{full_name} and {owner} have the same name in the document")
        if short not in self._components:
            self._components[short] = {}  # first the place: a message may contain itself
            is_enum = full_name in self._api.enums
            self._components[short] = self._enum(full_name) if is_enum else self._message(full_name)
        return {"$ref": f"#/components/schemas/{short}"}

    def field(self, owner: str, field: FieldDescriptorProto) -> Schema:
        """The schema of one field of the message `owner`, with its comment.

        Raises:
            NotImplementedError: the field has a type that no message of the API used before.
        """
        full_name = f"{owner}.{field.name}"
        schema = _CLOSED.get(full_name) or self._value(full_name, field)
        comment = self._api.comment(full_name)
        return {**schema, "description": comment} if comment else dict(schema)

    def object_of(self, owner: str, fields: Iterable[FieldDescriptorProto]) -> Schema:
        """An object with these fields of the message `owner`."""
        return {"type": "object", "properties": {field.name: self.field(owner, field) for field in fields}}

    def _value(self, full_name: str, field: FieldDescriptorProto) -> Schema:
        type_name = field.type_name.removeprefix(".")
        message = self._api.messages.get(type_name)
        if message is not None and message.options.map_entry:
            return {"type": "object", "additionalProperties": self._value(full_name, message.field[1])}
        schema = self.named(type_name) if type_name else _SCALARS.get(field.type)
        if schema is None:
            raise NotImplementedError(f"{full_name} has a type that the document cannot describe yet")
        if field.label == FieldDescriptorProto.LABEL_REPEATED:
            return {"type": "array", "items": schema}
        return schema

    def _message(self, full_name: str) -> Schema:
        schema = self.object_of(full_name, self._api.messages[full_name].field)
        return {**self._described(full_name), **schema}

    def _enum(self, full_name: str) -> Schema:
        values = [value.name for value in self._api.enums[full_name].value]
        comments = {value: self._api.comment(f"{full_name}.{value}") for value in values}
        used = {value: comment for value, comment in comments.items() if comment != _UNUSED}
        lines = [self._api.comment(full_name), "", *(f"- {name}: {text}" for name, text in used.items())]
        return {"type": "string", "description": "\n".join(lines), "enum": list(used)}

    def _described(self, full_name: str) -> Schema:
        comment = self._api.comment(full_name)
        return {"description": comment} if comment else {}
