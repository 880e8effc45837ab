"""People and tenants: the two tables that belong to no tenant."""

from typing import Any, ClassVar

from django.contrib.auth.models import AbstractBaseUser, BaseUserManager, PermissionsMixin
from django.db import models
from django.utils.translation import gettext_lazy as _

from tenants import clock
from tenants.ids import uuid7


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
    email_verified = models.DateTimeField(
        null=True, editable=False, help_text="When the person proved that they read this address’s mail."
    )
    language = models.CharField(_("language"), max_length=10, blank=True)
    avatar = models.BinaryField(null=True, editable=False, help_text="WebP, 256 by 256 pixels.")
    created = models.DateTimeField(default=clock.now, editable=False)

    USERNAME_FIELD = "email"
    EMAIL_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = []

    objects = UserManager()

    def __str__(self) -> str:
        return self.name or self.email

    @property
    def may_be_somebody_elses(self) -> bool:
        """Whether whoever chose the password may be another than whom the address belongs to.

        An account without a password opens for nobody but the tenants whose providers vouch for it, and each of those
        for itself alone.
        """
        return self.email_verified is None and self.has_usable_password()


class Tenant(models.Model):
    """A namespace: a company or a department. This directory of names is the one tenant table without row security.

    A deleted tenant stays as a name, so that no other takes its slug and the audit's records keep meaning something.
    """

    privileges: ClassVar[str] = "SELECT, INSERT, UPDATE"

    class Status(models.TextChoices):
        ACTIVE = "active", _("Active")
        SUSPENDED = "suspended", _("Suspended")
        ARCHIVED = "archived", _("Archived")
        DELETING = "deleting", _("Being deleted")
        DELETED = "deleted", _("Deleted")

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    slug = models.SlugField(max_length=50, unique=True)
    name = models.CharField(max_length=120)
    status = models.CharField(max_length=16, choices=Status, default=Status.ACTIVE)
    created = models.DateTimeField(default=clock.now, editable=False)
    status_changed = models.DateTimeField(null=True, editable=False)
    delete_after = models.DateTimeField(
        null=True, editable=False, help_text="When its keys are destroyed, while it is being deleted."
    )

    def __str__(self) -> str:
        return self.name
