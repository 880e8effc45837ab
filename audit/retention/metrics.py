"""Prometheus metrics of retention."""

from prometheus_client import Counter, Gauge

destroyed = Counter("custos_audit_retention_records", "Records that went under retention.", ["keeping"])
failures = Counter(
    "custos_audit_retention_failures", "Steps of retention that failed and are tried again.", ["step"]
)
waiting = Gauge(
    "custos_audit_retention_waiting_days",
    "Days that are due, were not announced in time and wait for a person or for a day.",
    multiprocess_mode="livemax",
)
