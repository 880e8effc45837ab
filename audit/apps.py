from django.apps import AppConfig


class AuditConfig(AppConfig):
    name = "audit"

    def ready(self) -> None:
        from audit import record
        from tenants import changes, incidents

        changes.register(record.record_event)
        incidents.register(record.record_event)
