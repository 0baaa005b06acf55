"""Whatever a script does, it is stopped with a typed error in bounded time, and the next one runs."""

import asyncio
import os
import signal
import time
from pathlib import Path

import grpc
import pytest

from reflux.core.reasons import Reason
from reflux.nodes.transform_execute import sandbox as sandbox_module
from reflux.nodes.transform_execute.sandbox import Sandbox
from reflux.nodes.transform_execute.v1 import execute
from tests.unit.sdk.served import served

FAILED, LIMIT = Reason.SCRIPT_FAILED, Reason.SCRIPT_LIMIT

ATTACKS = {
    "an endless loop": ("while (true) {}", "time"),
    "a loop that catches": ("while (true) { try { while (true) {} } catch (e) {} }", "time"),
    "a loop in finally": ("try { while (true) {} } finally { while (true) {} }", "time"),
    "a loop after an await": ("await 1; while (true) {}", "time"),
    "endless promises": ("const again = () => Promise.resolve().then(again); await again()", "time"),
    "a loop in the result": ("return new Proxy({}, {ownKeys() { while (true) {} }})", "time"),
    "a loop in a thenable": ("return {then() { while (true) {} }}", "time"),
    "a loop in toString": ("throw {get message() { while (true) {} }}", "time"),
    "a sleeping wait": ("Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1e9)", "failed"),
    "a slow expression": ("return /(a+)+$/.test('a'.repeat(50) + 'b')", "time"),
    "a huge array": ("return new Array(1e9).fill(1)", "memory"),
    "a growing array": ("const a = []; while (true) a.push(new Array(1000).fill(1))", "memory"),
    "a growing string": ("let s = 'x'; while (true) s += s", "memory"),
    "a huge buffer": ("return new Uint8Array(2 ** 40).length", "failed"),
    "deep recursion": ("return (function f() { return f() + 1 })()", "stack"),
    "a huge number": ("let n = 2n; while (true) n = n * n", "failed"),
    "a promise nobody keeps": ("await new Promise(() => {})", "failed"),
    "a cycle": ("const a = {}; a.a = a; return a", "failed"),
    "a tower": ("let a = 1; for (let i = 0; i < 65; i++) a = [a]; return a", "failed"),
    "half a character in an error": ("throw new Error('\\ud83d')", "failed"),
    "half a character": ("return '\\ud83d'", "failed"),
    "huge output": ("return 'x'.repeat(2 ** 20)", "output"),
}


@pytest.fixture(scope="module", params=[pytest.param(key, id=key) for key in ATTACKS])
def attack(request):
    return ATTACKS[request.param]


async def test_an_attack_is_stopped_and_the_next_script_runs(attack):
    """Typed, in bounded time, in every one of the pool's children."""
    code, kind = attack
    began = time.monotonic()
    async with served(execute) as call:
        answer = await call({"code": code, "timeout_ms": 300})
        after = await call({"code": "return 1"})
    assert answer.failure is not None, answer
    assert answer.failure.metadata["kind"] == kind, answer
    expected = {"failed": FAILED, "output": Reason.OUTPUT_TOO_LARGE}.get(kind, LIMIT)
    assert answer.failure.reason == expected
    assert answer.failure.metadata["fault"] == "target"
    assert answer.headers["x-reflux-fault"] == "target"
    assert after.output["result"] == 1
    assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    ("code", "message", "place"),
    [
        ("\n  throw new TypeError('bad')", "TypeError: bad", ("2", "13")),
        ("let a = 1\nreturn a.b.c", "TypeError: cannot read property 'c' of undefined", ("2", "8")),
        ("var a = ;", "SyntaxError: unexpected token in expression: ';'", ("1", "9")),
        ("throw 'plain'", "plain", None),
        ("throw {a: 1}", '{"a":1}', None),
        ("throw {get stack() { throw 1 }, message: 'm'}", "something that cannot be shown", None),
        ("Promise.reject(new Error('late')); await null; null.x", "TypeError: cannot read", ("1", "48")),
        ("}); (function () {", "SyntaxError: the script closes a bracket that it did not open", None),
    ],
)
async def test_a_failing_script_names_its_line(code, message, place):
    """Line and column are those of the author's text."""
    async with served(execute) as call:
        answer = await call({"code": code})
    assert (answer.code, answer.failure.reason) == (grpc.StatusCode.FAILED_PRECONDITION, FAILED)
    assert answer.failure.message.startswith(message)
    found = (answer.failure.metadata.get("line"), answer.failure.metadata.get("column"))
    assert found == (place or (None, None))


@pytest.mark.parametrize(
    "tampering",
    [
        "JSON.stringify = () => 'evil'; JSON.parse = null",
        "Promise.prototype.then = null",
        "Object.prototype.toJSON = function () { return this }",
        "Array.prototype.push = null; console.log('x')",
        "Array.prototype.toJSON = () => 5; console.log('x')",
        "Object.defineProperty(Array.prototype, 0, {set() { globalThis.stolen = this }}); console.log('x')",
        "String.prototype.slice = null; console.log('x'.repeat(2000))",
        "Reflect.apply = null; String.prototype.toWellFormed = null; console.log('x')",
        "Object.defineProperty(Object.prototype, 'error', {value: 'x'})",
        "delete globalThis.JSON; delete globalThis.Promise",
    ],
)
async def test_tampering_with_the_language_changes_nothing_outside(tampering):
    """What runs a script took its own copy of the language first."""
    async with Sandbox(1) as sandbox:
        reply = await sandbox.run(f"{tampering}; return {{a: 1}}", None, seconds=1)
        assert reply.result == '{"a":1}', reply
        assert len(reply.logs) == tampering.count("console.log"), reply
        assert all(isinstance(line, str) for line in reply.logs)
        assert (await sandbox.run("return 1", None, seconds=1)).result == "1"


async def test_a_child_has_nothing_to_give_away():
    """Empty environment, no new privileges, no files, no processes, bounded memory."""
    async with Sandbox(1) as sandbox:
        (child,) = _children()
        assert Path(f"/proc/{child}/environ").read_bytes() == b""
        assert "NoNewPrivs:\t1" in Path(f"/proc/{child}/status").read_text()
        limits = Path(f"/proc/{child}/limits").read_text()
        found = {line[:26].strip(): line[26:].split()[0] for line in limits.splitlines()}
        assert found["Max file size"] == found["Max processes"] == found["Max core file size"] == "0"
        assert found["Max open files"] == "3"
        assert int(found["Max address space"]) == 512 << 20
        assert (await sandbox.run("return 1", None, seconds=1)).result == "1"


async def test_a_child_that_dies_is_replaced():
    """The script that lost it fails, the next does not notice."""
    async with Sandbox(1) as sandbox, asyncio.timeout(20):
        (child,) = _children()
        running = asyncio.ensure_future(sandbox.run("while (true) {}", None, seconds=5))
        await asyncio.sleep(0.1)
        os.kill(child, signal.SIGKILL)
        assert (await running).problem.kind == "memory"
        assert (await sandbox.run("return 1", None, seconds=1)).result == "1"
        assert _children() != {child}


async def test_a_child_that_died_idle_costs_no_script():
    """Whoever would get it gets a new one."""
    async with Sandbox(1) as sandbox, asyncio.timeout(20):
        (child,) = _children()
        os.kill(child, signal.SIGKILL)
        while _children():
            await asyncio.sleep(0.01)
        # The process is gone; the event loop hears of it a moment later.
        await asyncio.sleep(0.1)
        assert (await sandbox.run("return 1", None, seconds=1)).result == "1"


async def test_no_process_to_be_had_is_the_nodes_fault(monkeypatch):
    """The mesh may try another endpoint; no script is blamed, and the pool heals by itself."""
    async with served(execute) as call, asyncio.timeout(20):
        monkeypatch.setattr(sandbox_module, "_CHILD", Path("/no/such/child.py"))
        for child in _children():
            os.kill(child, signal.SIGKILL)
        answer = await call({"code": "return 1"})
        while answer.code is not grpc.StatusCode.UNAVAILABLE:
            answer = await call({"code": "return 1"})
        assert answer.failure.metadata["fault"] == "node"
        monkeypatch.undo()
        while answer.code is not grpc.StatusCode.OK:
            answer = await call({"code": "return 1"})


async def test_the_wall_clock_stands_behind_every_limit():
    """A child that uses no processor time, and so reaches no limit of its own, is stopped all the same."""
    async with Sandbox(1) as sandbox, asyncio.timeout(20):
        (child,) = _children()
        os.kill(child, signal.SIGSTOP)
        assert (await sandbox.run("return 1", None, seconds=0.1)).problem.kind == "time"
        assert (await sandbox.run("return 1", None, seconds=5)).result == "1"


async def test_a_call_that_finds_no_free_child_is_told_that_the_node_is_full():
    """In time, and not by its deadline: that would count against the node, for what others' scripts do."""
    async with served(execute) as call, asyncio.timeout(30):
        given = {"code": "while (true) {}", "timeout_ms": 3000}
        busy = [asyncio.ensure_future(call(given)) for _ in range(sandbox_module.POOL_SIZE)]
        await asyncio.sleep(0.3)
        began = time.monotonic()
        answer = await call({"code": "return 1"}, timeout=2)
        assert (answer.code, answer.failure.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, Reason.NODE_FULL)
        assert answer.retry_safe
        assert time.monotonic() - began < 2
        assert (await call({"code": "return 1"})).output["result"] == 1
        assert {(await each).failure.reason for each in busy} == {LIMIT}


async def test_a_call_given_up_frees_its_child():
    """A caller's deadline ends the script's process, not only the waiting."""
    async with Sandbox(1) as sandbox, asyncio.timeout(20):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await sandbox.run("while (true) {}", None, seconds=60)
        assert (await sandbox.run("return 1", None, seconds=5)).result == "1"


async def test_no_child_is_left_behind():
    """Leaving the sandbox ends every child, also one that is busy."""
    async with Sandbox(2) as sandbox:
        task = asyncio.ensure_future(sandbox.run("while (true) {}", None, seconds=60))
        await asyncio.sleep(0.1)
        assert len(_children()) == 2
        task.cancel()
        await asyncio.wait([task])
    assert _children() == set()


def _children() -> set[int]:
    listed = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    return {
        int(child) for child in listed if b"transform_execute" in Path(f"/proc/{child}/cmdline").read_bytes()
    }
