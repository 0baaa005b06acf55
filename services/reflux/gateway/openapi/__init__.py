"""The OpenAPI 3.1 document of the HTTP API, made from the descriptors the edge transcodes with.

There is one truth, `reflux.api/reflux.binpb`: the same file tells Envoy which path is which method, so the
document cannot promise what the edge does not do. Nothing is copied into the package; the gateway makes the
document when it starts, and `python -m reflux.gateway.openapi` prints it (`gateway/openapi.yaml`).

- `descriptors`: the set, indexed by full name, with the comments of the .proto files.
- `schemas`: a message or an enum as a JSON Schema of its proto3 JSON form.
- `operations`: a method with `google.api.http` as operations; its HttpBody documents get the shape that the
  method options `reflux.api.document.v1.{request,response}` name.
- `extras`: what no descriptor knows: the error shape, and the two paths the gateway serves itself.

A construct that the proto files do not use yet raises `NotImplementedError` with its name: the document is
complete or it is not made.
"""

from __future__ import annotations

from typing import Any

import yaml

from reflux.gateway.openapi import extras
from reflux.gateway.openapi.descriptors import Api
from reflux.gateway.openapi.operations import operations
from reflux.gateway.openapi.schemas import Schemas


def document() -> dict[str, Any]:
    """The document as plain JSON values, the same for the same descriptors."""
    api = Api.load()
    schemas = Schemas(api)
    paths: dict[str, dict[str, Any]] = {}
    tags = []
    for service in api.services:
        found = list(operations(api, service, schemas))
        for path, verb, operation in found:
            paths.setdefault(path, {})[verb] = operation
        if found:
            tags.append({"name": service.short, "description": api.comment(service.name)})
    for path, verb, operation in extras.operations(schemas):
        paths.setdefault(path, {})[verb] = operation
    extras.add_error_shape(schemas)
    return {
        "openapi": "3.1.0",
        "info": extras.INFO,
        "servers": [{"url": "/", "description": "The edge that serves this document."}],
        "tags": [*tags, extras.TAG],
        "paths": dict(sorted(paths.items())),
        "components": {"schemas": schemas.components(), "responses": extras.RESPONSES},
    }


def as_yaml() -> bytes:
    """The document in UTF-8 YAML, as committed and as served."""
    text: str = yaml.dump(document(), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)
    return text.encode()


class _Dumper(yaml.SafeDumper):
    """For people: no anchors, and a text of several paragraphs as a block."""

    def ignore_aliases(self, data: Any) -> bool:
        del data
        return True

    def represent_text(self, text: str) -> yaml.ScalarNode:
        return self.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _Dumper.represent_text)
