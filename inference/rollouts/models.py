"""A rollout, what was done with it, and how requests ended meanwhile. The platform's; nobody's content."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.utils.translation import pgettext_lazy

from inference.registry.models import Deployment
from tenants import clock
from tenants.ids import uuid7


class State(models.TextChoices):
    SHADOW = "shadow", pgettext_lazy("state of a rollout", "Shadow")
    SHARE = "share", pgettext_lazy("state of a rollout", "Share")
    PROMOTED = "promoted", pgettext_lazy("state of a rollout", "Promoted")
    ROLLED_BACK = "rolled_back", pgettext_lazy("state of a rollout", "Rolled back")
    UNDECIDED = "undecided", pgettext_lazy("state of a rollout", "Ended undecided")


OPEN = (State.SHADOW, State.SHARE)


class Rollout(models.Model):
    """A candidate beside the baseline that it may replace. At most one that is open for a baseline.

    percent: of requests that the candidate answers, or of which it gets a copy in the shadow. alpha: with what chance the
    two are told apart wrongly, however often one looks. error_rise, slow_rise: by how much more of the candidate's
    requests may fail, or be slow, before that is too much. least: observations of the candidate without which it is not
    promoted. slow_ttft_ms, slow_itl_ms: what slow is, taken from the baseline's first observations, `limits_after` that one.
    """

    privileges: ClassVar[str] = "SELECT, INSERT, UPDATE"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    baseline = models.ForeignKey(Deployment, on_delete=models.PROTECT, related_name="rollouts")
    candidate = models.ForeignKey(Deployment, on_delete=models.PROTECT, related_name="candidacies")
    state = models.CharField(max_length=12, choices=State)
    percent = models.PositiveSmallIntegerField()
    alpha = models.FloatField(default=0.05)
    error_rise = models.FloatField(default=0.05)
    slow_rise = models.FloatField(default=0.15)
    least = models.PositiveIntegerField(default=200)
    promotes_itself = models.BooleanField(default=False)
    longest_hours = models.PositiveSmallIntegerField(default=72)
    slow_ttft_ms = models.FloatField(null=True)
    slow_itl_ms = models.FloatField(null=True)
    limits_after = models.BigIntegerField(null=True)
    began = models.DateTimeField(default=clock.now)
    began_by = models.CharField(max_length=254)
    shared = models.DateTimeField(null=True)
    ended = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["baseline"],
                condition=models.Q(state__in=["shadow", "share"]),
                name="rollouts_one_open_for_a_baseline",
            ),
            models.CheckConstraint(
                condition=~models.Q(baseline=models.F("candidate")), name="rollouts_of_two_deployments"
            ),
            models.CheckConstraint(
                condition=models.Q(percent__gte=0, percent__lte=100), name="rollouts_percent"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.candidate.name} for {self.baseline.name}"

    @property
    def is_open(self) -> bool:
        return self.state in OPEN


class RolloutStep(models.Model):
    """What was done with a rollout, by whom and why, with the figures of that moment. Insert-only.

    reason: a code of `words.REASONS`, or what a person wrote.
    """

    privileges: ClassVar[str] = "SELECT, INSERT"

    rollout = models.ForeignKey(Rollout, on_delete=models.PROTECT, related_name="steps")
    state = models.CharField(max_length=12, choices=State)
    percent = models.PositiveSmallIntegerField()
    is_automatic = models.BooleanField(default=False)
    reason = models.CharField(max_length=500, blank=True)
    figures = models.JSONField(default=dict)
    by_label = models.CharField(max_length=254)
    when = models.DateTimeField(default=clock.now)

    def __str__(self) -> str:
        return f"{self.rollout_id} {self.state}"


class Arm(models.TextChoices):
    BASELINE = "baseline"
    CANDIDATE = "candidate"


class Observation(models.Model):
    """How one request ended, while its deployment was part of a rollout. Removed a while after the rollout's end."""

    privileges: ClassVar[str] = "SELECT, INSERT, DELETE"

    rollout = models.ForeignKey(
        Rollout, on_delete=models.PROTECT, related_name="observations", db_index=False
    )
    arm = models.CharField(max_length=10, choices=Arm)
    at = models.DateTimeField(default=clock.now)
    failed = models.BooleanField()
    error_code = models.CharField(max_length=60, blank=True)
    ttft_ms = models.FloatField(null=True)
    itl_ms = models.FloatField(null=True)

    class Meta:
        indexes = [models.Index(fields=["rollout", "id"], name="rollouts_observations_of")]

    def __str__(self) -> str:
        return f"{self.rollout_id} {self.arm}"
