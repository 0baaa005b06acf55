"""compose.yaml as values: interpolated as Compose does it, and refused where it names what is not there.

Only what our file uses is read; anything else that would change how a service runs is an assertion here, so
that the file cannot say something that the processes of `tests.support.compose` do not do.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
FILE = ROOT / "compose.yaml"

_HARDENING = {
    "cap_add",
    "cap_drop",
    "init",
    "logging",
    "mem_limit",
    "pids_limit",
    "read_only",
    "security_opt",
    "shm_size",
    "tmpfs",
    "user",
}
"""What the engine does around a process and no process can see from inside."""
_RUN = {
    "build",
    "command",
    "configs",
    "depends_on",
    "entrypoint",
    "environment",
    "healthcheck",
    "image",
    "networks",
    "ports",
    "restart",
    "stop_grace_period",
    "stop_signal",
    "volumes",
}
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OPERATOR = re.compile(r":?-|:\?")
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0}


class UnsetVariable(Exception):
    """A variable without which the file does not work; the message is the file's own."""


@dataclass(frozen=True, slots=True)
class Healthcheck:
    """A command that ends with 0 when the service is well."""

    argv: tuple[str, ...]
    timeout: float
    """Seconds."""


@dataclass(frozen=True, slots=True)
class Service:
    """What one container of a service runs."""

    name: str
    ours: bool
    """From our image, whose entry point is `reflux`."""
    argv: tuple[str, ...]
    environment: Mapping[str, str]
    depends_on: Mapping[str, str]
    """Name → condition."""
    healthcheck: Healthcheck | None
    volumes: tuple[tuple[str, str, bool], ...]
    """Name, path inside, whether it is read only."""
    configs: Mapping[str, str]
    """Path inside → content."""
    stop_signal: str
    stop_seconds: float


def load(file: Path = FILE) -> dict[str, Any]:
    """The document with its anchors resolved and its variables not."""
    document: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    return document


def interpolate(value: Any, variables: Mapping[str, str]) -> Any:
    """Replace `${NAME}`, `${NAME:-default}`, `${NAME-default}` and `${NAME:?problem}`; `$$` is a dollar.

    Raises:
        UnsetVariable: see there.
        ValueError: a dollar that is none of these.
    """
    if isinstance(value, str):
        text, end = _interpolate(value, 0, variables, nested=False)
        assert end == len(value)
        return text
    if isinstance(value, dict):
        return {name: interpolate(each, variables) for name, each in value.items()}
    if isinstance(value, list):
        return [interpolate(each, variables) for each in value]
    return value


def _interpolate(text: str, at: int, variables: Mapping[str, str], *, nested: bool) -> tuple[str, int]:
    """Read from `at` to the end, or to the brace that closes a default; the text and where it stopped."""
    out: list[str] = []
    while at < len(text):
        if nested and text[at] == "}":
            break
        if text[at] != "$":
            out.append(text[at])
            at += 1
        elif text.startswith("$$", at):
            out.append("$")
            at += 2
        else:
            value, at = _variable(text, at, variables)
            out.append(value)
    return "".join(out), at


def _variable(text: str, at: int, variables: Mapping[str, str]) -> tuple[str, int]:
    name = _NAME.match(text, at + 2) if text.startswith("${", at) else None
    if name is None:
        raise ValueError(f"{text[at:]!r} is no variable; write $$ for a dollar")
    value, at = variables.get(name[0], ""), name.end()
    if text.startswith("}", at):
        return value, at + 1
    operator = _OPERATOR.match(text, at)
    if operator is None:
        raise ValueError(f"{text!r}: only NAME, NAME:-default, NAME-default and NAME:?problem are used here")
    if value or (operator[0] == "-" and name[0] in variables):
        return value, _closing(text, at) + 1
    other, at = _interpolate(text, operator.end(), variables, nested=True)
    if operator[0] == ":?":
        raise UnsetVariable(f"{name[0]}: {other}")
    return other, at + 1


def _closing(text: str, at: int) -> int:
    """Where the brace is that closes what `at` is inside of."""
    depth = 1
    while True:
        depth += (text[at] == "{") - (text[at] == "}")
        if not depth:
            return at
        at += 1


def read(document: Mapping[str, Any], name: str) -> Service:
    """The service `name` of an interpolated document."""
    given = document["services"][name]
    unknown = set(given) - _RUN - _HARDENING
    assert not unknown, f"{name}: {sorted(unknown)} would be ignored by the processes of the tests"
    assert isinstance(given.get("command", []), list), f"{name}: write the command as a list"
    ours = "build" in given
    entry = given.get("entrypoint", ["reflux"] if ours else [])
    for network in given["networks"]:
        assert network in document["networks"], f"{name}: there is no network {network}"
    for other in given.get("depends_on", {}):
        assert other in document["services"], f"{name}: there is no service {other}"
    return Service(
        name=name,
        ours=ours,
        argv=(*entry, *map(str, given.get("command", []))),
        environment={key: _text(value) for key, value in given.get("environment", {}).items()},
        depends_on={other: how["condition"] for other, how in given.get("depends_on", {}).items()},
        healthcheck=_healthcheck(given["healthcheck"]) if "healthcheck" in given else None,
        volumes=tuple(_volume(document, name, text) for text in given.get("volumes", [])),
        configs={
            each["target"]: document["configs"][each["source"]]["content"]
            for each in given.get("configs", [])
        },
        stop_signal=given.get("stop_signal", "SIGTERM"),
        stop_seconds=seconds(given.get("stop_grace_period", "10s")),
    )


def _healthcheck(given: Mapping[str, Any]) -> Healthcheck:
    kind, *rest = given["test"]
    assert kind in ("CMD", "CMD-SHELL")
    argv = ("sh", "-c", *rest) if kind == "CMD-SHELL" else tuple(rest)
    return Healthcheck(argv, seconds(given["timeout"]))


def _volume(document: Mapping[str, Any], service: str, text: str) -> tuple[str, str, bool]:
    name, path, *mode = text.split(":")
    assert name in document["volumes"], f"{service}: there is no volume {name}"
    return name, path, mode == ["ro"]


def _text(value: object) -> str:
    assert isinstance(value, str | int), "write true and false as strings: Compose refuses them as they are"
    assert not isinstance(value, bool)
    return str(value)


def seconds(text: str) -> float:
    """A duration such as `40s`."""
    return float(text[:-1]) * _SECONDS[text[-1]]


def startable(services: Mapping[str, Service]) -> list[Service]:
    """Each service after those that it depends on; among `services`, the others are left out."""
    done: dict[str, Service] = {}

    def visit(service: Service, path: tuple[str, ...]) -> None:
        assert service.name not in path, f"services wait for each other: {path}"
        for other in service.depends_on:
            if other in services and other not in done:
                visit(services[other], (*path, service.name))
        done.setdefault(service.name, service)

    for service in services.values():
        visit(service, ())
    return list(done.values())
