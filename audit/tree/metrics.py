"""Prometheus metrics of the log. `livemostrecent`: one value for all processes, the last that any of them saw."""

from prometheus_client import Counter, Gauge

leaves = Counter(
    "custos_audit_leaves", "Closed records and statements that were given their place in the log."
)
checkpoints = Counter("custos_audit_checkpoints", "Heads of logs that were signed.")
late = Gauge(
    "custos_audit_late",
    "Closed records of a tenant that are not in the log after 60 seconds.",
    ["tenant"],
    multiprocess_mode="mostrecent",
)
lost = Counter("custos_audit_outbox_lost", "Closed records that no outbox row told of, found by looking.")
refused = Gauge(
    "custos_audit_head_refused",
    "1: the witness refuses the head of a tenant's log.",
    ["tenant"],
    multiprocess_mode="mostrecent",
)
unanchored = Gauge(
    "custos_audit_unanchored_seconds",
    "For how long a tenant's newest head has waited for the witness.",
    ["tenant"],
    multiprocess_mode="mostrecent",
)
findings = Gauge(
    "custos_audit_findings",
    "What the last whole verification of a tenant's log found wrong.",
    ["tenant"],
    multiprocess_mode="mostrecent",
)
