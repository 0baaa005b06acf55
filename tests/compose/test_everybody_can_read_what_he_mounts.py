"""Users, volumes and certificates of compose.yaml agree: what a container reads is there, and it may read it.

No engine is needed for that. The services that write for others are run as the file says, into folders; then
each reader is asked who he is, what he mounts, and which paths his command, his environment and his files
name. Root without capabilities is nobody special, so a file is read by its owner or by everybody.
"""

import json
import os
import re
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from reflux.cli import serve
from reflux.cli.__main__ import app
from reflux.runtime.tls import AUTHORITY, IDENTITY
from tests.support import composefile
from tests.support.composefile import ROOT

DOCUMENT = composefile.interpolate(composefile.load(), {"POSTGRES_PASSWORD": "secret"})
SERVICES = {name: composefile.read(DOCUMENT, name) for name in DOCUMENT["services"]}
WRITERS = {
    volume: name
    for name, service in SERVICES.items()
    for volume, _, reads in service.volumes
    if not reads and name != "postgres"  # which keeps what it writes for itself
}
"""Volume → who writes it for others."""
READERS = [name for name, service in SERVICES.items() if any(reads for _, _, reads in service.volumes)]
OURS = [name for name, service in SERVICES.items() if service.ours]


@pytest.fixture(scope="module")
def volumes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Each volume as its writer left it."""
    folder = tmp_path_factory.mktemp("volumes")
    made = {}
    for name in set(WRITERS.values()):
        service, root = SERVICES[name], folder / name
        inside = {path: volume for volume, path, _ in service.volumes}
        argv = [f"{root}{word}" if word in inside else word for word in service.argv[1:]]
        done = subprocess.run(
            [sys.executable, "-m", "reflux.cli", *argv],
            env={**service.environment, "PATH": os.environ["PATH"]},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        made |= {volume: Path(f"{root}{path}") for path, volume in inside.items()}
    return made


def user(name: str) -> str:
    """Whom a service runs as: what the file says, or its image."""
    image = re.search(r"^USER (\S+)$", (ROOT / "services" / "Dockerfile").read_text(), re.MULTILINE)
    assert image is not None
    return str(DOCUMENT["services"][name].get("user", image[1] if SERVICES[name].ours else "another"))


def texts(value: Any) -> Iterator[str]:
    """Every text in a document."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from texts(each)


def test_every_volume_has_one_who_writes_it():
    """Whoever else mounts it only reads, and there is none that nobody mounts."""
    mounts = [(volume, reads) for service in SERVICES.values() for volume, _, reads in service.volumes]
    assert {volume for volume, _ in mounts} == set(DOCUMENT["volumes"])
    written = [volume for volume, reads in mounts if not reads]
    assert sorted(written) == sorted(DOCUMENT["volumes"])
    assert set(WRITERS.values()) == {"certs", "bootstraps"}


@pytest.mark.parametrize("name", READERS)
def test_who_reads_starts_when_who_writes_has_ended(name: str):
    """A new volume gets the owner of the first that mounts it: that must be the one who writes."""
    for volume, _, _ in SERVICES[name].volumes:
        reached, left, ended = {name}, [name], False
        while left:
            conditions = SERVICES[left.pop()].depends_on
            ended |= conditions.get(WRITERS[volume]) == "service_completed_successfully"
            left += set(conditions) - reached
            reached |= set(conditions)
        assert ended, f"{name} may start before {WRITERS[volume]} has written {volume}"


@pytest.mark.parametrize("name", READERS)
def test_who_reads_may_read(volumes: dict[str, Path], name: str):
    """As the owner, or because everybody may; and a private key is its owner's alone."""
    for volume, _, _ in SERVICES[name].volumes:
        who = stat.S_IRUSR if user(name) == user(WRITERS[volume]) else stat.S_IROTH
        for path in (volumes[volume], *volumes[volume].rglob("*")):
            mode = path.stat().st_mode
            assert mode & who, f"{name} cannot read {path}"
            assert path.is_file() or mode & (who >> 2), f"{name} cannot enter {path}"
            if path.is_file() and b"PRIVATE KEY" in path.read_bytes():
                assert stat.S_IMODE(mode) == 0o600, path


@pytest.mark.parametrize("name", READERS)
def test_every_path_that_is_named_is_there(volumes: dict[str, Path], name: str):
    """In the command, in the environment, and in the document that the command names."""
    service = SERVICES[name]
    mounted = {path: volumes[volume] for volume, path, _ in service.volumes}

    def place(named: str) -> Path:
        """Where a path of the container is here; it must be below one that is mounted."""
        [found] = [path for path in mounted if named == path or named.startswith(f"{path}/")]
        return Path(f"{mounted[found]}{named.removeprefix(found)}")

    said = " ".join((*service.argv, *service.environment.values())).split()
    for document in [word for word in said if word.startswith("/srv/") and word.endswith(".json")]:
        said += texts(json.loads(place(document).read_text()))
    named = {word for word in said if word.startswith("/srv/")}

    assert named, f"{name} mounts {sorted(mounted)} and names nothing of it"
    for each in named:
        assert place(each).exists(), f"{name}: there is no {each}"
    if service.ours:
        identity = place(service.environment["REFLUX_TLS_DIR"])
        assert {IDENTITY, AUTHORITY} <= {each.name for each in identity.iterdir()}


@pytest.mark.parametrize("name", OURS)
def test_every_command_is_a_real_one(name: str):
    """Services and node versions that exist, options that `reflux` knows."""
    verb, *words = SERVICES[name].argv[1:]
    if verb == "serve":
        serve.find(*words)
    else:
        shown = CliRunner().invoke(app, [verb, *words, "--help"])
        assert shown.exit_code == 0, shown.output
