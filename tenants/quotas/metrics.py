"""Prometheus metrics of quotas. No label names a tenant, a group, a person or a key."""

from __future__ import annotations

from prometheus_client import Counter, Histogram

_BUCKETS = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 3)

refusals = Counter("custos_quota_refusals", "Requests that a limit turned away.", ["metric", "subject"])
unavailable = Counter("custos_quota_unavailable", "Requests turned away because limits could not be counted.")
seconds = Histogram("custos_quota_seconds", "What reserving and settling took.", ["step"], buckets=_BUCKETS)
