"""Every emergency recipe of envoy/README.md, run as it stands there, has its effect and can be taken back."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import grpc
import pytest

from reflux.cli.recipes import RECIPES
from reflux.controlplane.routes import Target
from tests.mesh.support.mesh import NODE
from tests.mesh.support.node import hang, node_fault, work

if TYPE_CHECKING:
    from tests.mesh.support.mesh import Mesh, Reply

README = Path(__file__).parents[2] / "envoy" / "README.md"
LEAF = f"{NODE}@1.0.0"
UNAVAILABLE = grpc.StatusCode.UNAVAILABLE


def _commands() -> dict[str, str]:
    """The lines with `runtime_modify`, by the recipe that their comment names."""
    lines = re.findall(
        r"^(curl \S+ \S+ '\S*runtime_modify\?\S+')\s+# ([a-z-]+)", README.read_text(), re.MULTILINE
    )
    return {name: command for command, name in lines}


def test_the_document_and_the_command_line_know_the_same_recipes() -> None:
    """The same names, keys and values."""
    written = {
        name: dict(parse_qsl(command.partition("?")[2].rstrip("'"))) for name, command in _commands().items()
    }
    known = {
        each.name: {
            key.format(it=each.about.upper()): text.format(value=each.value)
            for key, text in each.keys.items()
        }
        for each in RECIPES.values()
    }
    assert written == known


async def _cook(mesh: Mesh, name: str, it: str = "", value: str | None = None) -> None:
    """Runs the line of the document, with what it is about and another value if one is given."""
    command = _commands()[name].replace("localhost:9901", f"127.0.0.1:{mesh.proxy.admin}")
    command = command.replace("CHAIN", it).replace("VERSION", it)
    if value is not None:
        command = command.replace(f"={RECIPES[name].value}", f"={value}")
    done = await asyncio.create_subprocess_shell(command, stdout=asyncio.subprocess.PIPE)
    said, _ = await done.communicate()
    assert (done.returncode, said.strip()) == (0, b"OK")


async def _undo(mesh: Mesh, name: str, it: str = "") -> None:
    query = "&".join(f"{key}=" for key in RECIPES[name].undoing(it))
    await mesh.proxy.admin_post(f"/runtime_modify?{query}")


async def _until(mesh: Mesh, text: str, **call: object) -> Reply:
    """The first reply with these words, or with this answer."""
    async with asyncio.timeout(20):
        while text not in ((reply := await mesh.call(**call)).answer, reply.text):
            await asyncio.sleep(0.02)
    return reply


async def _out(mesh: Mesh) -> int:
    return sum((await mesh.proxy.stats("outlier_detection.ejections_active$")).values())


async def test_no_retries(mesh: Mesh) -> None:
    """A call that would fall back fails after its first try."""
    first, _ = await mesh.node("1.0.0"), await mesh.node("2.0.0")
    first.behaviour = node_fault(grpc.StatusCode.INTERNAL)
    await mesh.route(Target("1.0.0", 10_000, fallback=("2.0.0",)))
    assert (await mesh.call(lane="broad")).answer == "2.0.0"
    await _cook(mesh, "no-retries")
    assert (await _until(mesh, "ill", lane="broad")).tries == 1
    await _undo(mesh, "no-retries")
    await _until(mesh, "2.0.0", lane="broad")


async def test_maintenance(mesh: Mesh) -> None:
    """What is routed to that chain is refused before a node hears of it; the other lane goes on."""
    node = await mesh.node("1.0.0")
    await mesh.route(Target("1.0.0", 10_000))
    names = re.findall(r"^([^:]+~broad~[0-9a-f]+)::", await mesh.proxy.admin_get("/clusters"), re.MULTILINE)
    (chain,) = set(names)
    await _cook(mesh, "maintenance", chain)
    await _until(mesh, "maintenance mode", lane="broad")
    before = len(node.calls)
    assert (await mesh.call(lane="broad")).code is UNAVAILABLE
    assert len(node.calls) == before
    assert (await mesh.call(lane="safe")).answer == "1.0.0"
    await _undo(mesh, "maintenance", chain)
    await _until(mesh, "1.0.0", lane="broad")


async def test_limit(mesh: Mesh) -> None:
    """With two calls inside the third fails at once, and is not handed over."""
    node, other = await mesh.node("1.0.0"), await mesh.node("2.0.0")
    node.behaviour = hang
    await mesh.route(Target("1.0.0", 10_000, fallback=("2.0.0",)))
    await _cook(mesh, "limit", LEAF, "2")
    inside = [asyncio.create_task(mesh.call(lane="broad", timeout=30)) for _ in range(2)]
    async with asyncio.timeout(10):
        while len(node.calls) < 2:
            await asyncio.sleep(0.01)
    reply = await mesh.call(lane="broad")
    assert (reply.code, reply.headers["x-reflux-flags"]) == (UNAVAILABLE, "UO")
    assert not other.calls
    await _undo(mesh, "limit", LEAF)
    node.behaviour = work
    assert (await mesh.call(lane="broad")).answer == "1.0.0"
    for task in inside:
        task.cancel()


async def test_eject_after(mesh: Mesh) -> None:
    """Two failures in a row are enough."""
    node = await mesh.node("1.0.0")
    await mesh.route(Target("1.0.0", 10_000))
    await _cook(mesh, "eject-after", value="2")
    node.behaviour = node_fault()
    for _ in range(2):
        assert (await mesh.call()).text == "ill"
    async with asyncio.timeout(10):
        while not await _out(mesh):
            await asyncio.sleep(0.02)
    assert len(node.calls) == 2


async def test_eject_for(mesh: Mesh) -> None:
    """Who is out already comes back sooner too."""
    node = await mesh.node("1.0.0")
    await mesh.route(Target("1.0.0", 10_000))
    node.behaviour = node_fault()
    async with asyncio.timeout(10):
        while not await _out(mesh):
            await mesh.call()
    node.behaviour = work
    await _cook(mesh, "eject-for", value="100")
    async with asyncio.timeout(10):
        while await _out(mesh):
            await asyncio.sleep(0.02)
    await _until(mesh, "1.0.0")


async def test_no_ejection(mesh: Mesh) -> None:
    """However many failures: it goes on getting calls. Taken back, it is ejected again."""
    node = await mesh.node("1.0.0")
    await mesh.route(Target("1.0.0", 10_000))
    await _cook(mesh, "no-ejection")
    node.behaviour = node_fault()
    for _ in range(30):
        await mesh.call()
    # An interval of 1 s ends, in which the share would have counted.
    await asyncio.sleep(1.2)
    assert (await mesh.call()).text == "ill"
    assert not await _out(mesh)
    await _undo(mesh, "no-ejection")
    node.behaviour = work
    await mesh.call()
    node.behaviour = node_fault()
    async with asyncio.timeout(20):
        while not await _out(mesh):
            await mesh.call()


@pytest.mark.parametrize("lane", ["broad", "safe"])
async def test_weights_have_no_runtime_key(mesh: Mesh, lane: str) -> None:
    """A route that could be changed from here would make the journal wrong."""
    await mesh.node("1.0.0")
    await mesh.route(Target("1.0.0", 10_000))
    assert "runtime_key_prefix" not in await mesh.proxy.admin_get(
        "/config_dump?resource=dynamic_route_configs"
    )
    assert (await mesh.call(lane=lane)).answer == "1.0.0"


async def test_test_faults(mesh: Mesh) -> None:
    """A test run's abort does not happen; taken back it does. Nobody else notices either."""
    mesh.allow_faults = True
    await mesh.node("1.0.0")
    await mesh.route(Target("1.0.0", 10_000))
    fault = {"x_reflux_fault": "1", "x_reflux_fault_abort": "14"}
    assert (await mesh.call(**fault)).code is UNAVAILABLE
    await _cook(mesh, "test-faults")
    await _until(mesh, "1.0.0", **fault)
    await _undo(mesh, "test-faults")
    async with asyncio.timeout(20):
        while (await mesh.call(**fault)).code is not UNAVAILABLE:
            await asyncio.sleep(0.02)
    assert (await mesh.call()).answer == "1.0.0"


async def test_maintenance_of_a_share_is_an_injected_fault(mesh: Mesh) -> None:
    """Half of the calls are refused, before a node hears of them, and nobody is ejected for it."""
    node = await mesh.node("1.0.0")
    await mesh.route(Target("1.0.0", 10_000))
    names = re.findall(r"^([^:]+~broad~[0-9a-f]+)::", await mesh.proxy.admin_get("/clusters"), re.MULTILINE)
    (chain,) = set(names)
    await _cook(mesh, "maintenance", chain, "50")
    await _until(mesh, "maintenance mode", lane="broad")
    before = len(node.calls)
    replies = [await mesh.call(lane="broad") for _ in range(100)]
    well = sum(reply.answer == "1.0.0" for reply in replies)
    assert 20 < well < 80
    assert {reply.text for reply in replies if not reply.answer} == {"maintenance mode"}
    assert len(node.calls) == before + well
    assert not await _out(mesh)


async def _line(mesh: Mesh, path: str) -> str:
    """Runs the line of the document that calls this path of the admin interface."""
    (command,) = re.findall(rf"^(curl \S+ \S+ '\S*/{path}\S*')", README.read_text(), re.MULTILINE)
    command = command.replace("localhost:9901", f"127.0.0.1:{mesh.proxy.admin}")
    done = await asyncio.create_subprocess_shell(command, stdout=asyncio.subprocess.PIPE)
    said, _ = await done.communicate()
    assert done.returncode == 0
    return said.decode()


async def test_logging_is_made_louder_and_quiet_again(mesh: Mesh) -> None:
    """Each logger says its level."""
    levels = re.findall(r": (\w+)$", await _line(mesh, "logging"), re.MULTILINE)
    assert set(levels) == {"debug"}
    said = await mesh.proxy.admin_post("/logging?level=warning")
    assert set(re.findall(r": (\w+)$", said, re.MULTILINE)) == {"warning"}


async def test_a_proxy_that_drains_finishes_what_it_has_and_takes_what_comes(mesh: Mesh) -> None:
    """Calls in flight and calls that begin afterwards: none fails."""
    node = await mesh.node("1.0.0")
    await mesh.route(Target("1.0.0", 10_000))
    begun, go = len(node.calls), asyncio.Event()

    async def until_told(context: grpc.aio.ServicerContext[Any, Any]) -> None:
        await go.wait()

    node.behaviour = until_told
    inside = [asyncio.create_task(mesh.call(timeout=60)) for _ in range(20)]
    async with asyncio.timeout(20):
        while len(node.calls) < begun + 20:
            await asyncio.sleep(0.01)
    assert (await _line(mesh, "drain_listeners")).strip() == "OK"
    node.behaviour = work
    after = [await mesh.call() for _ in range(50)]
    go.set()
    replies = [*after, *await asyncio.gather(*inside)]
    assert {reply.code for reply in replies} == {grpc.StatusCode.OK}
