from django.apps import AppConfig


class AuditTreeConfig(AppConfig):
    name = "audit.tree"
    label = "audit_tree"
