"""What Prometheus reads: our names, and vLLM's with vLLM's labels and buckets."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import httpx
import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from inference.engine.engine import Stats
from inference.server.metrics import Distribution, Metrics, Snapshot, Timeline

MODEL = "smollm2-135m-instruct"
LABELS = {"model_name": MODEL, "engine": "0"}

# As vLLM 0.32 has them: dashboards made for it ask for exactly these.
REQUEST = (
    "0.3 0.5 0.8 1.0 1.5 2.0 2.5 5.0 10.0 15.0 20.0 30.0 40.0 50.0 60.0 120.0 240.0 480.0 960.0 1920.0 7680.0"
)
FIRST_TOKEN = "0.001 0.005 0.01 0.02 0.04 0.06 0.08 0.1 0.25 0.5 0.75 1.0 2.5 5.0 7.5 10.0 20.0 40.0 80.0 160.0 640.0 2560.0"
INTER_TOKEN = "0.01 0.025 0.05 0.075 0.1 0.15 0.2 0.3 0.4 0.5 0.75 1.0 2.5 5.0 7.5 10.0 20.0 40.0 80.0"
STEP = "1.0 8.0 16.0 32.0 64.0 128.0 256.0 512.0 1024.0 2048.0 4096.0 8192.0 16384.0"
LENGTH = "1.0 2.0 5.0 10.0 20.0 50.0 100.0 200.0 500.0 1000.0 2000.0 5000.0"  # Of a context of 8,192.
HISTOGRAMS = {
    "time_to_first_token_seconds": FIRST_TOKEN,
    "inter_token_latency_seconds": INTER_TOKEN,
    "request_time_per_output_token_seconds": INTER_TOKEN,
    "e2e_request_latency_seconds": REQUEST,
    "request_queue_time_seconds": REQUEST,
    "request_inference_time_seconds": REQUEST,
    "request_prefill_time_seconds": REQUEST,
    "request_decode_time_seconds": REQUEST,
    "iteration_tokens_total": STEP,
    "request_prompt_tokens": LENGTH,
    "request_generation_tokens": LENGTH,
}
GAUGES = ("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc")
COUNTERS = (
    *("prefix_cache_queries_total", "prefix_cache_hits_total", "num_preemptions_total"),
    *("prompt_tokens_total", "generation_tokens_total"),
    *("spec_decode_num_draft_tokens_total", "spec_decode_num_accepted_tokens_total"),
)

STATS = Stats(
    running=3,
    waiting=2,
    max_running=16,
    max_waiting=64,
    steps=1,
    seconds_since_step=0.0,
    alive=True,
    kv_blocks_total=200,
    kv_blocks_used=50,
    kv_blocks_cached=30,
    prefix_queries=1000,
    prefix_hits=600,
    preemptions=4,
    draft_tokens=70,
    accepted_tokens=35,
    layer_draft_tokens=30,
    layer_accepted_tokens=10,
    out_of_memory=1,
    peak_memory_bytes=5_000,
    graph="compiled",
    precision="int8",
)
SNAPSHOT = Snapshot(
    model=MODEL, ready=True, max_context=8192, capacity_running=16, capacity_waiting=64, stats=STATS
)


def samples(text: str) -> Iterator[Sample]:
    for family in text_string_to_metric_families(text):
        yield from family.samples


def value(text: str, name: str, **labels: str) -> float:
    """The one sample of that name and exactly those labels."""
    (found,) = (s.value for s in samples(text) if s.name == name and s.labels == labels)
    return found


def scrape(metrics: Metrics) -> str:
    return generate_latest(metrics.registry).decode()


def bounds(text: str, name: str) -> list[str]:
    return [s.labels["le"] for s in samples(text) if s.name == f"{name}_bucket"]


# --- A real server -----------------------------------------------------------------------------------


async def test_every_name_of_vllm_is_there_with_its_labels_and_buckets(http: httpx.AsyncClient) -> None:
    text = (await http.get("/metrics")).text
    for name in (*GAUGES, *COUNTERS):
        assert value(text, f"vllm:{name}", **LABELS) >= 0
    for reason in ("stop", "length", "abort", "error", "repetition"):
        assert value(text, "vllm:request_success_total", **LABELS, finished_reason=reason) >= 0
    for name, expected in HISTOGRAMS.items():
        assert bounds(text, f"vllm:{name}") == [*expected.split(), "+Inf"], name
        assert value(text, f"vllm:{name}_count", **LABELS) >= 0


async def test_an_answer_is_counted_once_under_both_names(http: httpx.AsyncClient) -> None:
    def counts(text: str) -> list[float]:
        vllm = [
            *("prompt_tokens_total", "generation_tokens_total", "time_to_first_token_seconds_count"),
            *("inter_token_latency_seconds_count", "e2e_request_latency_seconds_count"),
            *("request_queue_time_seconds_count", "request_prefill_time_seconds_count"),
            *("request_decode_time_seconds_count", "request_generation_tokens_sum"),
        ]
        ours = [
            *("prompt_tokens_total", "generated_tokens_total", "time_to_first_token_seconds_count"),
            *("inter_token_seconds_count", "request_seconds_count", "queue_seconds_count"),
        ]
        ended = value(text, "vllm:request_success_total", **LABELS, finished_reason="length")
        return [
            *(value(text, f"vllm:{name}", **LABELS) for name in vllm),
            *(value(text, f"custos_inference_{name}") for name in ours),
            ended,
        ]

    before = (await http.get("/metrics")).text
    body = {"model": MODEL, "prompt": "Once", "max_tokens": 6, "ignore_eos": True}
    usage = (await http.post("/v1/completions", json=body)).json()["usage"]
    after = (await http.get("/metrics")).text
    prompt = usage["prompt_tokens"]
    grown = [b - a for a, b in zip(counts(before), counts(after), strict=True)]
    assert grown == [prompt, 6, 1, 5, 1, 1, 1, 1, 6, prompt, 6, 1, 5, 1, 1, 1]
    computed = "vllm:iteration_tokens_total_sum"
    drafted, accepted = (
        value(after, name, **LABELS) - value(before, name, **LABELS)
        for name in (f"vllm:spec_decode_num_{kind}_tokens_total" for kind in ("draft", "accepted"))
    )
    # All of the prompt and every token fed back, which the last one never is; and wrong guesses.
    expected = prompt + 5 + drafted - accepted
    assert value(after, computed, **LABELS) - value(before, computed, **LABELS) == expected
    phases = [
        value(after, f"vllm:request_{phase}_time_seconds_sum", **LABELS)
        for phase in ("prefill", "decode", "inference")
    ]
    assert phases[0] > 0 and phases[1] > 0 and phases[0] + phases[1] == pytest.approx(phases[2])


# --- From numbers to names -----------------------------------------------------------------------------


def test_the_engines_state_is_read_at_the_scrape() -> None:
    now = SNAPSHOT
    metrics = Metrics(lambda: now)
    text = scrape(metrics)
    assert value(text, "vllm:num_requests_running", **LABELS) == 3
    assert value(text, "vllm:num_requests_waiting", **LABELS) == 2
    assert value(text, "vllm:kv_cache_usage_perc", **LABELS) == 0.25
    expected = {"prefix_cache_queries": 1000, "prefix_cache_hits": 600, "num_preemptions": 4}
    expected |= {"spec_decode_num_draft_tokens": 70, "spec_decode_num_accepted_tokens": 35}
    for name, count in expected.items():
        assert value(text, f"vllm:{name}_total", **LABELS) == count
    ours = {"kv_blocks": 200, "kv_blocks_used": 50, "kv_blocks_cached": 30}
    ours |= {"out_of_memory_total": 1, "peak_memory_bytes": 5_000}
    for name, count in ours.items():
        assert value(text, f"custos_inference_{name}") == count
    for source, drafted, accepted in (("lookup", 40, 25), ("layers", 30, 10)):
        assert value(text, "custos_inference_draft_tokens_total", source=source) == drafted
        assert value(text, "custos_inference_accepted_draft_tokens_total", source=source) == accepted
    engine = {"model": MODEL, "graph": "compiled", "precision": "int8"}
    assert value(text, "custos_inference_engine_info", **engine) == 1
    now = replace(SNAPSHOT, stats=replace(STATS, running=7))
    assert value(scrape(metrics), "custos_inference_requests_running") == 7


def test_while_loading_everything_is_zero() -> None:
    text = scrape(Metrics(lambda: replace(SNAPSHOT, ready=False, stats=None)))
    assert value(text, "custos_inference_ready") == 0
    assert value(text, "vllm:kv_cache_usage_perc", **LABELS) == 0
    assert "custos_inference_engine_info{" not in text


@pytest.mark.parametrize(
    ("outcome", "reason", "finished"),
    [
        ("completed", "stop", "stop"),
        ("completed", "tool_calls", "stop"),
        ("completed", "length", "length"),
        ("cancelled", None, "abort"),
        ("unavailable", None, "error"),
        ("failed", None, "error"),
    ],
)
def test_how_a_request_ended_in_both_vocabularies(outcome: str, reason: str | None, finished: str) -> None:
    metrics = Metrics(lambda: SNAPSHOT)
    waiting = Timeline(
        arrived_at=0, submitted_at=1, admitted_at=None, first_token_at=None, last_token_at=None, ended_at=4
    )
    metrics.observe_end(outcome=outcome, reason=reason, prompt=3, generated=0, times=waiting)
    text = scrape(metrics)
    assert value(text, "custos_inference_requests_total", outcome=outcome) == 1
    ends = {
        s.labels["finished_reason"]: s.value for s in samples(text) if s.name == "vllm:request_success_total"
    }
    assert ends == {**dict.fromkeys(("stop", "length", "abort", "error", "repetition"), 0.0), finished: 1.0}
    assert value(text, "vllm:e2e_request_latency_seconds_sum", **LABELS) == 4
    assert value(text, "vllm:request_queue_time_seconds_count", **LABELS) == 0


def test_phases_are_cut_where_vllm_cuts_them() -> None:
    metrics = Metrics(lambda: SNAPSHOT)
    times = Timeline(
        arrived_at=10, submitted_at=11, admitted_at=13, first_token_at=17, last_token_at=25, ended_at=26
    )
    metrics.observe_end(outcome="completed", reason="stop", prompt=3, generated=5, times=times)
    text = scrape(metrics)
    sums = {"queue": 2, "prefill": 4, "decode": 8, "inference": 12}
    for phase, seconds in sums.items():
        assert value(text, f"vllm:request_{phase}_time_seconds_sum", **LABELS) == seconds
    assert value(text, "vllm:request_time_per_output_token_seconds_sum", **LABELS) == 2
    assert value(text, "custos_inference_request_seconds_sum") == 16


def test_a_distribution_counts_at_the_bounds_of_each_of_its_names() -> None:
    distribution = Distribution((1, 4), (2, 4, 8))
    for number in (0.5, 1, 1.5, 3, 4, 100):
        distribution.observe(number)

    def buckets(*wanted: float) -> dict[str, float]:
        family = distribution.family("x", "X.", wanted, {})
        return {s.labels["le"]: s.value for s in family.samples if s.name == "x_bucket"}

    assert buckets(1, 4) == {"1.0": 2, "4.0": 5, "+Inf": 6}
    assert buckets(2, 4, 8) == {"2.0": 3, "4.0": 5, "8.0": 5, "+Inf": 6}
    assert distribution.family("x", "X.", (1,), {}).samples[-1].value == 110
