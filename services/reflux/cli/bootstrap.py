"""`reflux envoy-bootstrap`: what the Envoys of a distributed deployment are started with, as files.

Envoy replaces no variables in its configuration, so a process that reads REFLUX_* writes it down: where the
proxies bind, and where they find the services. Both kinds of proxy share a folder:

    edge.json     the edge proxy       binds `listen`:`edge_port`
    mesh.json     the mesh proxies     bind `mesh_address`, or its port on `bind`
                  both also bind STATS_PORT beside it, where statistics can be read and nothing changed
    reflux.binpb  descriptors of the API, which edge.json names by its path in this folder

The files are the same for every replica; each gives itself a name of its own by `envoy --service-node`. They
hold no secrets and may be read by everybody: the proxies run as somebody else.
"""

from __future__ import annotations

import importlib
import json
import os
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from reflux.runtime.settings import Settings

DESCRIPTORS: Final = "reflux.binpb"
STATS_PORT: Final = 9902
_SERVICES: Final = ("registry", "controlplane", "orchestrator", "gateway")


Folder = Annotated[Path, typer.Argument(help="Where to write; proxies must see it under the same path.")]


class Proxy(StrEnum):
    """Which proxy a bootstrap is for."""

    EDGE = "edge"
    MESH = "mesh"


def write(
    folder: Folder,
    cluster: Annotated[Proxy | None, typer.Option(help="One kind of proxy; both if not given.")] = None,
) -> None:
    """Write Envoy's bootstraps, with the addresses of REFLUX_* variables."""
    from reflux.runtime.settings import Settings, SettingsError

    try:
        files = render(Settings.load(), folder.absolute(), tuple(Proxy) if cluster is None else (cluster,))
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            _replace(folder / name, content)
            typer.echo(folder / name)
    except SettingsError as error:
        typer.echo(f"reflux: {error}", err=True)
        raise typer.Exit(2) from error
    except OSError as error:
        typer.echo(f"reflux: {error}", err=True)
        raise typer.Exit(1) from error


def render(settings: Settings, folder: Path, proxies: tuple[Proxy, ...]) -> Mapping[str, bytes]:
    """The files of `folder`, an absolute path, by name."""
    from reflux.runtime import places
    from reflux.runtime.settings import Address

    # The only code of a service here: the bootstrap is a value the control plane renders.
    bootstrap: Any = importlib.import_module("reflux.controlplane.bootstrap")
    files: dict[str, bytes] = {}
    mesh = places.listening(settings, settings.mesh_address)
    for proxy in proxies:
        document = bootstrap.render(
            edge=(settings.listen, settings.edge_port),
            mesh=mesh,
            stats=(settings.listen if proxy is Proxy.EDGE else mesh.host, STATS_PORT),
            admin=Address("127.0.0.1", settings.admin_port),
            upstreams={name: getattr(settings, f"{name}_address") for name in _SERVICES},
            node_id=proxy.value,
            node_cluster=proxy.value,
            descriptors=folder / DESCRIPTORS,
            tls_dir=settings.tls_dir,
        )
        files[f"{proxy}.json"] = json.dumps(document, indent=1).encode()
    if Proxy.EDGE in proxies:
        files[DESCRIPTORS] = bootstrap.DESCRIPTORS.read_bytes()
    return files


def _replace(path: Path, content: bytes) -> None:
    """In one step: a proxy that starts meanwhile reads the former file or the new one."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.write_bytes(content)
    fresh.chmod(0o644)
    fresh.replace(path)
