"""The identity providers of tenants."""

from datetime import date

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.utils.translation import gettext_lazy as _

from tenants import clock
from tenants.models import TenantModel

# Data keys of content are destroyed day by day; a provider's secret stays as long as the tenant's key.
KEY_DAY = date(2000, 1, 1)
KEY_PURPOSE = "sign_in"


class IdentityProvider(TenantModel):
    """An OpenID Connect issuer that vouches for people of this tenant, and for nobody elsewhere.

    vouches_for_duties: for its administrators and reviewers too. Whoever manages sign-in chooses the issuer and could
    have it name anybody, so that is for those who appoint people to decide.
    """

    slug = models.SlugField(max_length=50)
    name = models.CharField(_("name"), max_length=120)
    issuer = models.URLField(_("issuer"), max_length=500)
    client_id = models.CharField(_("client ID"), max_length=255)
    sealed_secret = models.BinaryField(null=True, editable=False)
    domains = ArrayField(models.CharField(max_length=253), default=list)
    default_role = models.CharField(_("role of new people"), max_length=50, default="member")
    just_in_time = models.BooleanField(_("let in people without an invitation"), default=False)
    vouches_for_duties = models.BooleanField(_("vouch for administrators and reviewers too"), default=False)
    enabled = models.BooleanField(_("enabled"), default=True)
    created = models.DateTimeField(default=clock.now, editable=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["tenant", "slug"], name="one_identity_provider_of_a_slug")
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def reference(self) -> str:
        """How SocialAccount.provider and sessions name it: `<tenant id>:<provider id>`."""
        return f"{self.tenant_id}:{self.pk}"

    @property
    def has_secret(self) -> bool:
        return self.sealed_secret is not None
