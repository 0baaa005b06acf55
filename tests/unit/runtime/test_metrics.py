"""Instruments: tables of numbers whose size is bounded, told in a form that Prometheus takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families

from reflux.runtime import metrics
from reflux.runtime.exposition import Exposition
from reflux.runtime.metrics import MAX_SERIES, Counter, Gauge, Histogram

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _instruments(monkeypatch: pytest.MonkeyPatch) -> None:
    """None but those of the test."""
    monkeypatch.setattr(metrics, "_instruments", {})


@pytest.fixture
def exposition() -> Iterator[Exposition]:
    exposition = Exposition("test")
    yield exposition
    exposition.close()


def samples(exposition: Exposition) -> dict[tuple[str, ...], float]:
    """Every sample of ours: its name and the values of its labels by their names, `k=v`."""
    return {
        (sample.name, *(f"{key}={value}" for key, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(exposition.text().decode())
        for sample in family.samples
        if sample.name.startswith("reflux") and sample.name != "reflux_metrics_series"
    }


def test_a_counter_counts_by_labels(exposition: Exposition) -> None:
    """Each label set by itself; the total has the name that Prometheus expects of counters."""
    counter = Counter("reflux.calls", unit="{call}", text="Calls", labels=("node", "code"))
    counter.at("a", "OK").add()
    counter.at("a", "OK").add(2)
    counter.at("b", "OK").add()
    assert samples(exposition) == {
        ("reflux_calls_total", "code=OK", "node=a"): 3,
        ("reflux_calls_total", "code=OK", "node=b"): 1,
    }


def test_a_histogram_is_cumulative_and_its_bounds_are_inclusive(exposition: Exposition) -> None:
    """A value at a bound belongs to it, one above all bounds to +Inf alone; seconds are in the name."""
    histogram = Histogram("reflux.wait", unit="s", text="Waits", labels=("lane",), bounds=(0.1, 1.0))
    for value in (0.05, 0.1, 0.5, 1.0, 7.0):
        histogram.at("x").record(value)
    assert samples(exposition) == {
        ("reflux_wait_seconds_bucket", "lane=x", "le=0.1"): 2,
        ("reflux_wait_seconds_bucket", "lane=x", "le=1.0"): 4,
        ("reflux_wait_seconds_bucket", "lane=x", "le=+Inf"): 5,
        ("reflux_wait_seconds_count", "lane=x"): 5,
        ("reflux_wait_seconds_sum", "lane=x"): 8.65,
    }


def test_a_gauge_sums_what_its_sources_know_now(exposition: Exposition) -> None:
    """Read at the moment of asking; a source that has ended is not remembered."""
    gauge = Gauge("reflux.runs", unit="{run}", text="Runs", labels=("state",))
    here = {("RUNNING",): 1.0}
    with gauge.watched(lambda: here):
        with gauge.watched(lambda: {("RUNNING",): 2, ("PARKED",): 5}):
            here[("RUNNING",)] = 10
            assert samples(exposition) == {
                ("reflux_runs", "state=RUNNING"): 12,
                ("reflux_runs", "state=PARKED"): 5,
            }
        assert samples(exposition) == {("reflux_runs", "state=RUNNING"): 10}
    assert samples(exposition) == {}


def test_what_users_choose_costs_a_bounded_number_of_series(exposition: Exposition) -> None:
    """Beyond the bound everything is counted under `other`, nothing is lost, and old series go on."""
    counter = Counter("reflux.calls", unit="{call}", text="Calls", labels=("node",))
    histogram = Histogram("reflux.wait", unit="s", text="Waits", labels=("node",))
    gauge = Gauge("reflux.ends", unit="{end}", text="Ends", labels=("node",))
    names = [f"node{number}" for number in range(MAX_SERIES + 100)]
    for name in [*names, *names]:
        counter.at(name).add()
        histogram.at(name).record(1)
    with gauge.watched(lambda: {(name,): 1 for name in names}):
        found = samples(exposition)
    for name, total in (("reflux_calls_total", 2), ("reflux_wait_seconds_count", 2), ("reflux_ends", 1)):
        series = {key: value for key, value in found.items() if key[0] == name}
        assert len(series) == MAX_SERIES + 1
        assert series[(name, "node=other")] == 100 * total
        assert series[(name, "node=node0")] == total
        assert sum(series.values()) == total * len(names)


def test_the_same_series_is_the_same_object() -> None:
    """A hot path holds on to it."""
    counter = Counter("reflux.calls", unit="{call}", text="Calls", labels=("node",))
    assert counter.at("a") is counter.at("a")
    assert counter.at("a") is not counter.at("b")


def test_wrong_labels_are_an_error_where_they_are_given() -> None:
    """Not a series that nobody finds."""
    counter = Counter("reflux.calls", unit="{call}", text="Calls", labels=("node", "code"))
    with pytest.raises(TypeError, match=r"reflux\.calls has the labels node, code"):
        counter.at("a")
    with pytest.raises(TypeError, match=r"\(none\)"):
        Counter("reflux.other", unit="{call}", text="Calls").at("a")


def test_a_name_belongs_to_one_instrument() -> None:
    """Two parts that count under one name would be taken for one."""
    Counter("reflux.calls", unit="{call}", text="Calls")
    with pytest.raises(ValueError, match=r"an instrument reflux\.calls already"):
        Gauge("reflux.calls", unit="{call}", text="Calls")


def test_an_instrument_that_comes_later_is_told_too(exposition: Exposition) -> None:
    """Modules are loaded when they are needed."""
    Counter("reflux.calls", unit="{call}", text="Calls").at().add()
    assert len(samples(exposition)) == 1
    Counter("reflux.later", unit="{call}", text="Later").at().add()
    assert samples(exposition) == {("reflux_calls_total",): 1, ("reflux_later_total",): 1}


@pytest.mark.parametrize("value", ['say "hi"', "a\\b", "two\nlines", "ünïcode", ""])
def test_odd_labels_stay_what_they_are(exposition: Exposition, value: str) -> None:
    """Whatever a label holds, the text can be read, and says the same."""
    Counter("reflux.calls", unit="{call}", text="Calls", labels=("node",)).at(value).add()
    assert samples(exposition) == {("reflux_calls_total", f"node={value}"): 1}


def test_the_process_tells_of_itself(exposition: Exposition) -> None:
    """Its name, its memory, its processor time, and how much its metrics hold."""
    Counter("reflux.calls", unit="{call}", text="Calls", labels=("node",)).at("a").add()
    text = exposition.text().decode()
    assert "\nreflux_metrics_series 1.0\n" in text
    assert 'service_name="reflux-test"' in text
    assert "process_resident_memory_bytes" in text
    assert "process_cpu_seconds_total" in text
