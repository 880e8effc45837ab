"""What a tenant has chosen for itself."""

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.utils.translation import gettext_lazy as _

from tenants.models.base import TenantModel


class TenantSettings(TenantModel):
    """One row a tenant, made with it. Empty lists restrict nothing."""

    class Registration(models.TextChoices):
        INVITATION = "invitation", _("By invitation only")
        DOMAIN = "domain", _("By invitation, or with an address of these domains")

    class Accent(models.TextChoices):
        BLUE = "blue", _("Blue")
        TEAL = "teal", _("Teal")
        VIOLET = "violet", _("Violet")
        ROSE = "rose", _("Rose")
        AMBER = "amber", _("Amber")
        GREY = "grey", _("Grey")

    default_language = models.CharField(_("default language"), max_length=10, blank=True)
    allowed_models = ArrayField(models.CharField(max_length=100), default=list, blank=True)
    registration = models.CharField(max_length=16, choices=Registration, default=Registration.INVITATION)
    registration_domains = ArrayField(models.CharField(max_length=253), default=list, blank=True)
    networks = ArrayField(models.CharField(max_length=49), default=list, blank=True)
    mfa_required = models.BooleanField(_("a second factor is required"), default=False)
    display_name = models.CharField(_("display name"), max_length=120, blank=True)
    accent = models.CharField(_("colour"), max_length=10, choices=Accent, default=Accent.BLUE)
    logo = models.BinaryField(null=True, editable=False, help_text="WebP, at most 512 by 512 pixels.")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["tenant"], name="one_settings_a_tenant")]

    def __str__(self) -> str:
        return f"settings of {self.tenant_id}"
