"""What there is of deployments, as the process that looks after them writes it. Nobody's settings, nobody's content."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.utils.translation import pgettext_lazy

from inference.registry.models import Deployment
from tenants import clock
from tenants.ids import uuid7


class Instance(models.Model):
    """A process that serves a deployment, or an address that does. What failed is kept with the end of its log.

    number: from 1 within the deployment; a successor has a higher one. failure: a code of `words.FAILURES`, with
    `failure_detail`. tail: the last lines of its log, in which no prompt and no answer stands.
    """

    privileges: ClassVar[str] = "SELECT, INSERT, UPDATE, DELETE"

    class State(models.TextChoices):
        STARTING = "starting", pgettext_lazy("state of an instance", "Starting")
        LOADING = "loading", pgettext_lazy("state of an instance", "Loading the model")
        READY = "ready", pgettext_lazy("state of an instance", "Ready")
        AWAY = "away", pgettext_lazy("state of an instance", "Does not answer")
        DRAINING = "draining", pgettext_lazy("state of an instance", "Draining")
        STOPPING = "stopping", pgettext_lazy("state of an instance", "Stopping")
        STOPPED = "stopped", pgettext_lazy("state of an instance", "Stopped")
        FAILED = "failed", pgettext_lazy("state of an instance", "Failed")

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    deployment = models.ForeignKey(Deployment, on_delete=models.PROTECT, related_name="instances")
    number = models.PositiveIntegerField()
    edition = models.PositiveIntegerField()
    state = models.CharField(max_length=10, choices=State, default=State.STARTING)
    address = models.CharField(max_length=500)
    pid = models.PositiveIntegerField(null=True)
    software = models.CharField(max_length=10, blank=True)
    memory_mb = models.PositiveIntegerField(default=0)
    started = models.DateTimeField(default=clock.now)
    ended = models.DateTimeField(null=True)
    looked = models.DateTimeField(null=True)
    running = models.PositiveIntegerField(default=0)
    waiting = models.PositiveIntegerField(default=0)
    capacity = models.PositiveIntegerField(default=0)
    failure = models.CharField(max_length=40, blank=True)
    failure_detail = models.CharField(max_length=500, blank=True)
    tail = models.TextField(blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["deployment", "number"], name="deployments_number_per_deployment"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.deployment_id} {self.number}"


ENDED = (Instance.State.STOPPED, Instance.State.FAILED)


class Condition(models.Model):
    """How a deployment is, beside its instances: why nothing is started, and when somebody last wanted it.

    trouble: a code of `words.TROUBLES`, with `trouble_detail`. asked: when a request came while nothing was loaded.
    used: when a request was last seen running.
    """

    privileges: ClassVar[str] = "SELECT, INSERT, UPDATE"

    deployment = models.OneToOneField(
        Deployment, on_delete=models.PROTECT, primary_key=True, related_name="condition"
    )
    trouble = models.CharField(max_length=40, blank=True)
    trouble_detail = models.CharField(max_length=500, blank=True)
    asked = models.DateTimeField(null=True)
    used = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return f"{self.deployment_id} {self.trouble}"
