from django.apps import AppConfig


class AuditSearchConfig(AppConfig):
    name = "audit.search"
    label = "audit_search"
