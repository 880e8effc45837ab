"""Model versions and deployments (the platform's), and routes (a tenant's).

People and programs reach models through routes, so routes are what is granted.
"""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.utils.translation import gettext_lazy as _

from tenants.access import GroupGrant, Kind, UserGrant, register
from tenants.ids import uuid7
from tenants.models import TenantModel, TenantSettings
from tenants.roles import API_USE, CHAT_USE, GRANTS_MANAGE, MODELS_OPERATE


class ModelVersion(models.Model):
    """An immutable description of one set of weights. A change of weights is a new version."""

    privileges: ClassVar[str] = "SELECT, INSERT"

    class State(models.TextChoices):
        READY = "ready", _("Ready")
        RETIRED = "retired", _("Retired")

    class Kind(models.TextChoices):
        TEXT = "text", _("Text")
        EMBEDDING = "embedding", _("Embedding")

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    name = models.CharField(_("name"), max_length=200)
    kind = models.CharField(
        _("kind"), max_length=10, choices=Kind, default=Kind.TEXT, help_text=_("What it makes of a text.")
    )
    source = models.CharField(_("source"), max_length=200, help_text=_("The package or hub it comes from."))
    revision = models.CharField(_("revision"), max_length=200)
    digest = models.CharField(_("digest"), max_length=100, help_text=_("Of the weights: sha256:<hex>."))
    precision = models.CharField(_("precision"), max_length=20)
    served_id = models.CharField(
        _("served id"), max_length=200, help_text=_("The model name the inference service knows it by.")
    )
    context_tokens = models.PositiveIntegerField(
        _("context"), help_text=_("Tokens of prompt and answer together.")
    )
    state = models.CharField(_("state"), max_length=10, choices=State, default=State.READY)

    class Meta:
        verbose_name = _("model version")
        verbose_name_plural = _("model versions")
        constraints = [
            models.UniqueConstraint(
                fields=["name", "revision", "digest", "precision"], name="registry_one_row_per_version"
            )
        ]

    def __str__(self) -> str:
        return f"{self.name} {self.revision} {self.precision}"

    @property
    def label(self) -> str:
        """What the audit record keeps: enough to find the very same weights again."""
        return f"{self.source}@{self.revision} {self.precision} {self.digest}".strip()


class Deployment(models.Model):
    """A model version being served somewhere."""

    privileges: ClassVar[str] = "SELECT, INSERT"

    EMBEDDED = "embedded"  # The service that the supervisor starts; its address is in the settings.

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    name = models.SlugField(_("name"), max_length=100, unique=True)
    version = models.ForeignKey(ModelVersion, on_delete=models.PROTECT, related_name="deployments")
    base_url = models.CharField(_("address"), max_length=500, default=EMBEDDED)
    enabled = models.BooleanField(_("enabled"), default=True)

    class Meta:
        verbose_name = _("deployment")
        verbose_name_plural = _("deployments")

    def __str__(self) -> str:
        return self.name


class Route(TenantModel):
    """A name that people and programs ask for, and the deployment that answers."""

    name = models.SlugField(_("name"), max_length=100)
    label = models.CharField(_("label"), max_length=100)
    deployment = models.ForeignKey(Deployment, on_delete=models.PROTECT, related_name="routes")
    is_default = models.BooleanField(_("default"), default=False)

    class Meta:
        verbose_name = _("route")
        verbose_name_plural = _("routes")
        constraints = [
            models.UniqueConstraint(fields=["tenant", "name"], name="registry_route_name_per_tenant"),
            models.UniqueConstraint(
                fields=["tenant"], condition=models.Q(is_default=True), name="registry_one_default_route"
            ),
        ]

    def __str__(self) -> str:
        return self.name


class RouteUserGrant(UserGrant):
    """What a person may do with a route: use it, change it, delete it."""

    content_object = models.ForeignKey(Route, on_delete=models.CASCADE)


class RouteGroupGrant(GroupGrant):
    """What a group's people may do with a route."""

    content_object = models.ForeignKey(Route, on_delete=models.CASCADE)


def _is_allowed() -> models.Q:
    """Named in the tenant's list of allowed models, or there is no such list."""
    lists = TenantSettings.objects.exclude(allowed_models__len=0)
    return ~models.Q(models.Exists(lists.exclude(allowed_models__contains=[models.OuterRef("name")])))


ROUTES = register(
    Kind(
        model=Route,
        user_grants=RouteUserGrant,
        group_grants=RouteGroupGrant,
        requires=frozenset({CHAT_USE, API_USE}),
        describe=lambda route: route.name,
        holds_content=False,
        managed_by=frozenset({GRANTS_MANAGE, MODELS_OPERATE}),
        search=("name", "label"),
        ordering=("-is_default", "name"),
        limit=_is_allowed,
        limit_words=_("The workspace’s settings allow this model"),
        named_in_keys="name",
    )
)
