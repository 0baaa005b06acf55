"""`transform.execute` runs JavaScript on JSON and gives back what it returned and wrote."""

import pytest

from reflux.nodes.transform_execute.sandbox import Sandbox
from reflux.nodes.transform_execute.v1 import execute
from tests.unit.sdk.served import served


@pytest.mark.parametrize(
    ("code", "value", "result"),
    [
        ("return input.x * 2", {"x": 21}, 42),
        ("return input.map(i => i.toUpperCase()).join('-')", ["a", "é"], "A-É"),
        ("return await Promise.all([1, Promise.resolve(2)])", None, [1, 2]),
        ("const {a, ...rest} = input; return rest", {"a": 1, "b": 2}, {"b": 2}),
        ("return", None, None),
        ("1 + 1", None, None),
        (
            "return [undefined, () => 1, NaN, new Date(0)]",
            None,
            [None, None, None, "1970-01-01T00:00:00.000Z"],
        ),
        ("return input", {"big": 9007199254740991, "text": '\U0001f600"\\\n'}, None),
        ("return '} }) // ' + `\n` + /[}'\"]/.source", None, "} }) // \n[}'\"]"),
    ],
)
async def test_a_script_returns_json(code, value, result):
    """The body of a function of `input`; what JSON cannot hold becomes what JSON.stringify makes of it."""
    async with served(execute) as call:
        answer = await call({"code": code, "input": value})
    assert answer.output == {"result": value if code == "return input" else result, "logs": []}


async def test_what_a_script_writes_comes_back():
    """Every console function, values as JSON, 200 lines of 1,000 characters at most."""
    async with Sandbox(1) as sandbox:
        code = "console.log('a', 1, {b: [2]}, null, undefined); console.error('e'); console.warn('w')"
        assert (await sandbox.run(code, None, seconds=1)).logs == ['a 1 {"b":[2]} null undefined', "e", "w"]
        flood = await sandbox.run(
            "for (let i = 0; i < 1000; i++) console.log('x'.repeat(5000))", None, seconds=1
        )
        failed = await sandbox.run("console.log('before'); throw new Error('x')", None, seconds=1)
    assert len(flood.logs) == 201
    assert len(flood.logs[0]) == 1001
    assert flood.logs[-1] == "… 800 more"
    assert failed.logs == ["before"]


async def test_scripts_share_nothing():
    """Each has a context of its own, in the same child or another."""
    async with Sandbox(1) as sandbox:
        await sandbox.run("globalThis.leak = 1; Array.prototype.map = null", None, seconds=1)
        reply = await sandbox.run("return [typeof leak, [1].map(x => x + 1)]", None, seconds=1)
    assert reply.result == '["undefined",[2]]'


async def test_no_way_out_is_offered():
    """No modules, no files, no processes, no environment: only the language."""
    code = """
    const names = ['require', 'process', 'std', 'os', 'fetch', 'XMLHttpRequest', 'Deno', 'Bun', 'setTimeout'];
    let imported = 'no';
    try { await import('fs'); imported = 'yes' } catch (e) {}
    return [names.filter(name => name in globalThis), imported]
    """
    async with Sandbox(1) as sandbox:
        assert (await sandbox.run(code, None, seconds=1)).result == '[[],"no"]'
