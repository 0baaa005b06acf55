"""services/METRICS.md names exactly the instruments that exist, as Prometheus sees them."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "services" / "METRICS.md"
SECTIONS = {
    "orchestrator": "Orchestrator",
    "registry": "Platform: registry, control plane, gateway",
    "controlplane": "Platform: registry, control plane, gateway",
    "gateway": "Platform: registry, control plane, gateway",
    "sdk": "Nodes",
}

# In a process of its own: one sample of each instrument, and nothing that other tests counted.
PROGRAM = """
import importlib, sys
from contextlib import ExitStack
from reflux.runtime import metrics
from reflux.runtime.exposition import Exposition
from prometheus_client.parser import text_string_to_metric_families

with ExitStack() as watched:
    packages = {}
    for package in sys.argv[1:]:
        importlib.import_module(f"reflux.{package}.metrics")
        for instrument in metrics.instruments():
            packages.setdefault(instrument, package)
    for instrument in packages:
        labels = tuple("x" for _ in instrument.about.labels)
        if isinstance(instrument, metrics.Gauge):
            watched.enter_context(instrument.watched(lambda labels=labels: {labels: 1}))
        else:
            instrument.at(*labels)
    text = Exposition("test").text().decode()
families = {family.documentation: family for family in text_string_to_metric_families(text)}
for instrument, package in packages.items():
    about, family = instrument.about, families[instrument.about.text]
    assert family.type == about.kind, (family, about)
    found = set(family.samples[0].labels) - {"le"}
    assert found == set(about.labels), (found, about)
    name = family.name + ("_total" if about.kind == "counter" else "")
    print(package, name, about.kind, ", ".join(about.labels), about.text, sep="\t")
"""


def test_the_document_names_what_exists() -> None:
    """Each in the section of its process, with its kind, its labels in order, its meaning word for word."""
    command = [sys.executable, "-c", PROGRAM, *SECTIONS]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    exist = {
        (SECTIONS[package], name, kind, labels, text)
        for package, name, kind, labels, text in (line.split("\t") for line in said.splitlines())
    }
    assert len(exist) > 30
    documented = set()
    section = ""
    for line in DOCUMENT.read_text().splitlines():
        section = line.removeprefix("### ") if line.startswith("###") else section
        if line.startswith("| `reflux_"):
            name, kind, labels, text = (cell.strip() for cell in line.strip("|").split("|"))
            documented.add((section, name.strip("`"), kind, labels, text))
    assert documented == exist


def test_every_metrics_module_is_looked_at() -> None:
    """A new one cannot be forgotten here."""
    there = {file.parent.name for file in (ROOT / "services" / "reflux").glob("*/metrics.py")}
    assert there == set(SECTIONS) | {"runtime"}


def test_the_questions_ask_for_what_exists() -> None:
    """The expressions that the document gives use its own names."""
    text = DOCUMENT.read_text()
    names = set(re.findall(r"^\| `(reflux_\w+)`", text, flags=re.MULTILINE))
    asked = set(re.findall(r"reflux_\w+", text.partition("## What to look at")[2]))
    assert asked
    suffixes = ("_bucket", "_count", "_sum")
    assert {name for name in asked if name not in names} == {
        name + suffix for name in names for suffix in suffixes if name + suffix in asked
    }
