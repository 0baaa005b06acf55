"""Limits of size, for the code and its tests alike: what is larger is two things."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
GENERATED = ROOT / "services" / "reflux" / "api"
MAX_MODULE = 500
MAX_FUNCTION = 70


def _modules() -> Iterator[tuple[Path, str]]:
    for folder in ("services/reflux", "tests", "bench", "envoy"):
        for file in (ROOT / folder).rglob("*.py"):
            if GENERATED not in file.parents:
                yield file.relative_to(ROOT), file.read_text(encoding="utf-8")


def _functions(text: str) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, (node.end_lineno or node.lineno) - node.lineno + 1


def test_no_module_has_more_than_500_lines() -> None:
    """Whoever opens a file can read all of it."""
    sizes = {str(file): text.count("\n") for file, text in _modules()}
    assert len(sizes) > 100, "the folders were not found"
    assert {file: lines for file, lines in sizes.items() if lines > MAX_MODULE} == {}


def test_no_function_has_more_than_70_lines() -> None:
    """Its docstring included; usually it has less than 40."""
    sizes = {(str(file), name): lines for file, text in _modules() for name, lines in _functions(text)}
    assert {where: lines for where, lines in sizes.items() if lines > MAX_FUNCTION} == {}
