"""The rules of a route: which deployment answers which requests."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from inference.registry.models import Deployment, Route
from tenants.models import TenantModel


class RouteClass(models.TextChoices):
    """What people and programs may ask for beside a route's name."""

    PRECISE = "precise", pgettext_lazy("class of a rule", "Precise")
    FAST = "fast", pgettext_lazy("class of a rule", "Fast")


class Target(TenantModel):
    """A rule: requests of which `conditions` hold go to the deployment. A route without any has its own deployment.

    position: rules are asked in this order; of those at one position each gets its share by `weight`. conditions: of the
    shape that `conditions.cleaned` makes; an empty one always holds.
    """

    route = models.ForeignKey(Route, on_delete=models.CASCADE, related_name="targets")
    deployment = models.ForeignKey(Deployment, on_delete=models.PROTECT, related_name="targets")
    position = models.PositiveSmallIntegerField(_("position"))
    route_class = models.CharField(_("class"), max_length=10, choices=RouteClass, blank=True, default="")
    weight = models.PositiveSmallIntegerField(_("weight"), default=100)
    conditions = models.JSONField(_("conditions"), default=dict)
    enabled = models.BooleanField(_("enabled"), default=True)

    class Meta:
        verbose_name = _("rule")
        verbose_name_plural = _("rules")
        constraints = [
            models.CheckConstraint(
                condition=models.Q(weight__gte=1, weight__lte=1000), name="routing_target_weight"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.route_id} {self.position}"
