"""What two people decide: one asks, another approves or refuses, and a day after an approval it is done.

Until it is done it can be called off. The database holds to all of this (migration 0002): that the two are different
people, that a day has passed, and that nothing is done twice. Reasons are sealed.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from django.db import IntegrityError, connection, transaction
from django.utils.translation import gettext as _

from audit.retention.models import Deed, Verdict
from audit.retention.policies import clean_reason
from tenants import envelope
from tenants.actors import Actor, NotVisible
from tenants.errors import Refused
from tenants.ids import day_of

WAIT = timedelta(hours=24)
# Keys of this purpose are never destroyed: what was decided must stay readable.
PURPOSE = "audit.retention"


class State(StrEnum):
    ASKED = "asked"
    APPROVED = "approved"
    REFUSED = "refused"
    WITHDRAWN = "withdrawn"
    DONE = "done"


@dataclass(frozen=True, slots=True)
class View:
    """A deed as people see it. due: when it will be done. verdicts: in order, with their reasons."""

    deed: Deed
    state: State
    due: datetime | None
    reason: str
    verdicts: list[tuple[Verdict, str]]


def ask(actor: Actor, kind: Deed.Kind, subject_id: UUID, *, reason: str, **fields: Any) -> Deed:
    """Ask for it. Inside the change; the caller has checked what the actor may do."""
    deed = Deed(
        kind=kind,
        subject_id=subject_id,
        requested_by=_person(actor),
        requested_label=actor.label,
        **fields,
    )
    deed.reason = _sealed(actor.tenant_id, deed.pk, clean_reason(reason))
    deed.save(force_insert=True)
    deed.refresh_from_db()
    return deed


def decide(actor: Actor, deed: Deed, outcome: Verdict.Outcome, *, reason: str) -> Verdict:
    """Approve, refuse, or call off. Inside the change; the caller has checked what the actor may do. Raises Refused."""
    reason, person = clean_reason(reason), _person(actor)
    state = view(deed).state
    open_states = {State.ASKED, State.APPROVED} if outcome == Verdict.Outcome.WITHDRAWN else {State.ASKED}
    if state not in open_states:
        raise Refused("already_decided", _("This is decided already, or done."))
    if outcome != Verdict.Outcome.WITHDRAWN and person == deed.requested_by:
        raise Refused("same_person", _("Somebody else decides what you asked for."))
    verdict = Verdict(deed=deed, outcome=outcome, decided_by=person, decided_label=actor.label)
    verdict.reason = _sealed(actor.tenant_id, verdict.pk, reason)
    try:
        with transaction.atomic():
            verdict.save(force_insert=True)
    except IntegrityError as error:
        raise Refused("already_decided", _("This is decided already, or done.")) from error
    verdict.refresh_from_db()
    return verdict


def find(kind: Deed.Kind, deed_id: UUID) -> Deed:
    """Raises NotVisible. Inside the tenant's scope."""
    deed = Deed.objects.filter(kind=kind, pk=deed_id).first()
    if deed is None:
        raise NotVisible(kind)
    return deed


def is_open(kind: Deed.Kind, subject_id: UUID) -> bool:
    """Whether something is asked for or approved that is not done. Inside the tenant's scope."""
    found = Deed.objects.filter(kind=kind, subject_id=subject_id, done=None)
    return any(view(deed).state in (State.ASKED, State.APPROVED) for deed in found)


def ready(kind: Deed.Kind) -> list[Deed]:
    """Those that are to be done now. Inside the tenant's scope."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT id FROM audit_retention_deed WHERE kind = %s AND done IS NULL AND audit_deed_is_ready(id)",
            [kind],
        )
        ids = [row[0] for row in cursor.fetchall()]
    return list(Deed.objects.filter(pk__in=ids).order_by("pk"))


def view(deed: Deed) -> View:
    """Inside the tenant's scope."""
    verdicts = list(Verdict.objects.filter(deed=deed).order_by("created"))
    state, due = State.ASKED, None
    if verdicts:
        state = State(verdicts[-1].outcome)
    if state == State.APPROVED and verdicts[-1].created is not None:
        due = verdicts[-1].created + WAIT
    if deed.done is not None:
        state = State.DONE
    told = [(each, _opened(deed.tenant_id, each.pk, bytes(each.reason))) for each in verdicts]
    return View(deed, state, due, _opened(deed.tenant_id, deed.pk, bytes(deed.reason)), told)


def _person(actor: Actor) -> UUID:
    """Two people decide, so whoever does is one."""
    if actor.user_id is None:
        raise NotVisible("a person")
    return actor.user_id


def _sealed(tenant_id: UUID, row_id: UUID, reason: str) -> bytes:
    return envelope.seal(
        tenant_id=tenant_id,
        purpose=PURPOSE,
        day=day_of(row_id),
        plaintext=reason.encode(),
        aad={"row": row_id, "field": "reason"},
    )


def _opened(tenant_id: UUID, row_id: UUID, sealed: bytes) -> str:
    try:
        opened = envelope.open_sealed(
            tenant_id=tenant_id,
            purpose=PURPOSE,
            day=day_of(row_id),
            sealed=sealed,
            aad={"row": row_id, "field": "reason"},
        )
    except (envelope.KeyDestroyed, envelope.Tampered):
        return ""
    return opened.decode()
