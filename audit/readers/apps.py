from django.apps import AppConfig


class AuditReadersConfig(AppConfig):
    name = "audit.readers"
    label = "audit_readers"

    def ready(self) -> None:
        from audit import secrecy
        from audit.readers import access

        secrecy.register(access.rooms_of)
