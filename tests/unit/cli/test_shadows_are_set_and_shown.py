"""`reflux route shadow`: a version is put into the shadow, and how its outputs compare is told."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from reflux.api.shadow.v1 import shadow_service_pb2 as pb

if TYPE_CHECKING:
    from tests.unit.cli.conftest import Reflux
    from tests.unit.cli.fakes import FakeServer

NODE = "http.request"


def test_a_version_is_put_there_and_taken_back(server: FakeServer, reflux: Reflux) -> None:
    """It becomes a target without weight, all else stays; who gets a share leaves the shadow."""
    reflux("route", "shadow", NODE, "2.0.0=2.5", ok=True)
    newest = server.routes.revisions[-1]
    assert [(each.version, each.weight, each.tries, each.shadow) for each in newest.targets] == [
        ("1.0.0", 10_000, 2, 0),
        ("2.0.0", 0, 1, 250),
    ]
    assert "2.5 %" in reflux("route", "get", NODE, ok=True).stdout
    reflux("route", "set", NODE, "1.0.0=90", "2.0.0=10", ok=True)
    assert [each.shadow for each in server.routes.revisions[-1].targets] == [0, 0]


@pytest.mark.parametrize("wrong", ["2.0.0", "2.0.0=x", "=5", "1.0.0=5"])
def test_what_is_no_shadow_is_refused(server: FakeServer, reflux: Reflux, wrong: str) -> None:
    """A share that is none, and a version that answers itself."""
    assert reflux("route", "shadow", NODE, wrong).status != 0
    assert len(server.routes.revisions) == 1


def test_how_it_compares_is_shown(server: FakeServer, reflux: Reflux) -> None:
    """How many, where they differ, and an example; for programs all of it."""
    example = pb.ShadowExample(run_id="r", step="s", attempt=1, answered="1", shadowed="2")
    place = pb.ShadowDifference(pointer="/total", kind="changed", count=3, examples=[example])
    server.shadows.answer.shadows.append(
        pb.Shadow(version="2.0.0", equal=97, different=3, differences=[place])
    )
    lines = [line.split() for line in reflux("route", "shadow", NODE, ok=True).stdout.splitlines()]
    assert ["2.0.0", "97", "3", "0", "0", "0"] in lines
    assert ["2.0.0", "/total", "changed", "3", "r", "s", "1", "2"] in lines
    [shown] = json.loads(reflux("route", "shadow", NODE, "--json", ok=True).stdout)["shadows"]
    assert (shown["equal"], shown["differences"][0]["examples"][0]["shadowed"]) == (97, "2")
