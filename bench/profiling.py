"""`python -m bench.profiling NAME`: where the orchestrator's time goes under W1, as a table by function.

Needs `py-spy` and the right to look into another process (root, or CAP_SYS_PTRACE). Samples of the main
thread are taken by wall clock while it runs; *self* is the share of samples in which the function was at the
top, *total* in which it was anywhere on the stack. A function that calls into C (gRPC's core, protobuf, the
event loop) has that time as its own.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final

import aiohttp
import orjson
import uvloop

from bench.client import connected
from bench.flows import of_both, sequence
from bench.load import closed_loop
from bench.stack import ROOT, running_stack
from bench.w1 import IN_FLIGHT, STEPS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bench.stack import Stack

SECONDS: Final = 10
RATE: Final = 250
ROWS: Final = 45
_OURS: Final = str(ROOT)


async def _record(pid: int, to: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).parent / "py-spy"), "record", "--pid", str(pid), "--rate", str(RATE),
        "--duration", str(SECONDS), "--format", "raw", "--full-filenames", "--output", str(to),
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    _, errors = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"py-spy failed: {errors.decode()}")


async def _batches(stack: Stack) -> str:
    """How full calls were, by the orchestrator's metrics."""
    url = orjson.loads((stack.data / "run" / "stack.json").read_bytes())["urls"]["metrics.orchestrator"]
    async with aiohttp.ClientSession() as http, http.get(url) as response:
        lines = (await response.text()).splitlines()
    figures = {
        line.partition("{")[0]: float(line.rpartition(" ")[2])
        for line in lines
        if line.startswith(("reflux_batch_size_sum", "reflux_batch_size_count"))
    }
    if not figures:
        return "no calls were shared"
    calls, attempts = figures["reflux_batch_size_count"], figures["reflux_batch_size_sum"]
    return f"{attempts / calls:.1f} attempts in a shared call"


async def _profile(kind: str) -> str:
    batched, unary = of_both(lambda node: sequence(STEPS, node))
    flow = batched if kind == "batched" else unary
    with tempfile.TemporaryDirectory() as folder:
        recorded = Path(folder) / "stacks"
        async with running_stack() as stack, connected(stack) as client:
            await client.create(flow)
            load = asyncio.ensure_future(
                closed_loop(lambda: client.run(flow), in_flight=IN_FLIGHT, seconds=SECONDS + 2.0, warmup=2.0)
            )
            await asyncio.sleep(2)
            await _record(stack.pid("orchestrator"), recorded)
            sample = await load
            sizes = await _batches(stack)
        lines = recorded.read_text().splitlines()
    return f"W1 {kind}, {IN_FLIGHT} in flight: {sample.rate:.0f} runs/s; {sizes}\n\n" + table(lines)


def table(lines: Iterable[str]) -> str:
    """By function, from folded stacks: `frame;frame;frame count`."""
    own: Counter[str] = Counter()
    total: Counter[str] = Counter()
    samples = 0
    for line in lines:
        stack, _, count = line.rpartition(" ")
        frames = [_short(frame) for frame in stack.split(";")]
        samples += int(count)
        own[frames[-1]] += int(count)
        for frame in set(frames):
            total[frame] += int(count)
    rows = [f"{samples} samples", f"{'self':>6} {'total':>6}  function"]
    for frame, _ in (own + total).most_common(400):
        if own[frame] >= samples * 0.004 or total[frame] >= samples * 0.02:
            rows.append(f"{own[frame] / samples:>6.1%} {total[frame] / samples:>6.1%}  {frame}")
    return "\n".join([*rows[:2], *sorted(rows[2:], reverse=True)[:ROWS]]) + "\n"


def _short(frame: str) -> str:
    """`function (module)`, without anything of this machine."""
    name, _, place = frame.partition(" (")
    path = place.rpartition(":")[0] or place.rstrip(")")
    for root in (f"{_OURS}/services/", f"{_OURS}/"):
        path = path.removeprefix(root)
    for marker in ("site-packages/", "lib/python3.11/"):
        path = path.rpartition(marker)[2]
    return f"{name} ({path})"


def main() -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m bench.profiling", description=__doc__)
    parser.add_argument("kind", choices=["unary", "batched"])
    print(uvloop.run(_profile(parser.parse_args().kind)))


if __name__ == "__main__":
    main()
