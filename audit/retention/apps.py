from django.apps import AppConfig


class AuditRetentionConfig(AppConfig):
    name = "audit.retention"
    label = "audit_retention"

    def ready(self) -> None:
        from audit import selectors
        from audit.retention import departed, holds
        from audit.tree import bundle

        selectors.register(departed)
        bundle.register(holds.kept)
