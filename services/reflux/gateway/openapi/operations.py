"""Methods with `google.api.http` as OpenAPI operations.

Where a request field goes follows google/api/http.proto: named in the path, the body, or else the query.
A user's document (`google.api.HttpBody`) is JSON or YAML on the way in and JSON on the way out.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from reflux.gateway.openapi.descriptors import HTTP, REQUEST, RESPONSE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from google.api.http_pb2 import HttpRule  # type: ignore[import-untyped]
    from google.protobuf.descriptor_pb2 import FieldDescriptorProto, MethodDescriptorProto

    from reflux.gateway.openapi.descriptors import Api, Service
    from reflux.gateway.openapi.schemas import Schema, Schemas

_HTTP_BODY: Final = "google.api.HttpBody"
_EMPTY: Final = "google.protobuf.Empty"
_VARIABLE: Final = re.compile(r"\{(\w+)\}")
_QUERY_MESSAGES: Final = frozenset({"google.protobuf.Timestamp", "google.protobuf.Duration"})

ERROR: Final[dict[str, str]] = {"$ref": "#/components/responses/Error"}


def operations(api: Api, service: Service, schemas: Schemas) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Every binding of every method of `service` as (path, verb, operation)."""
    for name, method in service.methods.items():
        if not method.options.HasExtension(HTTP):
            continue
        rule = method.options.Extensions[HTTP]
        for number, binding in enumerate((rule, *rule.additional_bindings), start=1):
            verb = binding.WhichOneof("pattern")
            if verb is None or verb == "custom":
                raise NotImplementedError(f"{name} has a binding that the document cannot describe yet")
            # A variable of several segments is one parameter; its slashes stand as they are.
            path: str = getattr(binding, verb).replace("=**}", "}")
            operation = {
                "operationId": method.name if number == 1 else f"{method.name}{number}",
                "tags": [service.short],
                **_described(api.comment(name)),
                **_request(api, method, binding, path, schemas),
                "responses": {"200": _answer(api, method, schemas), "default": ERROR},
            }
            yield path, verb, operation


def _described(comment: str) -> dict[str, str]:
    """The first sentence as the summary, the whole as the description."""
    summary = _first_sentence(comment)
    described = {} if summary == comment else {"description": comment.replace(" Errors: ", "\n\nErrors: ")}
    return {"summary": summary.rstrip("."), **described}


def _request(
    api: Api, method: MethodDescriptorProto, binding: HttpRule, path: str, schemas: Schemas
) -> dict[str, Any]:
    owner = method.input_type.removeprefix(".")
    fields = {field.name: field for field in api.messages[owner].field}
    in_path = [fields.pop(name) for name in _VARIABLE.findall(path)]
    parameters = [
        {"name": field.name, "in": "path", "required": True, **_parameter(owner, field, schemas)}
        for field in in_path
    ]
    # A typed body ("*" too) would lose unknown fields in the transcoder, in silence: bodies are documents.
    body = fields.pop(binding.body) if binding.body else None
    parameters += [
        {"name": field.name, "in": "query", **_parameter(owner, field, schemas)} for field in fields.values()
    ]
    request: dict[str, Any] = {"parameters": parameters} if parameters else {}
    if body is not None:
        if body.type_name != f".{_HTTP_BODY}":
            raise NotImplementedError(f"{owner}.{body.name} is a body that the document cannot describe yet")
        schema = _document(method.options.Extensions[REQUEST], schemas)
        request["requestBody"] = {
            "description": api.comment(f"{owner}.{body.name}"),
            "content": {**_json(schema), "application/yaml": {"schema": schema}},
        }
    return request


def _parameter(owner: str, field: FieldDescriptorProto, schemas: Schemas) -> dict[str, Any]:
    type_name = field.type_name.removeprefix(".")
    if type_name and field.type == field.TYPE_MESSAGE and type_name not in _QUERY_MESSAGES:
        raise NotImplementedError(f"{owner}.{field.name}: a message cannot be a parameter")
    schema = schemas.field(owner, field)
    description = schema.pop("description", "")
    return {"description": description, "schema": schema}


def _answer(api: Api, method: MethodDescriptorProto, schemas: Schemas) -> dict[str, Any]:
    output = method.output_type.removeprefix(".")
    if output == _HTTP_BODY:
        output = method.options.Extensions[RESPONSE]
    description = {_EMPTY: "Done.", "": "A JSON document."}.get(output) or _first_sentence(
        api.comment(output)
    )
    return {"description": description, "content": _json(_document(output, schemas))}


def _first_sentence(comment: str) -> str:
    return comment.partition(". ")[0].rstrip(".") + "."


def _json(schema: Schema) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _document(message: str, schemas: Schemas) -> Schema:
    """The shape of a document; any JSON value when no message describes it."""
    return schemas.named(message) if message else {}
