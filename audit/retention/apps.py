from django.apps import AppConfig


class AuditRetentionConfig(AppConfig):
    name = "audit.retention"
    label = "audit_retention"
