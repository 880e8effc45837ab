from django.apps import AppConfig


class AuditCasesConfig(AppConfig):
    name = "audit.cases"
    label = "audit_cases"

    def ready(self) -> None:
        from audit import secrecy
        from audit.cases import access, opening
        from audit.review import hooks

        secrecy.register(access.cases_of)
        hooks.register_escalation(opening.open_for_flag)
