"""What is kept of all that is measured, and what can be read from it.

A `Kept` is a number of one moment: of a counter, what was added since the sample before; of a gauge, its value. A
`Series` is what people and rules see: a rate, a share, a percentile, a value. Prometheus is asked for the same series
in its own language, so both lists are made from this one.
"""

from dataclasses import dataclass, field
from enum import StrEnum

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from audit.models import Status


class Fold(StrEnum):
    """How several samples become one, and the aggregate that does it in SQL."""

    SUM = "sum"
    MEAN = "avg"
    MOST = "max"
    LEAST = "min"


class Source(StrEnum):
    WEB = "web"
    INFERENCE = "inference"
    MACHINE = "machine"  # Looked at by the monitor itself; also shown by /metrics.


@dataclass(frozen=True, slots=True)
class Kept:
    """metric: its name as exposed. labels: the values that count; those of other labels are added up.

    is_histogram: of such a metric every bucket is kept, as `name:bound`.
    """

    name: str
    source: Source
    metric: str
    fold: Fold = Fold.SUM
    labels: dict[str, tuple[str, ...]] = field(default_factory=dict)
    is_histogram: bool = False

    @property
    def is_counter(self) -> bool:
        return self.fold == Fold.SUM


ERRORS = (Status.FAILED.value, Status.TIMED_OUT.value, Status.INTERRUPTED.value)

KEPT = (
    Kept("requests", Source.WEB, "custos_generations_total"),
    Kept("errors", Source.WEB, "custos_generations_total", labels={"status": ERRORS}),
    Kept("refused", Source.WEB, "custos_generations_total", labels={"status": (Status.REFUSED.value,)}),
    Kept("ttft", Source.WEB, "custos_time_to_first_token_seconds", is_histogram=True),
    Kept("tokens_written", Source.WEB, "custos_tokens_total", labels={"direction": ("completion",)}),
    Kept("tokens_read", Source.WEB, "custos_tokens_total", labels={"direction": ("prompt",)}),
    Kept("streaming", Source.WEB, "custos_generations_active", Fold.MEAN),
    Kept("sockets", Source.WEB, "custos_chat_sockets_active", Fold.MEAN),
    Kept("audit_append", Source.WEB, "custos_audit_append_seconds", is_histogram=True),
    Kept("audit_failures", Source.WEB, "custos_audit_failures_total"),
    Kept("memory_web", Source.WEB, "process_resident_memory_bytes", Fold.MOST),
    Kept("cpu_web", Source.WEB, "process_cpu_seconds_total"),
    # Under vLLM's names, so that an inference server which is vLLM is seen as well.
    Kept("itl", Source.INFERENCE, "vllm:inter_token_latency_seconds", is_histogram=True),
    Kept("running", Source.INFERENCE, "vllm:num_requests_running", Fold.MEAN),
    Kept("queue", Source.INFERENCE, "vllm:num_requests_waiting", Fold.MOST),
    Kept("kv_use", Source.INFERENCE, "vllm:kv_cache_usage_perc", Fold.MOST),
    Kept("prefix_asked", Source.INFERENCE, "vllm:prefix_cache_queries_total"),
    Kept("prefix_found", Source.INFERENCE, "vllm:prefix_cache_hits_total"),
    Kept("preempted", Source.INFERENCE, "vllm:num_preemptions_total"),
    Kept("memory_inference", Source.INFERENCE, "process_resident_memory_bytes", Fold.MOST),
    Kept("cpu_inference", Source.INFERENCE, "process_cpu_seconds_total"),
    Kept("gpu_memory", Source.INFERENCE, "custos_inference_gpu_memory_used_bytes", Fold.MOST),
    Kept("up_web", Source.WEB, "up", Fold.LEAST),
    Kept("up_inference", Source.INFERENCE, "up", Fold.LEAST),
    Kept("up_valkey", Source.MACHINE, "custos_valkey_up", Fold.LEAST),
    Kept("worker_age", Source.MACHINE, "custos_worker_heartbeat_age_seconds", Fold.MOST),
    Kept("disk_free", Source.MACHINE, "custos_disk_free_ratio", Fold.LEAST),
    Kept("rolled_back", Source.MACHINE, "custos_rollouts_rolled_back", Fold.MOST),
)
KEPT_BY_NAME = {kept.name: kept for kept in KEPT}


class Unit(StrEnum):
    """What a series counts, for those who write it down."""

    PER_SECOND = "per_second"
    SECONDS = "seconds"
    SHARE = "share"  # 0 to 1, written as a percentage.
    COUNT = "count"
    BYTES = "bytes"
    CORES = "cores"
    STATE = "state"  # 1: up, 0: down.


class Kind(StrEnum):
    VALUE = "value"  # of a gauge
    RATE = "rate"  # a second
    ADDED = "added"  # how much, in the span
    SHARE = "share"  # of one counter in another
    PERCENTILE = "percentile"


@dataclass(frozen=True, slots=True)
class Series:
    """of: what it is made of, by name; a share's second is the whole. q: which percentile, 0 to 1."""

    name: str
    label: str | Promise
    unit: Unit
    kind: Kind
    of: tuple[str, ...]
    q: float = 0.0


def _percentiles(name: str, kept: str, words: dict[float, str | Promise]) -> tuple[Series, ...]:
    return tuple(
        Series(f"{name}_p{round(100 * q)}", label, Unit.SECONDS, Kind.PERCENTILE, (kept,), q)
        for q, label in words.items()
    )


SERIES = (
    Series("requests", _("Requests a second"), Unit.PER_SECOND, Kind.RATE, ("requests",)),
    Series("error_rate", _("Error rate"), Unit.SHARE, Kind.SHARE, ("errors", "requests")),
    Series("errors", _("Errors"), Unit.COUNT, Kind.ADDED, ("errors",)),
    Series("refused", _("Refused requests"), Unit.COUNT, Kind.ADDED, ("refused",)),
    *_percentiles(
        "ttft",
        "ttft",
        {0.5: _("First token, median"), 0.95: _("First token, p95"), 0.99: _("First token, p99")},
    ),
    *_percentiles(
        "itl",
        "itl",
        {0.5: _("Between tokens, median"), 0.95: _("Between tokens, p95"), 0.99: _("Between tokens, p99")},
    ),
    Series("tokens", _("Tokens written a second"), Unit.PER_SECOND, Kind.RATE, ("tokens_written",)),
    Series("tokens_read", _("Tokens read a second"), Unit.PER_SECOND, Kind.RATE, ("tokens_read",)),
    Series("streaming", _("Answers being written"), Unit.COUNT, Kind.VALUE, ("streaming",)),
    Series("sockets", _("Open chats"), Unit.COUNT, Kind.VALUE, ("sockets",)),
    Series("running", _("Requests in the model"), Unit.COUNT, Kind.VALUE, ("running",)),
    Series("queue", _("Requests in line"), Unit.COUNT, Kind.VALUE, ("queue",)),
    Series("kv_use", _("KV cache in use"), Unit.SHARE, Kind.VALUE, ("kv_use",)),
    Series("prefix_hits", _("Prefix hit rate"), Unit.SHARE, Kind.SHARE, ("prefix_found", "prefix_asked")),
    Series("preemptions", _("Preemptions"), Unit.COUNT, Kind.ADDED, ("preempted",)),
    Series("memory_web", _("Memory of web"), Unit.BYTES, Kind.VALUE, ("memory_web",)),
    Series("memory_inference", _("Memory of inference"), Unit.BYTES, Kind.VALUE, ("memory_inference",)),
    Series("gpu_memory", _("GPU memory in use"), Unit.BYTES, Kind.VALUE, ("gpu_memory",)),
    Series("cpu_web", _("Processor of web"), Unit.CORES, Kind.RATE, ("cpu_web",)),
    Series("cpu_inference", _("Processor of inference"), Unit.CORES, Kind.RATE, ("cpu_inference",)),
    *_percentiles(
        "audit_append", "audit_append", {0.5: _("Audit commit, median"), 0.95: _("Audit commit, p95")}
    ),
    Series("audit_failures", _("Audit write failures"), Unit.COUNT, Kind.ADDED, ("audit_failures",)),
    Series("up_web", _("Web answers"), Unit.STATE, Kind.VALUE, ("up_web",)),
    Series("up_inference", _("Inference answers"), Unit.STATE, Kind.VALUE, ("up_inference",)),
    Series("up_valkey", _("Valkey answers"), Unit.STATE, Kind.VALUE, ("up_valkey",)),
    Series("worker_age", _("Worker’s last sign of life"), Unit.SECONDS, Kind.VALUE, ("worker_age",)),
    Series("disk_free", _("Free share of the disk"), Unit.SHARE, Kind.VALUE, ("disk_free",)),
    Series(
        "rolled_back", _("Rollouts that Custos just rolled back"), Unit.COUNT, Kind.VALUE, ("rolled_back",)
    ),
)
SERIES_BY_NAME = {series.name: series for series in SERIES}
