"""Samples, rules, alerts, silences, channels and notices. They belong to the platform and to no tenant."""

from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.utils.translation import gettext_lazy as _

from console.monitoring.catalogue import SERIES
from tenants import clock
from tenants.ids import uuid7


class RealField(models.FloatField):
    """Four bytes: seven digits are enough for a chart, and half the disk."""

    def db_type(self, connection: object) -> str:
        return "real"


class Slot(models.Model):
    """Where in the arrays below a kept number stands. A place is given once and never again to another."""

    privileges: ClassVar[str] = "SELECT, INSERT"

    place = models.SmallIntegerField(primary_key=True)  # From 1, as PostgreSQL counts.
    name = models.CharField(max_length=60, unique=True)

    def __str__(self) -> str:
        return self.name


class Measured(models.Model):
    """Numbers of one span. covers: its seconds; values: by place, NULL where nothing was measured.

    Several rows may tell of the same time, as after a clock was set back: they are added up like any others.
    """

    privileges: ClassVar[str] = "SELECT, INSERT, DELETE"

    id = models.BigAutoField(primary_key=True)
    at = models.DateTimeField(db_index=True)
    covers = RealField()
    values = ArrayField(RealField(null=True))

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return f"{self.at} {self.covers} s"


class Sample(Measured):
    """Every five seconds; the newest 24 hours."""


class Minute(Measured):
    """Samples folded to a minute; the newest 30 days."""


class SamplerState(models.Model):
    """Where the sampler is: one row. counters: as they stood at the newest sample; folded: up to which sample."""

    privileges: ClassVar[str] = "SELECT, INSERT, UPDATE"

    id = models.SmallIntegerField(primary_key=True, default=1)
    at = models.DateTimeField()
    counters = ArrayField(models.FloatField(null=True), default=list)
    folded = models.BigIntegerField(default=0)

    class Meta:
        constraints = [models.CheckConstraint(condition=models.Q(id=1), name="one_sampler_state")]

    def __str__(self) -> str:
        return str(self.at)


class Severity(models.TextChoices):
    WARNING = "warning", _("Warning")
    CRITICAL = "critical", _("Critical")


class Rule(models.Model):
    """Fires when `aggregation` of a series over the last `window_s` compares to the threshold for `for_s` on end."""

    class Aggregation(models.TextChoices):
        WHOLE = "whole", _("over the whole window")
        HIGHEST = "highest", _("highest in the window")
        LOWEST = "lowest", _("lowest in the window")
        GROWTH = "growth", _("growth within the window")

    class Comparison(models.TextChoices):
        ABOVE = "above", _("is above")
        BELOW = "below", _("is below")

    privileges: ClassVar[str] = "SELECT, INSERT, UPDATE"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    name = models.CharField(max_length=100)
    series = models.CharField(max_length=40, choices=[(series.name, series.label) for series in SERIES])
    aggregation = models.CharField(max_length=10, choices=Aggregation)
    window_s = models.PositiveIntegerField()
    comparison = models.CharField(max_length=10, choices=Comparison)
    threshold = models.FloatField()
    for_s = models.PositiveIntegerField()
    severity = models.CharField(max_length=10, choices=Severity)
    enabled = models.BooleanField(default=True)
    created = models.DateTimeField(default=clock.now, editable=False)
    removed = models.DateTimeField(null=True)  # Its alerts stay in the history.

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["name"], condition=models.Q(removed=None), name="one_alert_rule_a_name"
            )
        ]

    def __str__(self) -> str:
        return self.name


class Alert(models.Model):
    """One time that a rule's condition held. At most one of a rule is open: what goes on is not told again.

    held_s, clear_s: for how long the condition has held, or no longer holds, on end. Added up from one look to the
    next, so that a clock that is set makes nothing fire. value: the newest; worst: the furthest beyond the threshold.
    """

    class State(models.TextChoices):
        PENDING = "pending", _("Pending")
        FIRING = "firing", _("Firing")
        RESOLVED = "resolved", _("Resolved")

    privileges: ClassVar[str] = "SELECT, INSERT, UPDATE, DELETE"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    rule = models.ForeignKey(Rule, on_delete=models.PROTECT, related_name="alerts")
    state = models.CharField(max_length=10, choices=State, default=State.PENDING)
    severity = models.CharField(max_length=10, choices=Severity)
    began = models.DateTimeField()
    fired = models.DateTimeField(null=True)
    resolved = models.DateTimeField(null=True)
    held_s = models.FloatField(default=0)
    clear_s = models.FloatField(default=0)
    value = models.FloatField(null=True)
    worst = models.FloatField(null=True)
    silenced = models.BooleanField(default=False)  # When it fired: nobody was told.
    acknowledged = models.DateTimeField(null=True)
    acknowledged_by = models.EmailField(max_length=254, default="")
    acknowledged_reason = models.CharField(max_length=500, default="")

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["rule"], condition=~models.Q(state="resolved"), name="one_open_alert_a_rule"
            )
        ]
        indexes = [models.Index(fields=["state", "-began"], name="alerts_by_state")]

    def __str__(self) -> str:
        return f"{self.rule_id} {self.state}"


class Silence(models.Model):
    """Nobody is told of a rule's alerts until then; rule None: of no rule's. lifted: ended early."""

    privileges: ClassVar[str] = "SELECT, INSERT, UPDATE"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    rule = models.ForeignKey(Rule, null=True, on_delete=models.PROTECT, related_name="silences")
    until = models.DateTimeField()
    reason = models.CharField(max_length=500)
    by = models.EmailField(max_length=254)
    created = models.DateTimeField(default=clock.now, editable=False)
    lifted = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return f"{self.rule_id or 'all'} until {self.until}"


class Channel(models.Model):
    """Who is told: addresses of people, or the address of a program. least: from which severity on."""

    class Kind(models.TextChoices):
        EMAIL = "email", _("E-mail")
        WEBHOOK = "webhook", _("Webhook")

    privileges: ClassVar[str] = "SELECT, INSERT, UPDATE"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    kind = models.CharField(max_length=10, choices=Kind)
    name = models.CharField(max_length=100)
    target = models.CharField(max_length=1000)
    least = models.CharField(max_length=10, choices=Severity, default=Severity.WARNING)
    enabled = models.BooleanField(default=True)
    created = models.DateTimeField(default=clock.now, editable=False)
    removed = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return self.name


class Notice(models.Model):
    """That an alert fired or was resolved, on its way to a channel. Kept as long as the alert."""

    class Event(models.TextChoices):
        FIRING = "firing", _("Firing")
        RESOLVED = "resolved", _("Resolved")
        TEST = "test", _("Test")

    privileges: ClassVar[str] = "SELECT, INSERT, UPDATE, DELETE"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    channel = models.ForeignKey(Channel, on_delete=models.PROTECT, related_name="notices")
    alert = models.ForeignKey(Alert, null=True, on_delete=models.CASCADE, related_name="notices")
    event = models.CharField(max_length=10, choices=Event)
    body = models.JSONField()
    created = models.DateTimeField(default=clock.now, editable=False)
    attempts = models.PositiveSmallIntegerField(default=0)
    next_attempt = models.DateTimeField(null=True, default=clock.now)  # None: over, one way or the other.
    delivered = models.DateTimeField(null=True)
    error = models.CharField(max_length=300, default="")

    class Meta:
        indexes = [
            models.Index(
                fields=["next_attempt"],
                condition=models.Q(next_attempt__isnull=False),
                name="notices_waiting",
            )
        ]

    def __str__(self) -> str:
        return f"{self.event} {self.channel_id}"
