"""Prometheus metrics of the audit write path. With PROMETHEUS_MULTIPROC_DIR set they add up over processes."""

from prometheus_client import Counter, Histogram

_BUCKETS = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5)

append_seconds = Histogram(
    "custos_audit_append_seconds",
    "Time until a piece of the audit record was committed.",
    ["operation"],
    buckets=_BUCKETS,
)
failures = Counter(
    "custos_audit_failures", "Pieces of the audit record that could not be written.", ["operation"]
)
orphans = Counter("custos_audit_orphans_closed", "Records closed because their process was gone.")
