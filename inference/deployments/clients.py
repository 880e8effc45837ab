"""From the row of an instance to whoever talks to it."""

from __future__ import annotations

from datetime import timedelta

from django.db.models import QuerySet

from inference.client import InferenceClient, Software
from inference.deployments import secrets
from inference.deployments.models import ENDED, Instance
from inference.registry.models import Deployment
from inference.registry.selectors import client_of
from tenants import clock

# What was last looked at longer ago is not known: nobody looks after it any more.
STALE = timedelta(seconds=15)

Kind = Deployment.Kind


def client_to(deployment: Deployment, row: Instance | None) -> InferenceClient:
    """The client of one instance. Connections are pooled, so making one per request costs nothing."""
    if deployment.kind == Kind.EMBEDDED:
        return client_of(deployment)
    if deployment.kind == Kind.MANAGED:
        assert row is not None
        return InferenceClient(row.address, secrets.token_of(row.pk))
    try:
        key = secrets.opened(deployment.sealed_key, deployment.pk)
    except secrets.KeyLost:
        key = ""  # The upstream refuses, which is what is then said of it.
    software = Software(row.software) if row is not None and row.software else Software.OTHER
    return InferenceClient(deployment.base_url, key, software)


def live(deployment: Deployment) -> QuerySet[Instance]:
    """Its instances that have not ended."""
    return deployment.instances.exclude(state__in=ENDED)


def is_fresh(row: Instance) -> bool:
    return row.looked is not None and clock.now() - row.looked < STALE


def load_of(row: Instance | None) -> float:
    if row is None or not row.capacity or not is_fresh(row):
        return 0.0
    return (row.running + row.waiting) / row.capacity
