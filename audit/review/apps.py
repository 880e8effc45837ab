from django.apps import AppConfig


class AuditReviewConfig(AppConfig):
    name = "audit.review"
    label = "audit_review"
