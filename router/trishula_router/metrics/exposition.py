"""Writes samples out, each under its metric's name, kind and help text, in the form that Prometheus reads.

Each node has a registry of its own: prometheus_client's global one would carry what any library of the process counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from trishula_router.histogram import Histogram
from trishula_router.metrics.families import FAMILIES, Family
from trishula_router.metrics.figures import Sample

__all__ = ["CONTENT_TYPE", "text_of"]

#: Of the text that every Prometheus since its first release reads.
CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"


class _Samples(Collector):
    """Samples that were read already, as a registry collects them."""

    def __init__(self, samples: Iterable[Sample]) -> None:
        self._samples = samples

    def collect(self) -> Iterator[Metric]:
        """Each metric that has samples, in the order of the families."""
        found: dict[str, list[tuple[tuple[str, ...], float | Histogram]]] = {name: [] for name in FAMILIES}
        for name, labels, value in self._samples:
            found[name].append((labels, value))
        for name, those in found.items():
            if those:
                yield _metric(FAMILIES[name], those)


def _metric(family: Family, samples: Iterable[tuple[tuple[str, ...], float | Histogram]]) -> Metric:
    if family.kind == "histogram":
        histogram = HistogramMetricFamily(family.name, family.help, labels=family.labels)
        for labels, value in samples:
            if isinstance(value, Histogram):
                histogram.add_metric(list(labels), buckets=_buckets(value), sum_value=value.total)
        return histogram
    kind = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
    metric = kind(family.name, family.help, labels=family.labels)
    for labels, value in samples:
        if not isinstance(value, Histogram):
            metric.add_metric(list(labels), float(value))
    return metric


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    ends = [*map(floatToGoString, histogram.bounds), "+Inf"]
    # Another thread may count meanwhile: they are added up from one copy.
    return [(end, float(count)) for end, count in zip(ends, accumulate(list(histogram.counts)), strict=True)]


def text_of(samples: Iterable[Sample]) -> bytes:
    """What a scrape gets: the samples, and what is known of the process (``process_*``; on Linux only)."""
    registry = CollectorRegistry()
    registry.register(_Samples(list(samples)))
    ProcessCollector(registry=registry)
    return generate_latest(registry)
