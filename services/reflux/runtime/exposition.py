"""What the instruments of this process say, as Prometheus text, by way of OpenTelemetry.

Counters and gauges are observable instruments of a MeterProvider, read when somebody asks. Histograms have no
observable kind, so their points are built here and join the others in the reader, which is what OpenTelemetry
calls a metric producer and the Python SDK has no name for. Units become suffixes and dots underscores in
OpenTelemetry's own Prometheus exporter; beside them stand the `process_*` figures of prometheus-client (CPU,
memory, open files).

Importing this module costs some 0.4 s and 10 MiB. Only `reflux.runtime.metrics_server` does, when it is first
asked.
"""

from __future__ import annotations

import time
from math import nan
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricsData,
    ResourceMetrics,
    ScopeMetrics,
)
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from reflux.runtime import metrics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4
SCOPE: Final = "reflux"
SERIES: Final = "reflux.metrics.series"


class Exposition:
    """The instruments of this process, ready to be asked; make one per process.

    >>> Exposition("orchestrator").text()
    b'# HELP reflux_runs_started_total Runs begun…'
    """

    def __init__(self, service: str) -> None:
        """`service`: name of the process, in `target_info`."""
        resource = Resource.create({SERVICE_NAME: f"reflux-{service}"})
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        reader = _Reader(resource, self._registry)
        self._provider = MeterProvider([reader], resource=resource, shutdown_on_exit=False)
        self._meter = self._provider.get_meter(SCOPE)
        self._known: set[str] = set()
        # It is there from the beginning: a reader that collects nothing at all is not even told.
        self._meter.create_observable_gauge(
            SERIES, [_series], unit="{series}", description="Label sets of all instruments of this process"
        )

    def text(self) -> bytes:
        """Every series now, in the Prometheus text format 0.0.4. To be called where the instruments live."""
        for instrument in metrics.instruments():
            if instrument.about.name not in self._known:
                self._known.add(instrument.about.name)
                self._observe(instrument)
        return generate_latest(self._registry)

    def close(self) -> None:
        """Let go of everything."""
        self._provider.shutdown()

    def _observe(self, instrument: metrics.Instrument) -> None:
        about = instrument.about
        if isinstance(instrument, metrics.Counter):
            self._meter.create_observable_counter(
                about.name, [_counts(instrument)], unit=about.unit, description=about.text
            )
        elif isinstance(instrument, metrics.Gauge):
            self._meter.create_observable_gauge(
                about.name, [_values(instrument)], unit=about.unit, description=about.text
            )


class _Reader(PrometheusMetricReader):
    """Adds the histograms to what the SDK has collected."""

    def __init__(self, resource: Resource, registry: CollectorRegistry) -> None:
        super().__init__(scope_info_enabled=False, registry=registry)
        self._resource = resource
        self._began = time.time_ns()

    def _receive_metrics(
        self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any
    ) -> None:
        points = ScopeMetrics(InstrumentationScope(SCOPE), list(_histograms(self._began)), "")
        ours = ResourceMetrics(self._resource, [points], "")
        collected = [] if metrics_data is None else list(metrics_data.resource_metrics)
        super()._receive_metrics(MetricsData([*collected, ours]), timeout_millis, **kwargs)


def _series(_: CallbackOptions) -> Iterable[Observation]:
    yield Observation(sum(len(instrument.series()) for instrument in metrics.instruments()))


def _counts(counter: metrics.Counter) -> Callable[[CallbackOptions], Iterable[Observation]]:
    def read(_: CallbackOptions) -> Iterable[Observation]:
        names = counter.about.labels
        for labels, count in counter.series().items():
            yield Observation(count.value, dict(zip(names, labels, strict=True)))

    return read


def _values(gauge: metrics.Gauge) -> Callable[[CallbackOptions], Iterable[Observation]]:
    def read(_: CallbackOptions) -> Iterable[Observation]:
        names = gauge.about.labels
        for labels, value in gauge.series().items():
            yield Observation(value, dict(zip(names, labels, strict=True)))

    return read


def _histograms(began: int) -> Iterable[Metric]:
    now = time.time_ns()
    for instrument in metrics.instruments():
        if isinstance(instrument, metrics.Histogram):
            about = instrument.about
            points = [
                HistogramDataPoint(
                    attributes=dict(zip(about.labels, labels, strict=True)),
                    start_time_unix_nano=began,
                    time_unix_nano=now,
                    count=buckets.count,
                    sum=buckets.total,
                    bucket_counts=buckets.counts,
                    explicit_bounds=buckets.bounds,
                    min=nan,  # Prometheus has neither
                    max=nan,
                )
                for labels, buckets in instrument.series().items()
            ]
            if points:
                data = Histogram(points, AggregationTemporality.CUMULATIVE)
                yield Metric(about.name, about.text, about.unit, data)
