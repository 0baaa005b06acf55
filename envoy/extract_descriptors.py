# ruff: noqa: INP001 - a script, never a package: `envoy` is the import name of others
"""Write the control plane's descriptor set, read out of an Envoy binary.

    python envoy/extract_descriptors.py ENVOY services/reflux/controlplane/envoy/xds.binpb

Envoy carries the serialized descriptors of its own API, so the set is exactly the API of the build we deploy,
newest extensions included, and nothing of `xds-protos` (which overwrites other packages) is ever installed.

How a file is found: a serialized FileDescriptorProto opens with its field `name`, that is the bytes
`0x0A, length, name`. It ends where its top-level fields stop making sense. The same bytes may occur more than
once; the longest candidate wins. Its dependencies are followed from there. Run this again, and commit the
result, whenever the pinned Envoy changes.
"""

from __future__ import annotations

import mmap
import sys
from pathlib import Path
from typing import Final

from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from google.protobuf.message import DecodeError

ROOTS: Final = (
    "envoy/service/accesslog/v3/als.proto",
    "envoy/service/discovery/v3/ads.proto",
    "envoy/config/cluster/v3/cluster.proto",
    "envoy/config/endpoint/v3/endpoint.proto",
    "envoy/config/listener/v3/listener.proto",
    "envoy/config/route/v3/route.proto",
    "envoy/config/trace/v3/opentelemetry.proto",
    "envoy/extensions/access_loggers/grpc/v3/als.proto",
    "envoy/extensions/clusters/composite/v3/cluster.proto",
    "envoy/extensions/filters/http/fault/v3/fault.proto",
    "envoy/extensions/filters/http/header_mutation/v3/header_mutation.proto",
    "envoy/extensions/filters/http/router/v3/router.proto",
    "envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager.proto",
    "envoy/extensions/retry/host/previous_hosts/v3/previous_hosts.proto",
    "envoy/extensions/tracers/opentelemetry/samplers/v3/parent_based_sampler.proto",
    "envoy/extensions/tracers/opentelemetry/samplers/v3/trace_id_ratio_based_sampler.proto",
    "envoy/extensions/transport_sockets/tls/v3/tls.proto",
    "envoy/extensions/upstreams/http/v3/http_protocol_options.proto",
)
"""What the control plane speaks; a new filter or extension in a resource needs its file here."""

_LARGEST: Final = 1 << 20
_VARINT, _LENGTH_DELIMITED = 0, 2
# Field number of FileDescriptorProto → wire type (descriptor.proto of protobuf).
_FIELDS: Final = {
    **dict.fromkeys((1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 15), _LENGTH_DELIMITED),
    **dict.fromkeys((10, 11, 14), _VARINT),
}


def main(binary: Path, output: Path) -> None:
    """Write ROOTS and all they depend on, dependencies first."""
    found: dict[str, FileDescriptorProto] = {}
    with binary.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as image:
        for root in ROOTS:
            _collect(image, root, found)
    output.write_bytes(FileDescriptorSet(file=found.values()).SerializeToString(deterministic=True))
    print(f"{output}: {len(found)} files, {output.stat().st_size} bytes")  # noqa: T201 - a tool for people


def _collect(image: mmap.mmap, name: str, found: dict[str, FileDescriptorProto]) -> None:
    if name in found:
        return
    descriptor = _longest(image, name)
    for dependency in descriptor.dependency:
        _collect(image, dependency, found)
    found[name] = descriptor


def _longest(image: mmap.mmap, name: str) -> FileDescriptorProto:
    """The best candidate for `name`.

    Raises:
        SystemExit: the binary has no such file.
    """
    key = bytes((0x0A, len(name))) + name.encode()
    best, start = b"", image.find(key)
    while start >= 0:
        candidate = image[start : _end(image, start)]
        if len(candidate) > len(best) and _parses(candidate):
            best = candidate
        start = image.find(key, start + 1)
    if not best:
        raise SystemExit(f"{name} is not in this binary")
    return FileDescriptorProto.FromString(best)


def _end(image: mmap.mmap, start: int) -> int:
    """Where the top-level fields that begin at `start` stop: an unknown tag or a second name."""
    position, limit, named = start, min(len(image), start + _LARGEST), False
    while position < limit:
        tag, after = _varint(image, position)
        number, wire = tag >> 3, tag & 7
        if _FIELDS.get(number) != wire or (number == 1 and named):
            break
        named = True
        value, after = _varint(image, after)
        end = after + value if wire == _LENGTH_DELIMITED else after
        if end > limit:
            break
        position = end
    return position


def _varint(image: mmap.mmap, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 64, 7):
        byte = image[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
    return value, position


def _parses(candidate: bytes) -> bool:
    try:
        FileDescriptorProto.FromString(candidate)
    except DecodeError:
        return False
    return True


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
