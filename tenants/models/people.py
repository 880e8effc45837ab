"""Who belongs to a tenant, in which role and groups, and who was invited."""

import secrets
from hashlib import sha256

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models.functions import Lower

from tenants import clock
from tenants.models.base import TenantModel
from tenants.models.directory import User
from tenants.roles import Role


class Membership(TenantModel):
    """A person's place in a tenant, with one role: a built-in one's code or a custom role's slug."""

    also_visible = "user_id = nullif(current_setting('custos.user', true), '')::uuid"

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="+")
    role = models.CharField(max_length=50)
    created = models.DateTimeField(default=clock.now, editable=False)
    disabled = models.DateTimeField(null=True, editable=False)
    last_seen = models.DateTimeField(null=True, editable=False)
    external_id = models.CharField(
        max_length=200, blank=True, help_text="What the directory that provisions this person calls them."
    )

    class Meta:
        constraints = [models.UniqueConstraint(fields=["tenant", "user"], name="one_membership_a_tenant")]

    def __str__(self) -> str:
        return f"{self.user_id} {self.role}"


class CustomRole(TenantModel):
    """A role of a tenant's own: permissions from the catalogue under a name."""

    slug = models.SlugField(max_length=50)
    name = models.CharField(max_length=120)
    description = models.CharField(max_length=500, blank=True)
    permissions = ArrayField(models.CharField(max_length=50), default=list)
    created = models.DateTimeField(default=clock.now, editable=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["tenant", "slug"], name="one_custom_role_of_a_slug"),
            models.UniqueConstraint("tenant", Lower("name"), name="one_custom_role_of_a_name"),
            models.CheckConstraint(
                condition=~models.Q(slug__in=Role.values), name="custom_role_is_no_built_in_one"
            ),
        ]

    def __str__(self) -> str:
        return self.name


class Group(TenantModel):
    """People of a tenant under one name. A member of a group is a member of every group above it."""

    name = models.CharField(max_length=120)
    description = models.CharField(max_length=500, blank=True)
    external_id = models.CharField(
        max_length=200, blank=True, help_text="What the directory that provisions this group calls it."
    )
    parent = models.ForeignKey(
        "self", null=True, blank=True, on_delete=models.PROTECT, related_name="children"
    )
    is_everyone = models.BooleanField(
        default=False, editable=False, help_text="The one group of a tenant that every member belongs to."
    )
    created = models.DateTimeField(default=clock.now, editable=False)

    class Meta:
        constraints = [
            models.UniqueConstraint("tenant", Lower("name"), name="one_group_of_a_name"),
            models.UniqueConstraint(
                fields=["tenant"], condition=models.Q(is_everyone=True), name="one_everyone_a_tenant"
            ),
        ]

    def __str__(self) -> str:
        return self.name


class GroupMember(TenantModel):
    """A person's place in a group; goes with the membership. The everyone group has no rows here."""

    group = models.ForeignKey(Group, on_delete=models.CASCADE, related_name="group_members")
    membership = models.ForeignKey(Membership, on_delete=models.CASCADE, related_name="group_members")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["tenant", "group", "membership"], name="in_a_group_once")
        ]

    def __str__(self) -> str:
        return f"{self.membership_id} in {self.group_id}"


class Invitation(TenantModel):
    """An offer to join, by a link whose token is kept as a hash. One open invitation an address, and one request.

    Whoever invites sees the link too, so it does not prove whose an address is. The link of a request, which somebody
    made at the tenant's own door, is `mailed_only`: nobody but the reader of the address's mail has it.
    """

    email = models.EmailField()
    role = models.CharField(max_length=50)
    groups = ArrayField(models.UUIDField(), default=list, blank=True)
    token_hash = models.BinaryField(max_length=32, editable=False)
    invited_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+"
    )
    mailed_only = models.BooleanField(
        default=False, editable=False, help_text="Asked for by the person; its link is shown to nobody."
    )
    created = models.DateTimeField(default=clock.now, editable=False)
    sent = models.DateTimeField(null=True, editable=False, help_text="When its link went out by e-mail.")
    expires = models.DateTimeField()
    accepted = models.DateTimeField(null=True, editable=False)
    revoked = models.DateTimeField(null=True, editable=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "email", "mailed_only"],
                condition=models.Q(accepted=None, revoked=None),
                name="one_open_invitation_an_address",
            )
        ]

    def __str__(self) -> str:
        return self.email

    def set_new_token(self) -> str:
        """A fresh token, which cannot be had again; the one before stops working."""
        token = secrets.token_urlsafe(32)
        self.token_hash = self.hash_of(token)
        return token

    @staticmethod
    def hash_of(token: str) -> bytes:
        """By which the row is found: a fast hash suffices for 256 random bits."""
        return sha256(token.encode(errors="surrogatepass")).digest()

    @property
    def is_open(self) -> bool:
        return self.accepted is None and self.revoked is None and self.expires > clock.now()
