"""compose.yaml is what the Compose specification allows, and says what we promise of it; no engine needed."""

import re
import tomllib
from ipaddress import ip_address
from typing import Any

import pytest
import yaml
from compose_spec import PyCompose

from reflux.cli import serve
from reflux.runtime.settings import Settings
from reflux.runtime.tls import Role
from tests.support import composefile
from tests.support.composefile import ROOT, UnsetVariable

OURS = composefile.load()["x-reflux"]["image"]
VARIABLES = {"POSTGRES_PASSWORD": "secret"}
SETTINGS = {f"REFLUX_{name.upper()}" for name in Settings.model_fields}


@pytest.fixture
def document() -> dict[str, Any]:
    """The file with nothing set but what must be."""
    return composefile.interpolate(composefile.load(), VARIABLES)


def ours(document: dict[str, Any]) -> dict[str, Any]:
    """The services that run our image."""
    image = composefile.interpolate(OURS, {})
    return {name: each for name, each in document["services"].items() if each["image"] == image}


def test_the_specification_allows_it(document: dict[str, Any]):
    """Read by a strict reader of the specification, which knows every key, unit and port."""
    read = PyCompose.from_yaml(yaml.safe_dump(document))
    assert set(read.service_names()) == set(document["services"])


@pytest.mark.parametrize(
    "change",
    [
        {"restrat": "no"},
        {"stop_grace_period": "40 apples"},
        {"ports": ["here:there"]},
        {"depends_on": {"migrate": {"condition": "healthy"}}},
    ],
)
def test_the_reader_is_strict(document: dict[str, Any], change: dict[str, Any]):
    """What the test above proves: a file with any of these is refused."""
    document["services"]["registry"].update(change)
    with pytest.raises(ValueError, match="registry"):
        PyCompose.from_yaml(yaml.safe_dump(document))


def test_every_name_in_it_means_something(document: dict[str, Any]):
    """Networks, volumes, configs and services that are referred to exist, and nobody waits for himself."""
    services = {name: composefile.read(document, name) for name in document["services"]}
    order = [service.name for service in composefile.startable(services)]
    for service in services.values():
        for other in service.depends_on:
            assert order.index(other) < order.index(service.name)
    healthy = {
        other for each in services.values() for other, how in each.depends_on.items() if "healthy" in how
    }
    assert all(services[name].healthcheck for name in healthy)


def test_without_a_password_it_says_what_is_missing():
    """The one variable without a default is asked for by name."""
    with pytest.raises(UnsetVariable, match=r"POSTGRES_PASSWORD: put POSTGRES_PASSWORD=\.\.\. into \.env"):
        composefile.interpolate(composefile.load(), {})


def test_nothing_is_published_beyond_this_machine(document: dict[str, Any]):
    """There is no authentication: the edge and Jaeger answer on loopback, nobody else is published."""
    published = {name: each["ports"] for name, each in document["services"].items() if "ports" in each}
    assert set(published) == {"edge", "jaeger"}
    for [port] in published.values():
        assert ip_address(port.split(":")[0]).is_loopback


def test_only_those_who_call_the_world_can(document: dict[str, Any]):
    """The stores and the platform have no way out, nodes no way to the stores."""
    inside = {name for name, each in document["networks"].items() if each.get("internal")}
    assert inside == {"stores", "mesh"}
    for name, service in document["services"].items():
        networks = set(service["networks"])
        if name.startswith("node-"):
            assert "stores" not in networks
        elif name not in ("edge", "jaeger"):
            assert networks <= inside, name
    assert document["services"]["node-transform-execute-1-0-0"]["networks"] == ["mesh"]


def test_orchestrators_and_nodes_meet_on_one_network(document: dict[str, Any]):
    """Claims go to the address that an orchestrator has on the way to the mesh proxy, so nodes must be there;
    and a node registers the address it has on the way to the registry, so the mesh proxy must be there.
    """
    services = document["services"]
    assert services["mesh"]["networks"] == ["mesh"]
    for name in ours(document):
        if name.startswith("node-"):
            assert set(services[name]["networks"]) & set(services["registry"]["networks"]) == {"mesh"}


def test_our_containers_have_nothing_they_do_not_need(document: dict[str, Any]):
    """No capability, no new privileges, no writable image, a bound on processes."""
    for service in ours(document).values():
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["read_only"] is True
        assert service["pids_limit"] <= 512


def test_every_variable_of_ours_is_a_setting(document: dict[str, Any]):
    """REFLUX refuses settings it does not know, so one of them would stop every container."""
    for name, service in ours(document).items():
        assert {key for key in service["environment"] if key.startswith("REFLUX_")} <= SETTINGS, name


def test_a_variable_of_the_person_that_is_named_like_a_setting_is_one():
    """`REFLUX_*` in .env would otherwise stop the commands of whoever exports it."""
    text = composefile.FILE.read_text(encoding="utf-8")
    asked = set(re.findall(r"\$\{(\w+)", text.replace("$$", "")))
    named = {name for name in asked if name.startswith("REFLUX_")}
    assert named <= SETTINGS


def test_every_container_has_the_certificate_of_its_own_role_and_no_other(document: dict[str, Any]):
    """Only the one that makes them sees them all, and it meets nobody from outside."""
    for name, service in document["services"].items():
        seen = {each for each in service.get("volumes", []) if each.startswith(("tls-", "authority"))}
        if name == "certs":
            assert {each.split(":")[0] for each in seen} == {"authority", *(f"tls-{role}" for role in Role)}
            assert set(service["networks"]) == {"mesh"}
        elif name in ("postgres", "valkey", "jaeger", "migrate", "bootstraps"):
            assert not seen
        else:
            role = "node" if name.startswith("node-") else name
            assert seen == {f"tls-{role}:/srv/tls:ro"}, name


def test_replicas_are_free_to_be_many(document: dict[str, Any]):
    """Nothing that only one container could have: no name of its own, no port of the machine."""
    for name, service in document["services"].items():
        assert "container_name" not in service
        if name.startswith("node-") or name in ("orchestrator", "mesh"):
            assert "ports" not in service


@pytest.mark.parametrize("version", serve.node_versions())
def test_every_shipped_node_version_has_a_service(document: dict[str, Any], version: str):
    """One service for each, so that each is scaled by itself."""
    commands = [service["command"] for service in document["services"].values() if "command" in service]
    assert commands.count(["serve", "node", version]) == 1


@pytest.mark.parametrize(
    "version",
    [each["command"][2] for name, each in composefile.load()["services"].items() if name.startswith("node-")],
)
def test_every_node_service_runs_a_version_that_is_shipped(version: str):
    """A command that names another one would never become healthy."""
    assert version in serve.node_versions()


def test_the_image_has_the_number_of_the_release(document: dict[str, Any]):
    """The default tag names what the source builds."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert composefile.interpolate(OURS, {}) == f"reflux:{version}"


def test_the_documentation_lists_every_variable():
    """services/DEPLOY.md names what can be set, and nothing else."""
    text = composefile.FILE.read_text(encoding="utf-8").replace("$$", "")
    asked = set(re.findall(r"\$\{(\w+)", text))
    manual = (ROOT / "services" / "DEPLOY.md").read_text(encoding="utf-8")
    listed = {part.split("`")[0] for part in manual.split("\n| `")[1:]}
    assert listed == asked


def test_an_empty_endpoint_turns_traces_off(document: dict[str, Any], monkeypatch: pytest.MonkeyPatch):
    """Unset, the Jaeger of the file is meant; set to nothing, nobody."""
    name = "OTEL_EXPORTER_OTLP_ENDPOINT"
    silent = composefile.interpolate(composefile.load(), {**VARIABLES, name: ""})
    tracing = {
        each: its["environment"][name] for each, its in ours(document).items() if name in its["environment"]
    }
    assert {"orchestrator", "controlplane", "node-http-request-1-0-0"} <= set(tracing)
    assert set(tracing.values()) == {"http://jaeger:4317"}
    monkeypatch.setenv(name, silent["services"]["orchestrator"]["environment"][name])
    assert Settings.load().otlp_endpoint == ""
