"""Alerts and their acknowledgements, both for good; a tenant's thresholds; how far the worker has looked."""

from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.utils.translation import gettext_lazy as _

from tenants import clock
from tenants.models import TenantModel

INSERT_ONLY = "SELECT, INSERT"


class Rule(models.TextChoices):
    """What is unusual in reading; see audit.readers.rules."""

    MANY = "many", _("Many openings within an hour")
    MORE_THAN_USUAL = "more_than_usual", _("Many more openings than usual")
    ODD_HOURS = "odd_hours", _("Outside their usual hours")
    ONE_PERSON = "one_person", _("One person’s records again and again")
    OWN_DEPARTMENT = "own_department", _("Their own records or those of their own department")
    NO_GROUND = "no_ground", _("Requests opened outside of a review or case")
    SAME_REASON = "same_reason", _("The same short reason again and again")
    MASS_EXPORT = "mass_export", _("Many records exported")


class ReaderRule(TenantModel):
    """A tenant's own threshold of a rule; without a row the rule's default holds."""

    privileges: ClassVar[str] = "SELECT, INSERT, UPDATE"

    rule = models.CharField(max_length=20, choices=Rule)
    threshold = models.PositiveIntegerField()
    enabled = models.BooleanField(default=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["tenant", "rule"], name="one_reader_rule_a_tenant")]

    def __str__(self) -> str:
        return f"{self.rule} {self.threshold}"


class ReaderAlert(TenantModel):
    """One reader's reading went over a threshold. `found` of them, within [since, until]; `events`: some of the readings.

    span: the hour or day that it is about; a rule speaks once of each.
    """

    privileges: ClassVar[str] = INSERT_ONLY

    rule = models.CharField(max_length=20, choices=Rule)
    reader_id = models.UUIDField()
    span = models.CharField(max_length=20)
    since = models.DateTimeField()
    until = models.DateTimeField()
    found = models.PositiveIntegerField()
    threshold = models.PositiveIntegerField()
    events = ArrayField(models.UUIDField(), default=list)
    created = models.DateTimeField(default=clock.now, editable=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "rule", "reader_id", "span"], name="one_alert_a_rule_reader_and_span"
            )
        ]

    def __str__(self) -> str:
        return f"{self.rule} {self.reader_id} {self.span}"


class AlertAcknowledgement(TenantModel):
    """Another person looked into an alert. `sealed_reason`: what they found. The database refuses the reader's own."""

    privileges: ClassVar[str] = INSERT_ONLY

    alert = models.OneToOneField(ReaderAlert, on_delete=models.PROTECT, related_name="acknowledgement")
    by_id = models.UUIDField()
    sealed_reason = models.BinaryField()
    created = models.DateTimeField(default=clock.now, editable=False)

    def __str__(self) -> str:
        return str(self.alert_id)


class ReaderWatch(TenantModel):
    """Up to which time the worker has looked at what was read."""

    privileges: ClassVar[str] = "SELECT, INSERT, UPDATE"

    looked_until = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["tenant"], name="one_reader_watch_a_tenant")]

    def __str__(self) -> str:
        return f"{self.tenant_id} {self.looked_until}"
