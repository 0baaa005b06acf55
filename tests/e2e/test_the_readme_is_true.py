"""Every command of the README is executed, in its order, against the stack that its own `make up` starts."""

import json
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from tests.e2e.stack.running import eventually
from tests.support.rest import Rest

ROOT = Path(__file__).parents[2]
SERVES = "pricing_quote.py"
"""The one command that does not end by itself."""


def commands() -> list[str]:
    """Every line of every bash block."""
    blocks = re.findall(r"```bash\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.strip()]


@pytest.fixture(scope="module")
def up(tmp_path_factory):
    """`make up` as the README says it, on free ports and in a folder of its own."""
    data = tmp_path_factory.mktemp("readme") / "data"
    environment = {
        **os.environ,
        "REFLUX_EDGE_PORT": "0",
        "REFLUX_ADMIN_PORT": "0",
        "REFLUX_MESH_ADDRESS": "127.0.0.1:0",
    }
    process = subprocess.Popen(
        ["make", "up", f"DATA={data}"],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    state_file = data / "run" / "stack.json"
    try:
        eventually(lambda: state_file.exists() and json.loads(state_file.read_text())["up"], "up", 120)
        yield data
    finally:
        os.killpg(process.pid, signal.SIGINT)
        output, _ = process.communicate(timeout=60)
    assert b"REFLUX is up at http://127.0.0.1:" in output


def test_every_command_of_the_readme_works(up: Path):
    """Nothing is promised that does not run: a command that fails, or answers an error, fails here."""
    if shutil.which("curl") is None:
        pytest.skip("no curl here")
    edge = json.loads((up / "run" / "stack.json").read_text())["urls"]["edge"]
    lines = [line for line in commands() if not line.startswith(("make ", "REFLUX_REGISTRY"))]
    strict = [line.replace("curl ", "curl --fail-with-body ") for line in lines]
    script = "\n".join(["set -euo pipefail", *strict])
    script = script.replace("http://localhost:4000", edge).replace(".reflux/", f"{up}/")
    done = subprocess.run(
        ["bash", "-c", script],
        check=False,
        cwd=ROOT,
        env={**os.environ, "REFLUX_DATA_DIR": str(up)},
        capture_output=True,
        text=True,
        timeout=160,
    )

    assert done.returncode == 0, f"{script}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    assert len(lines) >= 19
    assert "event: end" in done.stdout


def test_every_file_that_the_readme_names_is_there():
    """A link to nothing is a promise of nothing."""
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", (ROOT / "README.md").read_text())
    local = [link for link in links if "://" not in link]
    assert len(local) > 20
    assert [link for link in local if not (ROOT / link).exists()] == []


def test_the_node_of_the_readme_registers_and_is_called(up: Path):
    """The command that starts it, as it stands."""
    [line] = [line for line in commands() if SERVES in line]
    edge = json.loads((up / "run" / "stack.json").read_text())["urls"]["edge"]
    command = ["bash", "-c", line.replace(".reflux/", f"{up}/")]
    process = subprocess.Popen(command, cwd=ROOT, start_new_session=True)
    try:
        names = lambda: [node["name"] for node in Rest(edge).get("/api/nodes")["nodes"]]  # noqa: E731
        eventually(lambda: "pricing.quote" in names(), "the node has registered")
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(20)


@pytest.mark.timeout(320)
def test_make_demo_tells_every_story_and_exits_with_0():
    """The first command of the README; its own checks are asserted inside it."""
    done = subprocess.run(
        ["make", "demo"], check=False, cwd=ROOT, capture_output=True, text=True, timeout=300
    )

    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    assert "Everything held." in done.stdout
    for story in ("(a) HTTP", "(b) LLM failover", "(c) Canary", "(d) kill -9"):
        assert story in done.stdout


def test_the_other_command_of_the_readme_is_the_one_that_runs_this_test():
    """`make test` cannot be run inside itself; that it exists and runs all tests can be read."""
    rehearsed = subprocess.run(
        ["make", "-n", "test"], check=False, cwd=ROOT, capture_output=True, text=True, timeout=60
    )

    assert "make test" in " ".join(commands())
    assert "pytest tests" in rehearsed.stdout
    assert "mypy" in rehearsed.stdout
    assert "lint-imports" in rehearsed.stdout
