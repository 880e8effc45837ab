from django.apps import AppConfig


class AuditCasesConfig(AppConfig):
    name = "audit.cases"
    label = "audit_cases"
