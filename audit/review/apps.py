from django.apps import AppConfig


class AuditReviewConfig(AppConfig):
    name = "audit.review"
    label = "audit_review"

    def ready(self) -> None:
        from audit import secrecy
        from audit.review import access

        secrecy.register(access.rooms_of)
