"""Programs and their credentials, and the wrapped keys of a tenant's content."""

import hmac
import re
import secrets
from hashlib import sha256
from uuid import UUID

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.utils.translation import gettext_lazy as _

from tenants import clock
from tenants.models.base import TenantModel
from tenants.roles import Role

_TEXT = re.compile("custos-([0-9a-f]{32})-([0-9a-f]{12})-([A-Za-z0-9_-]{43})")


class ServiceAccount(TenantModel):
    """A program that acts for itself, not for a person."""

    name = models.CharField(max_length=120)
    description = models.CharField(max_length=500, blank=True)
    role = models.CharField(max_length=50, default=Role.MEMBER)
    created = models.DateTimeField(default=clock.now, editable=False)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+"
    )
    disabled = models.DateTimeField(null=True, editable=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["tenant", "name"], name="one_service_account_of_a_name")
        ]

    def __str__(self) -> str:
        return self.name


class ApiKey(TenantModel):
    """A program's credential: shown once, kept as a hash. It acts for a person or for a service account.

    The text is `custos-<tenant>-<prefix>-<secret>`: the tenant's id leads to the scope in which the key can be looked
    up, so that no query ever runs across tenants; the prefix finds the row; the 256-bit secret proves it.
    """

    name = models.CharField(max_length=120)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.CASCADE, related_name="+", help_text="Or:"
    )
    service_account = models.ForeignKey(
        ServiceAccount, null=True, on_delete=models.CASCADE, related_name="keys"
    )
    scopes = ArrayField(models.CharField(max_length=30), default=list)
    allowed_routes = ArrayField(
        models.CharField(max_length=100), default=list, help_text="Names; none: whatever its owner may use."
    )
    networks = ArrayField(models.CharField(max_length=49), default=list)
    prefix = models.CharField(max_length=16, unique=True, editable=False)
    secret_hash = models.BinaryField(max_length=32, editable=False)
    created = models.DateTimeField(default=clock.now, editable=False)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+"
    )
    expires = models.DateTimeField(null=True)
    rotates = models.ForeignKey(
        "self",
        null=True,
        on_delete=models.SET_NULL,
        related_name="successors",
        help_text="The key it replaces.",
    )
    last_used = models.DateTimeField(null=True, editable=False)
    successor_made = models.DateTimeField(null=True, editable=False)
    revoked = models.DateTimeField(null=True, editable=False)

    class Meta:
        constraints = [
            # A key that was rotated keeps its name beside its successor until it ends.
            models.UniqueConstraint(
                fields=["tenant", "name"],
                condition=models.Q(revoked=None, successor_made=None),
                name="one_key_of_a_name",
            ),
            models.CheckConstraint(
                condition=models.Q(user=None) ^ models.Q(service_account=None), name="key_has_one_owner"
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def is_valid(self) -> bool:
        return self.revoked is None and (self.expires is None or self.expires > clock.now())

    @staticmethod
    def parse(text: str) -> tuple[UUID, str, str] | None:
        """(tenant id, prefix, secret) of a key's text, or None when it is not of a key's form."""
        parts = _TEXT.fullmatch(text)
        return (UUID(hex=parts[1]), parts[2], parts[3]) if parts else None

    def set_new_secret(self, tenant_id: UUID) -> str:
        """Give the key a fresh prefix and secret; the whole text, which cannot be had again."""
        self.prefix = secrets.token_hex(6)
        secret = secrets.token_urlsafe(32)
        self.secret_hash = sha256(secret.encode()).digest()
        return f"custos-{tenant_id.hex}-{self.prefix}-{secret}"

    def matches(self, secret: str) -> bool:
        # A fast hash suffices: the secret is 256 random bits, so there is nothing to guess from.
        return hmac.compare_digest(bytes(self.secret_hash), sha256(secret.encode()).digest())


class TenantKey(TenantModel):
    """A tenant's key-encryption key, wrapped by the key provider.

    generation: counts the tenant's keys; the highest wraps new data keys. wrapping: counts how often this key was
    wrapped anew, under another master key or by another provider; the highest that opens counts. Rows are only added.
    provider, provider_key: who wrapped it, and under which of their keys.
    """

    # Who can change or delete a key can destroy the audit, so the application's role cannot.
    privileges = "SELECT, INSERT"

    generation = models.IntegerField(default=1, db_default=1)
    wrapping = models.IntegerField(default=1, db_default=1)
    provider = models.CharField(max_length=32)
    provider_key = models.CharField(max_length=300, default="", db_default="")
    wrapped = models.BinaryField()
    created = models.DateTimeField(default=clock.now, editable=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "generation", "wrapping"], name="one_key_encryption_key_a_generation"
            )
        ]

    def __str__(self) -> str:
        return f"key of {self.tenant_id}"


class DataKey(TenantModel):
    """A data-encryption key of a tenant, for one purpose and UTC day.

    wrapped: by the tenant's key of `generation` together with the day's shard; of before there were shards, by that key
    alone. version: counts how often it was wrapped anew; the highest that opens counts. Rows are only added.
    """

    privileges = "SELECT, INSERT"

    purpose = models.CharField(max_length=64)
    day = models.DateField()
    version = models.IntegerField(default=1, db_default=1)
    generation = models.IntegerField(default=1, db_default=1)
    wrapped = models.BinaryField()
    created = models.DateTimeField(null=True, default=clock.now, editable=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "purpose", "day", "version"], name="one_data_key_a_version"
            )
        ]

    def __str__(self) -> str:
        return f"{self.purpose} key of {self.day}"


class DestroyedKey(TenantModel):
    """That a data key was destroyed, when and why. Written by the function that destroys keys, and by nothing else."""

    privileges = "SELECT"

    class Reason(models.TextChoices):
        RETENTION = "retention", _("Its time was over")
        ERASURE = "erasure", _("Erased on request")
        RELEASED = "released", _("A hold was released")

    purpose = models.CharField(max_length=64)
    day = models.DateField()
    reason = models.CharField(max_length=32, choices=Reason)
    destroyed = models.DateTimeField(default=clock.now, editable=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["tenant", "purpose", "day"], name="one_destruction_a_data_key")
        ]

    def __str__(self) -> str:
        return f"{self.purpose} key of {self.day}, destroyed"
