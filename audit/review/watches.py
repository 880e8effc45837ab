"""Saved searches that flag: what they find anew comes under review.

A search looks on behalf of its owner, with the rights that are left to them; it looks back a while over what it has seen,
for a record may be found only after its end. A saved search flags a record once, so looking twice flags nothing twice.
"""

import logging
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID

from audit.models import AuditRecord
from audit.record import REQUESTS, record_event
from audit.review import people
from audit.review.flags import flagging_actor, raise_flag
from audit.review.models import Severity, Source
from audit.search import engine, saved
from audit.search.query import BadQuery
from audit.search.saved import Saved
from audit.search.saved_search import SavedSearch
from audit.selectors import first_id_at
from tenants import clock
from tenants.access import Actor, NotVisible
from tenants.ids import day_of
from tenants.models import Tenant
from tenants.roles import AUDIT_READ, REVIEW_WORK
from tenants.scope import tenant_scope

logger = logging.getLogger(__name__)

# A record is found by its time of arrival, and complete much later where an answer is long.
OVERLAP = timedelta(hours=2)
_FLAGS_AT_ONCE = 50
_MOST_A_LOOK = 5000


def look(tenant: Tenant) -> int:
    """Look for new hits of every saved search that flags; how many flags are new. Opens the tenant's scope."""
    with tenant_scope(tenant.pk):
        watching = SavedSearch.objects.filter(flags=True, removed=None).order_by("pk")
        found = list(watching.values_list("pk", "owner_id"))
    return sum(_look(tenant, saved_id, owner_id) for saved_id, owner_id in found)


def _look(tenant: Tenant, saved_id: UUID, owner_id: UUID) -> int:
    now = clock.now()
    try:
        owner = _owner(tenant, owner_id)
        with tenant_scope(tenant.pk):
            watched = saved.one(owner, saved_id)
        hits = _hits(tenant, owner, watched, now)
    except NotVisible:
        return 0  # The owner reviews no more, or the search is gone.
    except (BadQuery, ValueError, engine.SearchTooSlow):
        logger.warning("the saved search %s could not be run and is tried again", saved_id)
        return 0
    new = 0
    for at in range(0, len(hits), _FLAGS_AT_ONCE):
        with tenant_scope(tenant.pk):
            new += _flag(tenant, owner, watched, hits[at : at + _FLAGS_AT_ONCE])
    if len(hits) < _MOST_A_LOOK:
        with tenant_scope(tenant.pk):
            SavedSearch.objects.filter(pk=saved_id, flags=True).update(looked_until=now)
    return new


def _owner(tenant: Tenant, owner_id: UUID) -> Actor:
    with tenant_scope(tenant.pk):
        actor = people.on_behalf_of(tenant, owner_id)
    if not (actor.can(AUDIT_READ) and actor.can(REVIEW_WORK)):
        raise NotVisible(REVIEW_WORK)
    return actor


def _hits(tenant: Tenant, owner: Actor, watched: Saved, now: datetime) -> list[UUID]:
    """The new hits, once it is recorded that they are looked for; the oldest first."""
    search = watched.asked.search(now)
    since = (watched.looked_until or now) - OVERLAP
    since = max(since, watched.created, search.since or since)
    until = min(now, search.until or now)
    search = replace(search, since=since, until=until, sort=engine.Sort.OLDEST)
    if not _is_anything_new(tenant, since):
        return []
    record_event(
        actor=flagging_actor(tenant, _label(owner)),
        kind=engine.SEARCH,
        detail={"saved_search": str(watched.id), "reason": watched.name, "search": search.told()},
        subject_id=watched.id,
    )
    found = []
    for request_id in engine.iterate(owner, search):
        found.append(request_id)
        if len(found) == _MOST_A_LOOK:
            break
    return found


def _flag(tenant: Tenant, owner: Actor, watched: Saved, hits: list[UUID]) -> int:
    actor, new = flagging_actor(tenant, _label(owner)), 0
    for request_id in hits:
        try:
            raised = raise_flag(
                actor=actor,
                request_id=request_id,
                source=Source.SEARCH,
                source_id=str(watched.id),
                severity=Severity.MEDIUM,
                reason=watched.name,
                code="saved_search",
                detail={"query": watched.asked.text},
            )
        except NotVisible:
            continue  # Gone meanwhile, or no request but an event.
        new += raised.is_new
    return new


def _label(owner: Actor) -> str:
    return f"saved search of {owner.label}"


def _is_anything_new(tenant: Tenant, since: datetime) -> bool:
    first = first_id_at(since)
    with tenant_scope(tenant.pk):
        found = AuditRecord.objects.filter(day__gte=day_of(first), id__gte=first, kind__in=REQUESTS)
        return found.exists()
