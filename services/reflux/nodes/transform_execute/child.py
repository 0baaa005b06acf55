"""The inside of the sandbox: a process that does nothing but run scripts for its parent.

Started by `sandbox.py` as `python -I -S child.py SITE_PACKAGES`, with an empty environment, in `/`. It gives
up what it could use against the host before it reads the first script: no new privileges, no new processes,
no files, bounded memory and processor time; it dies with its parent. Each script gets a fresh QuickJS runtime
with its own memory, stack and time limits; the parent's wall clock stands behind all of them.

Protocol, both ways: a length (4 bytes, big-endian), then JSON.

    → {"code", "input": JSON text, "seconds"}
    ← {"logs": [...], "result": JSON text}  |  {"logs": [...], "error": {"kind", "message", "line", "column"}}

`kind` is `failed` (the script threw), or the limit reached: `time`, `memory`, `stack`, `output`. The first
message of a child is `{}`: it is ready. Imports nothing but the standard library and QuickJS.
"""

import ctypes
import json
import os
import re
import resource
import signal
import struct
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

MEMORY_BYTES = 64 << 20
STACK_BYTES = 512 << 10
ADDRESS_SPACE_BYTES = 512 << 20
OUTPUT_CHARACTERS = 1 << 20
MESSAGE_CHARACTERS = 1000

# The function constructor puts two lines before the body.
_LINES_BEFORE = 2
_PLACE = re.compile(r"at (\S+ \()?<input>:(\d+):(\d+)")
_HARNESS = "$start ("
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38


def give_up_privileges(parent: int) -> None:
    """Everything a script could use, should it ever get out of QuickJS."""
    prctl = getattr(ctypes.CDLL(None), "prctl", None)  # Linux only
    if prctl is not None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(1)
    limits = {
        resource.RLIMIT_AS: ADDRESS_SPACE_BYTES,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_NOFILE: 3,
        resource.RLIMIT_NPROC: 0,
    }
    for limit, value in limits.items():
        # Where the system has stricter ones, or does not know this one, so be it.
        with suppress(ValueError, OSError):
            resource.setrlimit(limit, (value, value))


def read_exactly(size: int) -> bytes:
    """`size` bytes from the parent; its going away is the end."""
    data = b""
    while len(data) < size:
        part = os.read(0, size - len(data))
        if not part:
            sys.exit(0)
        data += part
    return data


def send(message: dict[str, Any]) -> None:
    """One message to the parent."""
    data = json.dumps(message).encode()
    data = struct.pack(">I", len(data)) + data
    while data:
        data = data[os.write(1, data) :]


def run(quickjs: Any, harness: str, request: dict[str, Any]) -> dict[str, Any]:
    """Run one script; the reply."""
    # Should QuickJS ever fail to stop a script, the kernel stops the process.
    resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time() + request["seconds"]) + 2, -1))
    context = quickjs.Context()
    context.set_memory_limit(MEMORY_BYTES)
    context.set_max_stack_size(STACK_BYTES)
    host = context.eval(harness)
    try:
        reply = finish(quickjs, context, host, request)
    except quickjs.StackOverflow:
        reply = {"error": problem("stack", "the script nests calls too deeply")}
    except quickjs.JSException as error:
        reply = {"error": raised(str(error))}
    except MemoryError:
        reply = {"error": problem("memory", "the script used up its memory")}
    reply["logs"] = logs(quickjs, context, host)
    return reply


def finish(quickjs: Any, context: Any, host: Any, request: dict[str, Any]) -> dict[str, Any]:
    """The reply of a script that ends by itself."""
    deadline = time.process_time() + request["seconds"]
    context.set_time_limit(request["seconds"])
    host("start", request["code"], request["input"])
    while host("outcome") == "pending":
        left = deadline - time.process_time()
        if left <= 0:
            return {"error": problem("time", "the script used up its time")}
        context.set_time_limit(left)
        if not context.execute_pending_job():
            return {"error": problem("failed", "the script waits for a promise that nobody will settle")}
    context.set_time_limit(max(deadline - time.process_time(), 0.01))
    if host("outcome") == "threw":
        return {"error": thrown(json.loads(host("value")))}
    try:
        result = host("value")
    except quickjs.JSException as error:
        return {"error": raised(str(error), place=False)}
    if len(result) > OUTPUT_CHARACTERS:
        told = f"the result has {len(result)} characters as JSON; the limit is {OUTPUT_CHARACTERS}"
        return {"error": problem("output", told)}
    return {"result": result}


def logs(quickjs: Any, context: Any, host: Any) -> list[str]:
    """What the script wrote, if enough memory is left to say it."""
    context.set_memory_limit(MEMORY_BYTES + (8 << 20))
    context.set_time_limit(1)
    try:
        lines: list[str] = json.loads(host("logs"))
    except (quickjs.JSException, MemoryError, ValueError):
        return []
    return lines


def thrown(error: dict[str, str]) -> dict[str, Any]:
    """What a script threw, and where."""
    text = f"{error['name']}: {error['message']}" if error["name"] else error["message"]
    if error == {"name": "", "message": "null", "stack": ""}:
        # QuickJS throws null when not even the error fits into memory.
        return problem("memory", "the script used up its memory, or threw null")
    return classified(text, error["stack"])


def raised(text: str, *, place: bool = True) -> dict[str, Any]:
    """What QuickJS raised: the message, then the stack."""
    message, _, stack = text.partition("\n")
    if message == "null":
        return problem("memory", "the script used up its memory")
    return classified(message, stack if place else "")


def classified(message: str, stack: str) -> dict[str, Any]:
    """Tell the limits from the script's own errors."""
    if message == "InternalError: interrupted":
        return problem("time", "the script used up its time")
    if message in {"InternalError: out of memory", "InternalError: string too long"}:
        return problem("memory", "the script used up its memory", stack)
    if message == "RangeError: Maximum call stack size exceeded":
        return problem("stack", "the script nests calls too deeply", stack)
    return problem("failed", message, stack)


def problem(kind: str, message: str, stack: str = "") -> dict[str, Any]:
    """An error of the reply; line and column are those of the script, from 1, or absent."""
    error: dict[str, Any] = {"kind": kind, "message": message[:MESSAGE_CHARACTERS]}
    found = _PLACE.search(stack)
    if found and found[1] != _HARNESS and int(found[2]) > _LINES_BEFORE:
        error["line"] = int(found[2]) - _LINES_BEFORE
        error["column"] = int(found[3])
    return error


def main() -> None:
    """Serve until the parent goes away."""
    site_packages, parent = sys.argv[1], int(sys.argv[2])
    sys.path.insert(0, site_packages)
    import quickjs  # type: ignore[import-untyped]

    harness = Path(__file__).with_name("harness.js").read_text(encoding="utf-8")
    give_up_privileges(parent)
    send({})
    while True:
        (size,) = struct.unpack(">I", read_exactly(4))
        send(run(quickjs, harness, json.loads(read_exactly(size))))


if __name__ == "__main__":
    main()
