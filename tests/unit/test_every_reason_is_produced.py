"""The closed list of reasons has no dead entry: what no code gives, nobody needs to handle."""

import ast
from pathlib import Path

import pytest

from reflux.core.reasons import Reason

ROOT = Path(__file__).parents[2]
SERVICES = ROOT / "services" / "reflux"
GENERATED = SERVICES / "api"


def _named() -> set[str]:
    """Every `Reason.X` in the code, and the reasons that Envoy's own answers at the edge carry."""
    named = {
        node.attr
        for file in SERVICES.rglob("*.py")
        if GENERATED not in file.parents
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "Reason"
    }
    edge = (ROOT / "envoy" / "edge.yaml").read_text(encoding="utf-8")
    return named | {reason for reason in Reason if f"reason: {reason}\n" in edge}


NAMED = _named()


@pytest.mark.parametrize("reason", Reason)
def test_some_code_gives_it(reason: Reason) -> None:
    """A client may wait for each reason of the list, so each one must be able to come."""
    assert reason.name in NAMED
