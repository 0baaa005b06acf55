"""The wire form of Envoy's API: dicts in, messages out.

The descriptors (`xds.binpb`, made by `envoy/extract_descriptors.py` from the Envoy we ship) live in a pool
of their own. Nothing is imported from `envoy.*`, so nothing clashes with the packages that want that name.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory

if TYPE_CHECKING:
    from collections.abc import Mapping

    from google.protobuf.message import Message

_PREFIX: Final = "type.googleapis.com/"

CLUSTER: Final = "envoy.config.cluster.v3.Cluster"
ENDPOINT: Final = "envoy.config.endpoint.v3.ClusterLoadAssignment"
LISTENER: Final = "envoy.config.listener.v3.Listener"
ROUTE: Final = "envoy.config.route.v3.RouteConfiguration"
VIRTUAL_HOST: Final = "envoy.config.route.v3.VirtualHost"

ADS: Final[dict[str, Any]] = {"ads": {}, "resource_api_version": "V3"}
"""ConfigSource of everything we send: the stream it came on."""


def typed(name: str, content: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """`content` as a `typed_config` of the message `name`."""
    return {"@type": type_url(name), **(content or {})}


def type_url(name: str) -> str:
    """Type URL of a message."""
    return _PREFIX + name


@cache
def _pool() -> descriptor_pool.DescriptorPool:
    raw = files(__package__ or __name__.rpartition(".")[0]).joinpath("xds.binpb").read_bytes()
    pool = descriptor_pool.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(raw).file:
        pool.Add(file)
    return pool


@cache
def message_class(name: str) -> type[Message]:
    """The class of the message with this full name."""
    return message_factory.GetMessageClass(_pool().FindMessageTypeByName(name))


def encode(name: str, resource: Mapping[str, Any]) -> bytes:
    """`resource` as the message `name`, serialized the same way every time.

    Raises:
        google.protobuf.json_format.ParseError: a field that Envoy's API does not have, or a wrong value.
    """
    message = message_class(name)()
    json_format.ParseDict(dict(resource), message, descriptor_pool=_pool())
    return message.SerializeToString(deterministic=True)
