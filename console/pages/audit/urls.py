"""Addresses of the audit's pages, below `/t/<slug>/audit/`."""

from django.urls import include, path

from console.pages.audit import (
    export,
    export_progress,
    keys,
    proof,
    readers,
    record,
    records,
    retention,
    saved,
)

urlpatterns = [
    path("review/", include("console.pages.audit.review_urls")),
    path("cases/", include("console.pages.audit.case_urls")),
    path("", records.records, name="audit"),
    path("<uuid:request_id>/", record.record, name="audit_record"),
    path("retention/", retention.page, name="retention"),
    path("retention/policy", retention.set_policy, name="retention_policy"),
    path("retention/tombstones/<uuid:tombstone_id>/", retention.tombstone, name="retention_tombstone"),
    path("retention/erasures/", retention.erasures, name="retention_erasures"),
    path("retention/held/<uuid:case_id>/", retention.held, name="retention_held"),
    path("retention/decisions/<uuid:deed_id>/", retention.decision, name="retention_decision"),
    path("proof/", proof.page, name="audit_proof"),
    path("proof/check", proof.check, name="audit_proof_check"),
    path("proof/progress", proof.progress, name="audit_proof_progress"),
    path("proof/keys", proof.keys, name="audit_proof_keys"),
    path("proof/checkpoint", proof.head, name="audit_proof_head"),
    path("proof/continuation", proof.continuation, name="audit_proof_continuation"),
    path("proof/verifier", proof.verifier, name="audit_proof_verifier"),
    path("proof/<uuid:request_id>/", proof.record, name="audit_proof_record"),
    path("keys/", keys.page, name="audit_keys"),
    path("readers/", readers.page, name="audit_readers"),
    path("readers/rules/", readers.rules, name="audit_readers_rules"),
    path("readers/alerts/<uuid:alert_id>/", readers.acknowledge, name="audit_readers_acknowledge"),
    path("export", export.page, name="audit_export"),
    path("export/progress", export_progress.progress, name="audit_export_progress"),
    path("export/stop", export_progress.stop, name="audit_export_stop"),
    path("saved/", saved.page, name="audit_saved"),
    path("saved/<uuid:saved_id>/", saved.edit, name="audit_saved_edit"),
    path("saved/<uuid:saved_id>/remove", saved.remove, name="audit_saved_remove"),
    path("saved/<uuid:saved_id>/restore", saved.restore, name="audit_saved_restore"),
]
