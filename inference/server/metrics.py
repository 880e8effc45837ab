"""What Prometheus sees of the inference service, under our names and under vLLM's.

Everything is recorded once, in plain numbers, and given its names when Prometheus asks: dashboards
and alerts made for vLLM work here unchanged. No label ever holds content or a user.
"""

from __future__ import annotations

import sys
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

if TYPE_CHECKING:
    from inference.engine.engine import Stats

_FAST = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5)
_SLOW = (0.025, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1, 1.5, 2.5, 5, 10, 20, 40, 80, 160, 320)
_ROWS = (1, 2, 4, 8, 16, 32, 64)

# vLLM's bucket families (its v1/metrics/buckets.py, version 0.32): seconds, then tokens.
_VLLM_REQUEST = (
    *(0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60),
    *(120, 240, 480, 960, 1920, 7680),
)
_VLLM_FIRST_TOKEN = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10),
    *(20, 40, 80, 160, 640, 2560),
)
_VLLM_INTER_TOKEN = (
    *(0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10),
    *(20, 40, 80),
)
_VLLM_STEP_TOKENS = (1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)
_VLLM_LENGTH = tuple(mantissa * 10**power for power in range(6) for mantissa in (1, 2, 5))

# How a request can end: "rejected" is the sender's fault, "busy" is a full queue, "failed" ours.
OUTCOMES = ("completed", "cancelled", "rejected", "busy", "unavailable", "failed")
# The same in vLLM's words, for requests that reached the engine.
_FINISHED_REASONS = ("stop", "length", "abort", "error", "repetition")


def outcome_of(status: int) -> str:
    """How a request refused with this HTTP status ended."""
    return {429: "busy", 503: "unavailable", 500: "failed"}.get(status, "rejected")


class Tally:
    """A number that only grows. Only one thread writes it, so it needs no lock; any may read it."""

    def __init__(self) -> None:
        self.value = 0

    def inc(self, amount: int = 1) -> None:
        self.value += amount


class Distribution:
    """A histogram only one thread writes: an observation costs a tenth of prometheus_client's.

    It counts at the bounds of every name it is shown under, so each shows exactly its own.
    """

    def __init__(self, *families: Sequence[float]) -> None:
        self.bounds = sorted({float(bound) for family in families for bound in family})
        self._counts = [0] * (len(self.bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self.bounds, value)] += 1
        self._sum += value

    def family(
        self, name: str, text: str, bounds: Sequence[float], labels: dict[str, str]
    ) -> HistogramMetricFamily:
        """The exported histogram with `bounds`, which must be among those it was made with."""
        family = HistogramMetricFamily(name, text, labels=list(labels))
        cumulative, total = {}, 0
        for bound, count in zip(self.bounds, self._counts, strict=False):
            total += count
            cumulative[bound] = total
        buckets = [(floatToGoString(float(bound)), cumulative[float(bound)]) for bound in bounds]
        family.add_metric(list(labels.values()), [*buckets, ("+Inf", total + self._counts[-1])], self._sum)
        return family


@dataclass(frozen=True, slots=True)
class Timeline:
    """When things happened to one request, in seconds of time.monotonic(); None: never."""

    arrived_at: float
    submitted_at: float
    admitted_at: float | None
    first_token_at: float | None
    last_token_at: float | None
    ended_at: float


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The service at the moment of a scrape. `stats` is None while the model is loading."""

    model: str
    ready: bool
    max_context: int
    capacity_running: int
    capacity_waiting: int
    stats: Stats | None


class Metrics:
    """One registry a service, so that tests can hold several in one process.

    The engine's thread writes what is observed by `observe_step`, the event loop everything else.
    """

    def __init__(self, snapshot: Callable[[], Snapshot]) -> None:
        self.registry = CollectorRegistry()
        self.requests = self._outcomes("requests", "Generation requests by how they ended.")
        self.embedding_requests = self._outcomes("embedding_requests", "Embeddings requests, likewise.")
        self.prompt_tokens, self.generated_tokens, self.embedding_tokens = Tally(), Tally(), Tally()
        self.finished = dict.fromkeys(_FINISHED_REASONS, 0)
        self.first_token = Distribution(_SLOW, _VLLM_FIRST_TOKEN)
        self.inter_token = Distribution(_FAST, _VLLM_INTER_TOKEN)
        self.whole = Distribution(_SLOW, _VLLM_REQUEST)
        self.queue = Distribution(_SLOW, _VLLM_REQUEST)
        self.prefill = Distribution(_VLLM_REQUEST)
        self.decode = Distribution(_VLLM_REQUEST)
        self.inference = Distribution(_VLLM_REQUEST)
        self.time_per_token = Distribution(_VLLM_INTER_TOKEN)
        self.prompt_length = Distribution(_VLLM_LENGTH)
        self.answer_length = Distribution(_VLLM_LENGTH)
        self.step = Distribution(_FAST)
        self.step_rows = Distribution(_ROWS)
        self.step_tokens = Distribution(_VLLM_STEP_TOKENS)
        ProcessCollector(registry=self.registry)
        self.registry.register(_Device())
        self.registry.register(_OurNames(self, snapshot))
        self.registry.register(_VllmNames(self, snapshot))

    def _outcomes(self, name: str, text: str) -> Counter:
        counter = Counter(f"custos_inference_{name}", text, ("outcome",), registry=self.registry)
        for outcome in OUTCOMES:  # Shown from the start, so that a rate is never missing its zero.
            counter.labels(outcome)
        return counter

    def observe_step(self, seconds: float, rows: int, num_tokens: int) -> None:
        """One step of the engine: requests worked on, and tokens computed for all of them."""
        self.step.observe(seconds)
        self.step_rows.observe(rows)
        self.step_tokens.observe(num_tokens)

    def observe_end(
        self, *, outcome: str, reason: str | None, prompt: int, generated: int, times: Timeline
    ) -> None:
        """One request that reached the engine has ended; `reason` is OpenAI's, None if it did not finish.

        `prompt` (unknown, so not counted, if it did not finish) and `generated` are in tokens. Phases
        are cut as vLLM cuts them: waiting until first scheduled, prefill until the first token, decode
        until the last.
        """
        self.requests.labels(outcome).inc()
        if reason is None:
            self.finished["abort" if outcome == "cancelled" else "error"] += 1
        else:
            self.finished["length" if reason == "length" else "stop"] += 1
            self.prompt_length.observe(prompt)
        self.whole.observe(times.ended_at - times.arrived_at)
        self.answer_length.observe(generated)
        if times.admitted_at is not None:
            self.queue.observe(times.admitted_at - times.submitted_at)
        if times.admitted_at is None or times.first_token_at is None or times.last_token_at is None:
            return
        self.prefill.observe(times.first_token_at - times.admitted_at)
        self.decode.observe(times.last_token_at - times.first_token_at)
        self.inference.observe(times.last_token_at - times.admitted_at)
        if generated > 1:
            self.time_per_token.observe((times.last_token_at - times.first_token_at) / (generated - 1))


# --- Names ------------------------------------------------------------------------------------------

# (name, text, field of Stats). A field's value is read at the scrape, so that it can never go stale.
_OUR_GAUGES = (
    ("requests_running", "Requests in the batch.", "running"),
    ("requests_waiting", "Requests in line.", "waiting"),
    ("kv_blocks", "KV cache blocks there are.", "kv_blocks_total"),
    ("kv_blocks_used", "KV cache blocks of running requests.", "kv_blocks_used"),
    ("kv_blocks_cached", "KV cache blocks of no request, kept for reuse.", "kv_blocks_cached"),
    ("peak_memory_bytes", "Most memory in use when the device last ran out.", "peak_memory_bytes"),
)
_VLLM_GAUGES = (
    ("num_requests_running", "Requests in the batch.", "running"),
    ("num_requests_waiting", "Requests in line.", "waiting"),
)
_VLLM_COUNTERS = (
    ("prefix_cache_queries", "Prompt tokens looked up in the prefix cache.", "prefix_queries"),
    ("prefix_cache_hits", "Prompt tokens found there.", "prefix_hits"),
    ("num_preemptions", "Requests put back in line for want of memory.", "preemptions"),
    ("spec_decode_num_draft_tokens", "Tokens guessed by speculation.", "draft_tokens"),
    ("spec_decode_num_accepted_tokens", "Guessed tokens that were right.", "accepted_tokens"),
)


def _read(stats: Stats | None, field: str) -> float:
    return float(getattr(stats, field)) if stats else 0.0


class _OurNames(Collector):
    """custos_inference_*."""

    def __init__(self, metrics: Metrics, snapshot: Callable[[], Snapshot]) -> None:
        self._metrics = metrics
        self._snapshot = snapshot

    def collect(self) -> Iterator[Metric]:
        now = self._snapshot()
        yield from self._histograms()
        yield from self._counters(now.stats)
        yield from self._gauges(now)

    def _histograms(self) -> Iterator[Metric]:
        m = self._metrics
        for name, text, distribution, bounds in (
            ("queue_seconds", "From submission to a place in the batch.", m.queue, _SLOW),
            ("time_to_first_token_seconds", "From arrival to first token.", m.first_token, _SLOW),
            ("inter_token_seconds", "Between one token and the next.", m.inter_token, _FAST),
            ("request_seconds", "From arrival to the end of the answer.", m.whole, _SLOW),
            ("step_seconds", "One engine step.", m.step, _FAST),
            ("step_rows", "Requests worked on in one step.", m.step_rows, _ROWS),
        ):
            yield distribution.family(f"custos_inference_{name}", text, bounds, {})

    def _counters(self, stats: Stats | None) -> Iterator[Metric]:
        m = self._metrics
        for name, text, tally in (
            ("prompt_tokens", "Prompt tokens of finished requests.", m.prompt_tokens),
            ("generated_tokens", "Tokens generated, also for cancelled requests.", m.generated_tokens),
            ("embedding_tokens", "Tokens embedded.", m.embedding_tokens),
        ):
            yield CounterMetricFamily(f"custos_inference_{name}", text, value=tally.value)
        shortages = _read(stats, "out_of_memory")
        yield CounterMetricFamily(
            "custos_inference_out_of_memory", "Times the device ran out of memory.", value=shortages
        )
        for name, text, field in (
            ("draft_tokens", "Tokens guessed by speculation, by what guessed them.", "draft_tokens"),
            ("accepted_draft_tokens", "Those of them that were right.", "accepted_tokens"),
        ):
            counter = CounterMetricFamily(f"custos_inference_{name}", text, labels=["source"])
            layers = _read(stats, f"layer_{field}")
            counter.add_metric(["lookup"], _read(stats, field) - layers)
            counter.add_metric(["layers"], layers)
            yield counter

    def _gauges(self, now: Snapshot) -> Iterator[Metric]:
        values = [(name, text, _read(now.stats, field)) for name, text, field in _OUR_GAUGES]
        values += [
            ("ready", "1 when requests are served.", float(now.ready)),
            ("capacity_running", "Most requests in the batch.", now.capacity_running),
            ("capacity_waiting", "Most requests in line before 429.", now.capacity_waiting),
        ]
        for name, text, value in values:
            yield GaugeMetricFamily(f"custos_inference_{name}", text, value=value)
        info = GaugeMetricFamily(
            "custos_inference_engine_info", "How the engine runs.", labels=["model", "graph", "precision"]
        )
        if now.stats:
            info.add_metric([now.model, now.stats.graph, now.stats.precision], 1)
        yield info


class _Device(Collector):
    """Memory of the GPU that the model is on, where there is one."""

    def collect(self) -> Iterator[Metric]:
        # A process that has not loaded torch has nothing on a GPU, and a scrape must not be what loads it.
        torch = sys.modules.get("torch")
        if torch is None or not torch.cuda.is_available() or not torch.cuda.is_initialized():
            return
        free, total = torch.cuda.mem_get_info()
        for name, text, value in (
            ("used", "GPU memory in use, of all processes.", total - free),
            ("total", "GPU memory there is.", total),
        ):
            yield GaugeMetricFamily(f"custos_inference_gpu_memory_{name}_bytes", text, value=value)


class _VllmNames(Collector):
    """vllm:*, with vLLM's labels and buckets. `engine` numbers data-parallel engines; here is one."""

    def __init__(self, metrics: Metrics, snapshot: Callable[[], Snapshot]) -> None:
        self._metrics = metrics
        self._snapshot = snapshot

    def collect(self) -> Iterator[Metric]:
        now = self._snapshot()
        labels = {"model_name": now.model, "engine": "0"}
        yield from self._gauges(now.stats, labels)
        yield from self._counters(now.stats, labels)
        yield self._ends(labels)
        yield from self._histograms(labels, now.max_context)

    def _gauges(self, stats: Stats | None, labels: dict[str, str]) -> Iterator[Metric]:
        values = [(name, text, _read(stats, field)) for name, text, field in _VLLM_GAUGES]
        usage = stats.kv_blocks_used / stats.kv_blocks_total if stats and stats.kv_blocks_total else 0.0
        values.append(("kv_cache_usage_perc", "Share of the KV cache in use, 0 to 1.", usage))
        for name, text, value in values:
            gauge = GaugeMetricFamily(f"vllm:{name}", text, labels=list(labels))
            gauge.add_metric(list(labels.values()), value)
            yield gauge

    def _counters(self, stats: Stats | None, labels: dict[str, str]) -> Iterator[Metric]:
        m = self._metrics
        values = [(name, text, _read(stats, field)) for name, text, field in _VLLM_COUNTERS]
        values.append(("prompt_tokens", "Prompt tokens of finished requests.", m.prompt_tokens.value))
        values.append(("generation_tokens", "Tokens generated.", m.generated_tokens.value))
        for name, text, value in values:
            counter = CounterMetricFamily(f"vllm:{name}", text, labels=list(labels))
            counter.add_metric(list(labels.values()), value)
            yield counter

    def _ends(self, labels: dict[str, str]) -> Metric:
        ends = CounterMetricFamily(
            "vllm:request_success", "Requests by how they ended.", labels=[*labels, "finished_reason"]
        )
        for reason, count in self._metrics.finished.items():
            ends.add_metric([*labels.values(), reason], count)
        return ends

    def _histograms(self, labels: dict[str, str], max_context: int) -> Iterator[Metric]:
        m = self._metrics
        lengths = [bound for bound in _VLLM_LENGTH if bound <= max_context]
        for name, distribution, bounds in (
            ("time_to_first_token_seconds", m.first_token, _VLLM_FIRST_TOKEN),
            ("inter_token_latency_seconds", m.inter_token, _VLLM_INTER_TOKEN),
            ("request_time_per_output_token_seconds", m.time_per_token, _VLLM_INTER_TOKEN),
            ("e2e_request_latency_seconds", m.whole, _VLLM_REQUEST),
            ("request_queue_time_seconds", m.queue, _VLLM_REQUEST),
            ("request_inference_time_seconds", m.inference, _VLLM_REQUEST),
            ("request_prefill_time_seconds", m.prefill, _VLLM_REQUEST),
            ("request_decode_time_seconds", m.decode, _VLLM_REQUEST),
            ("iteration_tokens_total", m.step_tokens, _VLLM_STEP_TOKENS),
            ("request_prompt_tokens", m.prompt_length, lengths),
            ("request_generation_tokens", m.answer_length, lengths),
        ):
            yield distribution.family(f"vllm:{name}", f"As vLLM's {name}.", bounds, labels)
