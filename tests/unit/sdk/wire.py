"""One gRPC call at the level of HTTP/2 frames (RFC 9113): what Envoy sees and a client library hides."""

from __future__ import annotations

import asyncio
import struct

from reflux.api.node.v1 import node_service_pb2

_DATA, _HEADERS, _SETTINGS = 0, 1, 4
_END_STREAM, _END_HEADERS = 0x1, 0x4


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def _literal(name: str, value: str) -> bytes:
    # HPACK: literal without indexing, new name, no Huffman (RFC 7541 §6.2.2).
    return b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()


async def frames_of_execute(host: str, port: int, value: bytes) -> list[str]:
    """The frames of the reply to Execute(value): `headers`, `data`, or with `+end` the last one."""
    reader, writer = await asyncio.open_connection(host, port)
    message = node_service_pb2.ExecuteRequest(input=value).SerializeToString()
    headers = {
        ":method": "POST",
        ":scheme": "http",
        ":path": "/reflux.api.node.v1.NodeService/Execute",
        ":authority": "node",
        "te": "trailers",
        "content-type": "application/grpc",
    }
    writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _frame(_SETTINGS, 0, 0, b""))
    block = b"".join(_literal(name, text) for name, text in headers.items())
    writer.write(_frame(_HEADERS, _END_HEADERS, 1, block))
    writer.write(_frame(_DATA, _END_STREAM, 1, struct.pack(">BI", 0, len(message)) + message))
    try:
        async with asyncio.timeout(5):
            return [frame async for frame in _replies(reader)]
    finally:
        writer.close()
        await writer.wait_closed()


async def _replies(reader: asyncio.StreamReader):
    while True:
        head = await reader.readexactly(9)
        kind, flags, stream = struct.unpack(">BBI", head[3:])
        await reader.readexactly(int.from_bytes(head[:3]))
        if stream == 1 and kind in {_DATA, _HEADERS}:
            end = "+end" if flags & _END_STREAM else ""
            yield ("headers" if kind == _HEADERS else "data") + end
            if end:
                return
