"""People, tenants and what ties them together; the abstract base of every tenant-owned table."""

import hmac
import secrets
from hashlib import sha256
from typing import Any, ClassVar
from uuid import UUID

from django.contrib.auth.models import AbstractBaseUser, BaseUserManager, PermissionsMixin
from django.db import models
from django.utils.translation import gettext_lazy as _
from django_scopes import ScopedManager, ScopeError
from django_scopes.manager import DisabledQuerySet

from tenants import clock
from tenants.ids import uuid7
from tenants.roles import Role


class UserManager(BaseUserManager["User"]):
    def create_user(self, email: str, password: str | None = None, **fields: Any) -> "User":
        user = self.model(email=email.strip().lower(), **fields)
        user.set_password(password)
        user.save(using=self._db)
        return user

    def get_by_natural_key(self, email: str | None) -> "User":
        return self.get(email=(email or "").strip().lower())


class User(AbstractBaseUser, PermissionsMixin):
    """A person who signs in with an e-mail address; what they may do comes from their memberships."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    email = models.EmailField(_("e-mail address"), unique=True)
    name = models.CharField(_("name"), max_length=120, blank=True)
    is_active = models.BooleanField(default=True)
    is_platform_administrator = models.BooleanField(
        default=False, help_text="Sees the platform's health and limits, never content."
    )
    created = models.DateTimeField(default=clock.now, editable=False)

    USERNAME_FIELD = "email"
    EMAIL_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = []

    objects = UserManager()

    def __str__(self) -> str:
        return self.name or self.email


class Tenant(models.Model):
    """A namespace: a company or a department. This directory of names is the one tenant table without row security."""

    class Status(models.TextChoices):
        ACTIVE = "active", _("Active")
        SUSPENDED = "suspended", _("Suspended")

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    slug = models.SlugField(max_length=50, unique=True)
    name = models.CharField(max_length=120)
    status = models.CharField(max_length=16, choices=Status, default=Status.ACTIVE)
    created = models.DateTimeField(default=clock.now, editable=False)

    def __str__(self) -> str:
        return self.name


class CurrentTenant(models.Func):
    """SQL of the transaction's tenant; NULL outside a tenant scope."""

    template = "nullif(current_setting('custos.tenant', true), '')::uuid"
    output_field = models.UUIDField()
    allowed_default = True
    arity = 0


class TenantManager(ScopedManager(tenant="tenant").__class__):  # type: ignore[misc]
    """Filters by the tenant of the scope; raises ScopeError, on any use at all, when no scope is open.

    django-scopes alone lets `exists()`, `create()` and a few more pass without a scope.
    """

    def get_queryset(self) -> models.QuerySet[Any]:
        queryset = super().get_queryset()
        if isinstance(queryset, DisabledQuerySet):
            raise ScopeError(
                f"{self.model.__name__}: a query without a tenant. Open tenants.scope.tenant_scope first."
            )
        return queryset


class TenantOwned(models.Model):
    """A row of one tenant. `tenants.isolation` gives the table of every subclass row-level security and grants.

    privileges: what the application's database role may do with the table.
    also_visible: a further SQL condition under which rows can be read (not written), or "".
    """

    privileges: ClassVar[str] = "SELECT, INSERT, UPDATE, DELETE"
    also_visible: ClassVar[str] = ""

    tenant = models.ForeignKey(
        Tenant, on_delete=models.CASCADE, related_name="+", editable=False, db_default=CurrentTenant()
    )

    class Meta:
        abstract = True


class TenantModel(TenantOwned):
    """The base of tenant-owned models: a time-ordered id, the owning tenant, the scoped manager."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)

    objects = TenantManager()

    class Meta:
        abstract = True


class Membership(TenantModel):
    """A person's place in a tenant, with one role."""

    also_visible = "user_id = nullif(current_setting('custos.user', true), '')::uuid"

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="+")
    role = models.CharField(max_length=32, choices=Role)
    created = models.DateTimeField(default=clock.now, editable=False)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["tenant", "user"], name="one_membership_a_tenant")]

    def __str__(self) -> str:
        return f"{self.user_id} {self.role}"


class ApiKey(TenantModel):
    """A program's credential: shown once, kept as a hash.

    The text is `custos-<tenant>-<prefix>-<secret>`: the tenant's id leads to the scope in which the key can be looked
    up, so that no query ever runs across tenants; the prefix finds the row; the 256-bit secret proves it.
    """

    name = models.CharField(max_length=120)
    prefix = models.CharField(max_length=16, unique=True, editable=False)
    secret_hash = models.BinaryField(max_length=32, editable=False)
    created = models.DateTimeField(default=clock.now, editable=False)
    last_used = models.DateTimeField(null=True, editable=False)
    revoked = models.DateTimeField(null=True, editable=False)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["tenant", "name"], name="one_key_of_a_name")]

    def __str__(self) -> str:
        return self.name

    @staticmethod
    def parse(text: str) -> tuple[UUID, str, str] | None:
        """(tenant id, prefix, secret) of a key's text, or None when it is not of a key's form."""
        parts = text.split("-", 3)
        if len(parts) != 4 or parts[0] != "custos":
            return None
        try:
            return UUID(hex=parts[1]), parts[2], parts[3]
        except ValueError:
            return None

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
    """A tenant's key-encryption key, wrapped by the key provider."""

    # Who can change or delete a key can destroy the audit, so the application's role cannot.
    privileges = "SELECT, INSERT"

    provider = models.CharField(max_length=32)
    wrapped = models.BinaryField()
    created = models.DateTimeField(default=clock.now, editable=False)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["tenant"], name="one_key_encryption_key_a_tenant")]

    def __str__(self) -> str:
        return f"key of {self.tenant_id}"


class DataKey(TenantModel):
    """A data-encryption key of a tenant, for one purpose and UTC day, wrapped by the tenant's key."""

    privileges = "SELECT, INSERT"

    purpose = models.CharField(max_length=16)
    day = models.DateField()
    wrapped = models.BinaryField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["tenant", "purpose", "day"], name="one_data_key_a_day")
        ]

    def __str__(self) -> str:
        return f"{self.purpose} key of {self.day}"
