"""What waits for a worker, and whose turn it is. Inside the tenant's scope.

A version is taken up with a lease (`due`) that its worker keeps ahead of now, so that another takes it up after a death.
Every take-up, cancellation and retry raises `attempt`; whoever works writes for its own attempt alone (`mine`), and what
was overtaken changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db.models import F, Max, Min, QuerySet

from knowledge.models import Base, State, Version
from tenants import clock

LEASE = timedelta(minutes=2)
MOST_DEATHS = 2  # Of workers over one file that are put up with: after one more it is given up.
AT_WORK = (State.WAITING, State.PARSING, State.INDEXING)


class Overtaken(Exception):
    """Somebody cancelled or began it again, it was deleted, or another worker has it."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A version that is this worker's while its lease lasts."""

    tenant_id: UUID
    base_id: UUID
    version_id: UUID
    attempt: int


def waiting(now: datetime) -> QuerySet[Version]:
    return Version.objects.filter(state__in=AT_WORK, due__lte=now)


def last_served() -> datetime | None:
    """When a worker last worked for this tenant; None for never."""
    return Base.objects.aggregate(last=Max("served"))["last"]


def claim(tenant_id: UUID) -> Claim | None:
    """Take up the next version: of the base that was served longest ago, what has waited longest."""
    now = clock.now()
    bases = waiting(now).values("base_id").annotate(first=Min("due"), served=Min("base__served"))
    for row in bases.order_by(F("served").asc(nulls_first=True), "first"):
        version = (
            waiting(now)
            .filter(base_id=row["base_id"])
            .select_for_update(skip_locked=True, of=("self",))
            .only("attempt", "base_id", "state", "deaths")
            .order_by("due", "pk")
            .first()
        )
        if version is not None:
            # Whoever reads keeps the lease, so one that ran out while a file was read is a death.
            deaths = version.deaths + (version.state == State.PARSING)
            Version.objects.filter(pk=version.pk).update(
                attempt=version.attempt + 1, deaths=deaths, due=now + LEASE
            )
            Base.objects.filter(pk=version.base_id).update(served=now)
            return Claim(tenant_id, version.base_id, version.pk, version.attempt + 1)
    return None


def mine(claim: Claim) -> QuerySet[Version]:
    return Version.objects.filter(pk=claim.version_id, attempt=claim.attempt, state__in=AT_WORK)


def write(claim: Claim, **facts: Any) -> None:
    """Change the version and renew the lease. Raises Overtaken."""
    if not mine(claim).update(**{"due": clock.now() + LEASE, **facts}):
        raise Overtaken


def put(versions: QuerySet[Version]) -> int:
    """Read these files anew; what was found in them is found until then. How many there were."""
    return versions.update(
        state=State.WAITING,
        attempt=F("attempt") + 1,
        error_code="",
        deaths=0,
        done=0,
        total=0,
        due=clock.now(),
    )


def cancel(versions: QuerySet[Version]) -> int:
    """Stop work on them, within a second also where it is going on. How many there were."""
    return versions.filter(state__in=AT_WORK).update(state=State.CANCELLED, attempt=F("attempt") + 1)


def embed_again(base: Base) -> None:
    """Compare what is ready by the base's model, which has changed; words find it meanwhile."""
    ready = Version.objects.filter(base=base, state=State.READY)
    ready.update(state=State.INDEXING, attempt=F("attempt") + 1, done=0, due=clock.now())
