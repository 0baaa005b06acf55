"""Instruments: what a process counts and times, at a cost that a step does not notice.

Theory. OpenTelemetry's Python SDK takes 11 µs to add to a counter and 13 µs to record into a histogram,
because it finds attributes, views and aggregation anew each time; a step of a run would pay that five times
over. So recording never touches the SDK: an instrument is a table of plain numbers, one *series* per set of
label values, and a hot path holds on to its series (`Counter.at`). Adding costs 0.1 µs, recording a duration
0.2 µs, finding the series first 0.2 µs more; a process that nobody asks imports neither OpenTelemetry nor
prometheus-client. When somebody asks, `reflux.runtime.exposition` reads the tables out through
OpenTelemetry's data model.

Rules:
- Instruments are module-level constants in the `metrics` module of the package that counts, one per name in
  the whole process, like loggers. services/METRICS.md names all of them; a test holds it to that.
- Names follow OpenTelemetry (`reflux.run.duration`, unit `s`); Prometheus sees `reflux_run_duration_seconds`.
- What users choose (names of nodes, versions) may be a label, because `MAX_SERIES` bounds what it costs:
  label sets beyond it are counted together, under `other`. Ids, names of flows and texts are never labels.
- Everything belongs to the event loop's thread: no locks.
- Gauges are read, not written: `Gauge.watched` says who knows, for as long as the block runs. Of several who
  know, the sum counts.
"""

from __future__ import annotations

from bisect import bisect_left
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Final, Generic, Literal, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

Labels = tuple[str, ...]
"""Values of an instrument's labels, in its order."""

Kind = Literal["counter", "gauge", "histogram"]

MAX_SERIES: Final = 500
"""Of one instrument, the one for all the others not counted."""
OTHER: Final = "other"
"""Every label's value for what came after `MAX_SERIES`."""

SECONDS: Final = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0,
)  # fmt: skip
"""Upper bounds for durations, from a call on this machine to a step that waits for a person."""
ROWS: Final = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0)
"""Upper bounds for numbers of rows."""

SeriesT = TypeVar("SeriesT")


class Count:
    """One series of a counter."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: float = 0

    def add(self, amount: float = 1) -> None:
        """Count `amount`, which is not negative."""
        self.value += amount


class Buckets:
    """One series of a histogram: how many values were at most each bound, and above all of them."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def record(self, value: float) -> None:
        """Take one value into account."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    @property
    def count(self) -> int:
        """How many values were recorded."""
        return sum(self.counts)


@dataclass(frozen=True, slots=True)
class About:
    """What an instrument is called and means."""

    name: str
    """`reflux.area.what`, without the unit."""
    unit: str
    """UCUM: `s`, `By`, or `{things}`."""
    text: str
    """One sentence for operators, without a full stop."""
    labels: tuple[str, ...]
    kind: Kind


class _Table(Generic[SeriesT]):
    """Series by their label values, and not more than `MAX_SERIES` of them."""

    def __init__(self, about: About, make: Callable[[], SeriesT]) -> None:
        _register(about.name, self)
        self.about = about
        self._make = make
        self._series: dict[Labels, SeriesT] = {}

    def at(self, *labels: str) -> SeriesT:
        """The series of these label values; the same object each time, to be held on to where time counts."""
        series = self._series.get(labels)
        return self._add(labels) if series is None else series

    def series(self) -> Mapping[Labels, SeriesT]:
        """What was counted, by label values."""
        return self._series

    def _add(self, labels: Labels) -> SeriesT:
        names = self.about.labels
        if len(labels) != len(names):
            raise TypeError(f"{self.about.name} has the labels {', '.join(names) or '(none)'}, not {labels}")
        if len(self._series) >= MAX_SERIES:
            labels = (OTHER,) * len(names)
        return self._series.setdefault(labels, self._make())


class Counter(_Table[Count]):
    """How often something happened; only rises.

    >>> RUNS_STARTED = Counter("reflux.runs.started", unit="{run}", text="Runs begun")
    >>> RUNS_STARTED.at().add()
    """

    def __init__(self, name: str, *, unit: str, text: str, labels: tuple[str, ...] = ()) -> None:
        super().__init__(About(name, unit, text, labels, "counter"), Count)


class Histogram(_Table[Buckets]):
    """How values are spread, durations in seconds above all.

    >>> COMMIT = Histogram("reflux.commit.duration", unit="s", text="…", labels=("lane",))
    >>> journal = COMMIT.at("journal")
    >>> journal.record(0.004)
    """

    def __init__(
        self,
        name: str,
        *,
        unit: str,
        text: str,
        labels: tuple[str, ...] = (),
        bounds: tuple[float, ...] = SECONDS,
    ) -> None:
        super().__init__(About(name, unit, text, labels, "histogram"), lambda: Buckets(bounds))


class Gauge:
    """How many there are now; whoever knows is asked when somebody wants to know.

    >>> with RUNS_LOADED.watched(lambda: {(): len(worker.runs)}):
    ...     await work()
    """

    def __init__(self, name: str, *, unit: str, text: str, labels: tuple[str, ...] = ()) -> None:
        _register(name, self)
        self.about = About(name, unit, text, labels, "gauge")
        self._sources: list[Callable[[], Mapping[Labels, float]]] = []

    @contextmanager
    def watched(self, read: Callable[[], Mapping[Labels, float]]) -> Iterator[None]:
        """Ask `read`, which must be quick and must not raise, within the block."""
        self._sources.append(read)
        try:
            yield
        finally:
            self._sources.remove(read)

    def series(self) -> Mapping[Labels, float]:
        """The values now, by label values; what nobody knows is not there."""
        values: dict[Labels, float] = {}
        for labels, value in chain.from_iterable(read().items() for read in self._sources):
            if labels not in values and len(values) >= MAX_SERIES:
                labels = (OTHER,) * len(labels)  # noqa: PLW2901 - counted together from here on
            values[labels] = values.get(labels, 0.0) + value
        return values


Instrument = Counter | Histogram | Gauge

_instruments: dict[str, Instrument] = {}


def instruments() -> Sequence[Instrument]:
    """Every instrument of this process, in the order in which their modules were loaded."""
    return list(_instruments.values())


def _register(name: str, instrument: object) -> None:
    if name in _instruments:
        raise ValueError(f"there is an instrument {name} already")
    assert isinstance(instrument, Counter | Histogram | Gauge)
    _instruments[name] = instrument
