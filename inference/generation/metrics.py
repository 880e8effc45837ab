"""Prometheus metrics of generations. With PROMETHEUS_MULTIPROC_DIR set they add up over processes."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

_LATENCY_BUCKETS = (0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 2, 5, 10, 30, 60)
_GAP_BUCKETS = (0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1, 5)

generations = Counter("custos_generations", "Generations that ended.", ["channel", "status", "model"])
time_to_first_token = Histogram(
    "custos_time_to_first_token_seconds",
    "From the request's arrival to the first text delivered.",
    ["channel", "model"],
    buckets=_LATENCY_BUCKETS,
)
inter_token = Histogram(
    "custos_inter_token_latency_seconds",
    "Median gap between pieces of text from the model, one value per generation.",
    ["channel", "model"],
    buckets=_GAP_BUCKETS,
)
duration = Histogram(
    "custos_generation_duration_seconds",
    "From the request's arrival to its end.",
    ["channel", "model"],
    buckets=_LATENCY_BUCKETS,
)
tokens = Counter("custos_tokens", "Tokens read and written.", ["direction", "model"])
shadows = Counter(
    "custos_shadows", "Copies of requests to another deployment, by how they ended.", ["outcome"]
)
active = Gauge("custos_generations_active", "Generations running now.", multiprocess_mode="livesum")
sockets = Gauge("custos_chat_sockets_active", "Chat websockets open now.", multiprocess_mode="livesum")
