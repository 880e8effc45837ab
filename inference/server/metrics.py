"""What Prometheus sees of the inference service. No label ever holds content or a user."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

_FAST = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5)
_SLOW = (0.025, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1, 1.5, 2.5, 5, 10, 20, 40, 80, 160, 320)

# How a request can end: "rejected" is the sender's fault, "busy" is a full queue, "failed" ours.
OUTCOMES = ("completed", "cancelled", "rejected", "busy", "unavailable", "failed")


class Metrics:
    """One registry a service, so that tests can hold several in one process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()

        def histogram(name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(f"custos_inference_{name}", text, buckets=buckets, registry=self.registry)

        def counter(name: str, text: str, labels: tuple[str, ...] = ()) -> Counter:
            return Counter(f"custos_inference_{name}", text, labels, registry=self.registry)

        self.requests = counter("requests", "Generation requests by how they ended.", ("outcome",))
        for outcome in OUTCOMES:  # Shown from the start, so that a rate is never missing its zero.
            self.requests.labels(outcome)
        self.prompt_tokens = counter("prompt_tokens", "Prompt tokens of finished requests.")
        self.generated_tokens = counter("generated_tokens", "Tokens generated, also for cancelled requests.")
        self.queue = histogram("queue_seconds", "From submission to a place in the batch.", _SLOW)
        self.first_token = histogram("time_to_first_token_seconds", "From arrival to first token.", _SLOW)
        self.inter_token = histogram("inter_token_seconds", "Between one token and the next.", _FAST)
        self.whole = histogram("request_seconds", "From arrival to the end of the answer.", _SLOW)
        self.step = histogram("step_seconds", "One engine step.", _FAST)
        self.step_rows = histogram("step_rows", "Requests worked on in one step.", (1, 2, 4, 8, 16, 32, 64))

    def observe_step(self, seconds: float, rows: int) -> None:
        self.step.observe(seconds)
        self.step_rows.observe(rows)


class StatsCollector(Collector):
    """Gauges read from the service at the moment of the scrape, so they can never go stale."""

    def __init__(self, read: Callable[[], dict[str, float]]) -> None:
        self._read = read

    def collect(self) -> Iterator[Metric]:
        for name, value in self._read().items():
            text = name.replace("_", " ").capitalize() + "."
            yield GaugeMetricFamily(f"custos_inference_{name}", text, value=value)
