from django.apps import AppConfig


class AuditReadersConfig(AppConfig):
    name = "audit.readers"
    label = "audit_readers"
