from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class QuotasConfig(AppConfig):
    name = "tenants.quotas"
    label = "quotas"
    verbose_name = _("Quotas")
    default_auto_field = "django.db.models.BigAutoField"
