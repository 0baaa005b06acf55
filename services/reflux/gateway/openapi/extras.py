"""What no descriptor knows: the document's head, the error shape, and the paths the gateway serves itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from reflux.gateway.openapi.operations import ERROR

if TYPE_CHECKING:
    from collections.abc import Iterator

    from reflux.gateway.openapi.schemas import Schemas

INFO: Final = {
    "title": "REFLUX",
    "version": "1",
    "summary": "Durable flows whose steps are gRPC services behind Envoy.",
    "description": (
        "Every error has the shape of `Status`; exactly one of its details is an `ErrorInfo`, whose `reason` "
        "is what a program may branch on. Parameters and fields that are not known are refused.\n\n"
        "Lists come in pages: `next_page_token` of one page is `page_token` of the next, empty on the last."
    ),
    "license": {"name": "MIT", "identifier": "MIT"},
}
TAG: Final = {"name": "Gateway", "description": "What is plain HTTP and not a transcoded gRPC method."}
RESPONSES: Final = {
    "Error": {
        "description": "Refused or failed.",
        "headers": {
            "Retry-After": {
                "description": (
                    "Seconds after which the same request may be sent again: what the `RetryInfo` says, "
                    "rounded up. It comes with 429 and 503."
                ),
                "schema": {"type": "integer", "minimum": 0},
            }
        },
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Status"}}},
    }
}

_DETAILS: Final = (
    "google.rpc.ErrorInfo",
    "google.rpc.BadRequest",
    "google.rpc.RetryInfo",
    "google.rpc.PreconditionFailure",
)

_WATCH: Final = {
    "operationId": "WatchRun",
    "tags": ["RunService"],
    "summary": "Streams a run's journal as server-sent events",
    "description": (
        "One event for each fact: `id` is its sequence number, `event` its kind, `data` a `RunEvent`. "
        "A comment every 15 s shows that the stream lives. After the fact that finishes the run comes "
        "`event: end` and the stream closes; a stream that closes without it was cut and can be resumed."
    ),
    "parameters": [
        {
            "name": "run_id",
            "in": "path",
            "required": True,
            "description": "UUID.",
            "schema": {"type": "string", "format": "uuid"},
        },
        {
            "name": "after",
            "in": "query",
            "description": "Sequence number of the last event the caller has; 0: from the beginning.",
            "schema": {"type": "integer", "format": "int32", "minimum": 0, "default": 0},
        },
        {
            "name": "Last-Event-ID",
            "in": "header",
            "description": "As `after`, and wins over it: what a browser sends when it reconnects.",
            "schema": {"type": "integer", "format": "int32", "minimum": 0},
        },
    ],
    "responses": {
        "200": {
            "description": "The events.",
            "content": {"text/event-stream": {"schema": {"type": "string"}}},
        },
        "204": {"description": "The run has finished and the caller has every event: do not reconnect."},
        "default": ERROR,
    },
}
_RUN_ID: Final = {
    "x-reflux-run-id": {"description": "UUID of the run.", "schema": {"type": "string", "format": "uuid"}}
}
_DELIVER: Final = {
    "operationId": "DeliverWebhook",
    "tags": ["TriggerService"],
    "summary": "Starts a run of the flow whose webhook is here",
    "description": (
        "Whatever the trigger of the flow asks for: a body of any type up to 1 MiB, a signature, a "
        "delivery id. The same id with the same body gives the same run for 7 days. POST stands for the "
        "method that the trigger names: GET, PUT, PATCH and DELETE are served as well."
    ),
    "parameters": [
        {
            "name": "path",
            "in": "path",
            "required": True,
            "description": "The path of the trigger; it may have several segments.",
            "schema": {"type": "string", "maxLength": 200},
        },
        {
            "name": "webhook-id",
            "in": "header",
            "description": "Names the delivery, unless the trigger names another header.",
            "schema": {"type": "string", "minLength": 1, "maxLength": 256},
        },
    ],
    "requestBody": {"content": {"*/*": {"schema": {}}}},
    "responses": {
        "200": {
            "description": "The output of the run, when the trigger responds with it.",
            "headers": _RUN_ID,
            "content": {"application/json": {"schema": {}}},
        },
        "202": {
            "description": "The run is durable; it goes on.",
            "headers": _RUN_ID,
            "content": {
                "application/json": {
                    "schema": {
                        "type": "object",
                        "required": ["run_id", "duplicate"],
                        "properties": {
                            "run_id": {"type": "string", "format": "uuid"},
                            "duplicate": {
                                "type": "boolean",
                                "description": "The delivery had come before; this is its run.",
                            },
                        },
                    }
                }
            },
        },
        "default": ERROR,
    },
}
_OPENAPI: Final = {
    "operationId": "GetOpenApi",
    "tags": ["Gateway"],
    "summary": "Returns this document",
    "responses": {
        "200": {"description": "This document.", "content": {"application/yaml": {"schema": {}}}},
        "default": ERROR,
    },
}


def operations(schemas: Schemas) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """The gateway's own operations as (path, verb, operation)."""
    schemas.named("reflux.api.run.v1.RunEvent")
    yield "/api/runs/{run_id}:watch", "get", _WATCH
    yield "/hooks/{path}", "post", _DELIVER
    yield "/openapi.yaml", "get", _OPENAPI


def add_error_shape(schemas: Schemas) -> None:
    """Define `Status`: google.rpc.Status in JSON, with the details that REFLUX sends."""
    references = [schemas.named(detail) for detail in _DETAILS]
    components = schemas.components()
    for detail, reference in zip(_DETAILS, references, strict=True):
        schema = components[reference["$ref"].rpartition("/")[2]]
        schema["properties"] = {
            "@type": {"const": f"type.googleapis.com/{detail}"},
            **schema["properties"],
        }
        schema["required"] = ["@type"]
    schemas.define(
        "Status",
        {
            "type": "object",
            "description": "Why a call was refused or failed.",
            "required": ["code", "message", "details"],
            "properties": {
                "code": {"type": "integer", "description": "gRPC canonical code, e.g. 5 for NOT_FOUND."},
                "message": {"type": "string", "description": "In people's words."},
                "details": {"type": "array", "items": {"anyOf": references}},
            },
        },
    )
