"""Who looked at a case, and what was taken from it: recorded before it is shown, and known only inside the case."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from audit.cases import sealing
from audit.cases.models import Case, CaseReading, Looked
from audit.record import record_event
from audit.selectors import READ
from tenants import clock
from tenants.access import Actor
from tenants.errors import Refused
from tenants.ids import uuid7
from tenants.scope import tenant_scope

EXPORT = "audit.export"
_EXPORTS = (Looked.FILE, Looked.REPORT, Looked.BUNDLE, Looked.TABLE)
MOST_SHOWN = 200


@dataclass(frozen=True, slots=True)
class Reading:
    """by: who it was. detail: what beside that; {"lost": why} where neither is known."""

    how: str
    by: str
    created: datetime
    detail: dict[str, Any]


def record_reading(
    actor: Actor, case: Case, how: Looked, *, about: UUID | None = None, detail: dict[str, Any] | None = None
) -> None:
    """Record that the actor is about to see something of a case. Raises AuditUnavailable: then show nothing.

    detail: ready for JSON; sealed. Part of the open transaction: let nothing out before that is committed.
    """
    row = uuid7()
    said = {"by": actor.label, **(detail or {})}
    try:
        sealed = sealing.seal(said, tenant_id=actor.tenant_id, case_id=case.pk, row=row)
    except (
        Refused
    ):  # The case's key is destroyed: who looked at what is left is told by the audit's event alone.
        sealed = b""
    # Both or neither, also where a page catches what is raised and goes on.
    with tenant_scope(actor.tenant_id):
        CaseReading.objects.create(
            pk=row, case=case, user_id=actor.user_id, how=how, about=about, sealed=sealed
        )
        record_event(
            actor=actor,
            kind=EXPORT if how in _EXPORTS else READ,
            detail={"case": case.number, "how": how, "about": str(about or ""), **(detail or {})},
            subject_id=case.pk,
            client_address=actor.address,
            confined_to=case.pk,
        )


def record_listing(actor: Actor, cases: Sequence[Case]) -> None:
    """Record that the actor sees the titles of these cases in a list: of each once a UTC day."""
    today = clock.now().replace(hour=0, minute=0, second=0, microsecond=0)
    seen = CaseReading.objects.filter(case__in=cases, user_id=actor.user_id, created__gte=today)
    already = set(seen.values_list("case_id", flat=True))
    for case in cases:
        if case.pk not in already:
            record_reading(actor, case, Looked.LISTED)


def readings_of(case: Case) -> list[Reading]:
    """Who saw what of a case, newest first; inside the tenant's scope."""
    rows = CaseReading.objects.filter(case=case).order_by("-created", "-pk")[:MOST_SHOWN]
    return [_reading(case, row) for row in rows]


def _reading(case: Case, row: CaseReading) -> Reading:
    said = sealing.shown(row.sealed, tenant_id=case.tenant_id, case_id=case.pk, row=row.pk)
    return Reading(row.how, said.pop("by", ""), row.created, said)
