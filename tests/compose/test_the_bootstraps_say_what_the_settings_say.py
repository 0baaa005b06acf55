"""`reflux envoy-bootstrap`: every address of the proxies is a variable, and Envoy accepts the documents."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from reflux.cli.stack import wheels

ADDRESSES = {
    "REFLUX_LISTEN": "127.0.0.2",
    "REFLUX_EDGE_PORT": "5000",
    "REFLUX_ADMIN_PORT": "5901",
    "REFLUX_BIND": "0.0.0.0",
    "REFLUX_MESH_ADDRESS": "some-mesh:5001",
    "REFLUX_REGISTRY_ADDRESS": "some-registry:5101",
    "REFLUX_CONTROLPLANE_ADDRESS": "some-controlplane:5102",
    "REFLUX_ORCHESTRATOR_ADDRESS": "some-orchestrator:5103",
    "REFLUX_GATEWAY_ADDRESS": "some-gateway:5104",
}


def write(folder: Path, *options: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """The command, in an environment of its own."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("REFLUX_")}
    command = [sys.executable, "-m", "reflux.cli", "envoy-bootstrap", str(folder), *options]
    return subprocess.run(
        command, env={**plain, **variables}, capture_output=True, text=True, check=False, cwd="/"
    )


def read(file: Path) -> dict[str, Any]:
    """A bootstrap."""
    document: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return document


def place(of: dict[str, Any]) -> tuple[str, int]:
    """Host and port of an `address`."""
    socket = of["address"]["socket_address"]
    return socket["address"], socket["port_value"]


def upstreams(document: dict[str, Any]) -> dict[str, tuple[str, int]]:
    """Where the services are found."""
    found = {}
    for cluster in document["static_resources"]["clusters"]:
        [locality] = cluster["load_assignment"]["endpoints"]
        [endpoint] = locality["lb_endpoints"]
        found[cluster["name"]] = place(endpoint["endpoint"])
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the command wrote, in a folder that was not there."""
    folder = tmp_path_factory.mktemp("bootstraps") / "new"
    done = write(folder, **ADDRESSES)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(folder / name) for name in ("edge.json", "mesh.json", "reflux.binpb")]
    return folder


def test_the_edge_binds_and_finds_what_it_was_told(folder: Path):
    """Listener, admin on loopback, the four services, and the descriptors beside the file."""
    edge = read(folder / "edge.json")
    listeners = {each["name"]: each for each in edge["static_resources"]["listeners"]}
    assert edge["node"]["cluster"] == "edge"
    assert place(listeners["edge"]) == ("127.0.0.2", 5000)
    assert place(listeners["stats"]) == ("127.0.0.2", 9902)
    assert place(edge["admin"]) == ("127.0.0.1", 5901)
    assert (
        upstreams(edge).items()
        >= {
            "registry": ("some-registry", 5101),
            "controlplane": ("some-controlplane", 5102),
            "orchestrator": ("some-orchestrator", 5103),
            "gateway": ("some-gateway", 5104),
        }.items()
    )
    assert str(folder / "reflux.binpb") in (folder / "edge.json").read_text(encoding="utf-8")


def test_the_mesh_binds_its_port_and_not_its_name(folder: Path):
    """Orchestrators find it at `some-mesh`; its replicas bind what `bind` says."""
    mesh = read(folder / "mesh.json")
    assert mesh["node"]["cluster"] == "mesh"
    assert mesh["node"]["metadata"]["reflux"] == {"mesh_address": "0.0.0.0", "mesh_port": 5001}
    assert upstreams(mesh)["controlplane"] == ("some-controlplane", 5102)


def test_envoy_accepts_both(folder: Path):
    """Validated by Envoy itself, names and all."""
    for name in ("edge", "mesh"):
        done = subprocess.run(
            [wheels.envoy_program(), "--mode", "validate", "-c", str(folder / f"{name}.json")],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr


def test_everybody_may_read_what_holds_no_secret(folder: Path):
    """The proxies run as another user than the one who wrote it."""
    assert {oct(file.stat().st_mode & 0o777) for file in folder.iterdir()} == {"0o644"}


def test_one_kind_of_proxy_gets_its_files_only(tmp_path: Path):
    """The mesh needs no descriptors."""
    assert write(tmp_path, "--cluster", "mesh").returncode == 0
    assert [file.name for file in tmp_path.iterdir()] == ["mesh.json"]


@pytest.mark.parametrize(
    ("folder", "variables", "status", "words"),
    [
        ("/proc/nowhere", {}, 1, "/proc/nowhere"),
        ("/tmp", {"REFLUX_MESH_ADDRESS": "mesh"}, 2, "mesh_address"),
        ("/tmp", {"REFLUX_MESH_ADRESS": "mesh:1"}, 2, "did you mean REFLUX_MESH_ADDRESS"),
    ],
)
def test_what_cannot_be_written_is_told_in_a_line(
    folder: str, variables: dict[str, str], status: int, words: str
):
    """The exit status says whether another try can help."""
    done = write(Path(folder), **variables)
    assert done.returncode == status
    assert words in done.stderr
    assert "Traceback" not in done.stderr
