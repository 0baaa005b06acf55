"""Compiling beside the event loop.

Compiling takes about 50 µs for each expression. Small documents are compiled at once; large ones in a thread,
so that the runs of this process go on.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from reflux.core.flow import compile_flow

if TYPE_CHECKING:
    from reflux.core.document import JsonValue
    from reflux.core.flow import CompileResult

AT_ONCE_BYTES: Final = 8_192


async def compile_document(document: JsonValue, size: int) -> CompileResult:
    """`compile_flow`; `size` is that of the document as JSON, in bytes."""
    if size <= AT_ONCE_BYTES:
        return compile_flow(document)
    return await asyncio.to_thread(compile_flow, document)
