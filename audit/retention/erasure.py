"""A person's content is erased on request (GDPR Article 17, PIPL Article 47).

What the person asked and was answered loses its content, and its words in the search; who, when and which model is
kept, or the person replaced by a pseudonym, as was decided. A statement says which leaves are concerned, so that
verification finds "erased on request" and no tampering. What a case holds is a copy under the case's key, which this
does not touch: the law that asks for it goes before. Nobody outside of a case can tell so, for the originals are
erased alike. Records of administration, and of who read what, stay: they are kept to meet obligations and to defend
claims (Article 17 (3) b and e).
"""

from collections.abc import Iterable
from uuid import UUID

from django.db import connection
from django.db.models import Exists, OuterRef, QuerySet
from django.utils.translation import gettext as _

from audit import tree
from audit.models import AuditCompletion, AuditRecord
from audit.record import REQUESTS
from audit.retention import deeds
from audit.retention.models import Deed, Erased, Verdict
from audit.tree import merkle, statements
from audit.tree.models import Leaf
from tenants.actors import Actor, require, system_actor
from tenants.changes import change, record_change
from tenants.errors import Refused
from tenants.models import Membership, Tenant
from tenants.roles import RETENTION_MANAGE
from tenants.scope import tenant_scope

ERASURE = "erasure"


@change
def request(*, actor: Actor, user_id: UUID, basis: str, metadata: str, reason: str) -> Deed:
    """Ask that a person's content be erased. Raises NotVisible and Refused."""
    require(actor, RETENTION_MANAGE)
    if basis not in Deed.Basis.values:
        raise Refused("choice_unknown", _("Choose one of those offered."), "basis")
    if metadata not in Deed.Metadata.values:
        raise Refused("choice_unknown", _("Choose one of those offered."), "metadata")
    known = Membership.objects.filter(user_id=user_id).exists()
    if not known and not AuditRecord.objects.filter(user_id=user_id).exists():
        raise Refused("person_unknown", _("There is no such person, and no record of one."), "person")
    if deeds.is_open(Deed.Kind.ERASURE, user_id):
        raise Refused("already_asked", _("That is asked for already. Decide it first."), "person")
    deed = deeds.ask(actor, Deed.Kind.ERASURE, user_id, reason=reason, basis=basis, metadata=metadata)
    record_change(
        actor,
        "erasure.requested",
        subject_id=deed.pk,
        after={"person": str(user_id), "basis": basis, "metadata": metadata},
        detail={"reason": reason},
    )
    return deed


@change
def approve(*, actor: Actor, deed_id: UUID, reason: str) -> Verdict:
    """Somebody else agrees; a day later it is done. Raises NotVisible and Refused."""
    return _decided(actor, deed_id, Verdict.Outcome.APPROVED, "erasure.approved", reason)


@change
def refuse(*, actor: Actor, deed_id: UUID, reason: str) -> Verdict:
    """Raises NotVisible and Refused."""
    return _decided(actor, deed_id, Verdict.Outcome.REFUSED, "erasure.refused", reason)


@change
def withdraw(*, actor: Actor, deed_id: UUID, reason: str) -> Verdict:
    """Call it off before it is done; one person is enough for that. Raises NotVisible and Refused."""
    return _decided(actor, deed_id, Verdict.Outcome.WITHDRAWN, "erasure.withdrawn", reason)


def listed(actor: Actor, most: int = 50) -> list[deeds.View]:
    """What was asked for, newest first. Raises NotVisible."""
    require(actor, RETENTION_MANAGE)
    with tenant_scope(actor.tenant_id):
        found = Deed.objects.filter(kind=Deed.Kind.ERASURE).order_by("-pk")[:most]
        return [deeds.view(deed) for deed in found]


def found(actor: Actor, deed_id: UUID) -> deeds.View:
    """Raises NotVisible."""
    require(actor, RETENTION_MANAGE)
    with tenant_scope(actor.tenant_id):
        return deeds.view(deeds.find(Deed.Kind.ERASURE, deed_id))


def concerned(deed: Deed) -> int:
    """How many records would lose their content, held or not. Inside the tenant's scope."""
    return _records(deed).count()


def carry_out(tenant_id: UUID) -> int:
    """Erase what is decided and whose day of grace is over; how many records. Opens the tenant's scope."""
    with tenant_scope(tenant_id):
        waiting = deeds.ready(Deed.Kind.ERASURE)
    if waiting:
        tree.extend(tenant_id)
    return sum(_carry_out(tenant_id, deed) for deed in waiting)


def _carry_out(tenant_id: UUID, deed: Deed) -> int:
    with tenant_scope(tenant_id):
        ids = list(_records(deed))
        leaves = list(Leaf.objects.filter(request_id__in=ids).order_by("seq").values_list("seq", "hash"))
        if len(leaves) != len(ids):
            raise RuntimeError("records to be erased have no place in the log yet; the next run tries again")
        if leaves:
            body = {
                "deed": str(deed.pk),
                "basis": deed.basis,
                "metadata": deed.metadata,
                "sequences": ranges(sequence for sequence, _hash in leaves),
                "count": len(leaves),
                "root": merkle.root([bytes(found) for _sequence, found in leaves]).hex(),
            }
            statements.state(ERASURE, body)
        with connection.cursor() as cursor:
            cursor.execute("SELECT audit_erase(%s)", [deed.pk])
            erased: int = cursor.fetchone()[0]
        if erased != len(ids):
            raise RuntimeError("records came or went while they were erased; the next run tries again")
        record_change(
            system_actor(Tenant.objects.get(pk=tenant_id), "retention"),
            "erasure.done",
            subject_id=deed.pk,
            after={"records": erased},
        )
    return erased


def ranges(numbers: Iterable[int]) -> list[list[int]]:
    """Ascending numbers as inclusive ranges."""
    found: list[list[int]] = []
    for number in numbers:
        if found and found[-1][1] == number - 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return found


def _records(deed: Deed) -> QuerySet[AuditRecord, UUID]:
    """The ids of what is to be erased, as the database's function finds them."""
    closed = AuditCompletion.objects.filter(day=OuterRef("day"), request_id=OuterRef("id"))
    before = Erased.objects.filter(request_id=OuterRef("id"))
    mine = AuditRecord.objects.filter(user_id=deed.subject_id, created__lt=deed.created)
    requests = mine.filter(kind__in=REQUESTS) | mine.filter(schema=1)
    return requests.filter(Exists(closed)).exclude(Exists(before)).values_list("id", flat=True)


def _decided(actor: Actor, deed_id: UUID, outcome: Verdict.Outcome, kind: str, reason: str) -> Verdict:
    require(actor, RETENTION_MANAGE)
    deed = deeds.find(Deed.Kind.ERASURE, deed_id)
    before = deeds.view(deed).state
    verdict = deeds.decide(actor, deed, outcome, reason=reason)
    record_change(
        actor,
        kind,
        subject_id=deed.pk,
        before={"state": before},
        after={"state": outcome},
        detail={"reason": reason},
    )
    return verdict
