"""The table of who may call what knows every service, and lets nobody call what it does not know."""

from __future__ import annotations

from importlib.resources import files

import pytest
from google.protobuf import descriptor_pb2

from reflux.controlplane import access_log, server
from reflux.core.errors import Unauthenticated
from reflux.runtime import tls
from reflux.runtime.tls import Role


class Call:
    """A call whose connection has shown a certificate with these names."""

    def __init__(self, *names: str) -> None:
        self.names = names

    def auth_context(self) -> dict[str, list[bytes]]:
        return {"x509_subject_alternative_name": [name.encode() for name in self.names]}


def services() -> set[str]:
    """Every service of the API, and those that Envoy calls."""
    raw = (files("reflux.api") / "reflux.binpb").read_bytes()
    ours = {
        f"{file.package}.{service.name}"
        for file in descriptor_pb2.FileDescriptorSet.FromString(raw).file
        for service in file.service
        if file.package.startswith("reflux.")
    }
    return ours | {server.SERVICE, access_log.SERVICE}


def test_the_table_is_whole() -> None:
    """A new service that nobody may call would be noticed late; one that is gone has no row."""
    assert set(tls.CALLERS) == services()


@pytest.mark.parametrize("service", sorted(tls.CALLERS))
def test_only_those_in_the_table_are_let_in(service: str) -> None:
    """By any of the names of a certificate; a name that only looks alike is none."""
    for role in Role:
        call = Call(f"{role}.reflux.internal.example.org", role.name_in_certificates)
        if role in tls.CALLERS[service]:
            tls.admit(f"/{service}/Method", call)
        else:
            with pytest.raises(Unauthenticated, match="may not call"):
                tls.admit(f"/{service}/Method", call)
    for names in ((), ("registry",), ("*.reflux.internal",), ("node.reflux.internal.",), ("NODE",)):
        with pytest.raises(Unauthenticated):
            tls.admit(f"/{service}/Method", Call(*names))


def test_a_service_that_is_not_known_is_called_by_nobody() -> None:
    """It fails closed."""
    for role in Role:
        with pytest.raises(Unauthenticated):
            tls.admit("/reflux.api.new.v1.NewService/Method", Call(role.name_in_certificates))


def test_health_and_reflection_are_for_everybody_with_a_certificate() -> None:
    """A check runs beside the process and shows its own."""
    for service in tls.ANYBODY:
        tls.admit(f"/{service}/Check", Call("anything"))
