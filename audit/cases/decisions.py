"""From review to the end: a decision with its reason, and the signature of another person.

Whoever took a decision never signs it: the service refuses it, and so does the database (a trigger). Two people who sign
at once come one after the other, and the second is told that it was signed. Raises NotVisible, Refused, AuditUnavailable.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.utils.translation import gettext as _

from audit.cases import deeds, sealing
from audit.cases.access import case_of, may_lead, may_sign, may_work
from audit.cases.models import CLOSED, Case, CaseDecision, CaseSignature, Deed, Outcome, Status
from audit.cases.opening import linked_records
from tenants.access import Actor, NotVisible
from tenants.changes import change
from tenants.errors import Refused
from tenants.ids import uuid7


@dataclass(frozen=True, slots=True)
class Signature:
    """lost: why neither who nor the reason is known."""

    by: str
    created: datetime
    is_approved: bool
    reason: str
    lost: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    """signature: None while it waits, and for one that was withdrawn. lost: why what it says is not known."""

    id: UUID
    seq: int
    author_id: UUID | None
    by: str
    created: datetime
    outcome: str
    reason: str
    signature: Signature | None
    lost: str = ""


@change
def start_review(*, actor: Actor, case_id: UUID) -> None:
    case = case_of(actor, case_id)
    if not may_work(case, actor):
        raise NotVisible("case")
    now = deeds.require_open(case)
    if now.status == Status.UNDER_REVIEW:
        return
    seq = deeds.write(actor, case, Deed.REVIEW_STARTED, {"status": Status.UNDER_REVIEW.value})
    deeds.move(actor, case, seq, Status.UNDER_REVIEW)


@change
def decide(*, actor: Actor, case_id: UUID, outcome: str, reason: str, expected: str = "") -> Decision:
    """Take a decision, which then waits for another person. expected: as of `work.change_case`."""
    case = case_of(actor, case_id)
    if not may_lead(case, actor):
        raise NotVisible("case")
    deeds.require_open(case, expected)
    if outcome not in Outcome.values:
        raise Refused("outcome_unknown", _("Choose what is to be done."), "outcome")
    reason = deeds.clean_lines(
        reason, field="reason", most=deeds.MOST_TEXT, missing=_("Give the reason of the decision.")
    )
    if not linked_records(case):
        raise Refused("no_records", _("No record is in this case yet. Put in what the decision is about."))
    row = uuid7()
    detail = {"decision": str(row), "outcome": str(outcome), "reason": reason}
    seq = deeds.write(actor, case, Deed.DECIDED, {**detail, "status": Status.AWAITING.value})
    said = {"outcome": str(outcome), "reason": reason, "by": actor.label}
    CaseDecision.objects.create(
        pk=row,
        case=case,
        seq=seq,
        author_id=actor.user_id,
        sealed=sealing.seal(said, tenant_id=actor.tenant_id, case_id=case.pk, row=row),
    )
    deeds.move(actor, case, seq, Status.AWAITING)
    return decisions_of(case)[-1]


@change
def withdraw(*, actor: Actor, case_id: UUID) -> None:
    """Take one's own decision back before it is signed."""
    case, decision = _waiting(actor, case_id)
    if decision.author_id != actor.user_id:
        raise Refused(
            "not_author", _("Only whoever took this decision can withdraw it. Send it back instead.")
        )
    status = Status.UNDER_REVIEW
    seq = deeds.write(actor, case, Deed.WITHDRAWN, {"decision": str(decision.id), "status": status.value})
    deeds.move(actor, case, seq, status)


@change
def sign(*, actor: Actor, case_id: UUID, decision_id: UUID, is_approved: bool, reason: str) -> None:
    """The second person approves a decision, which closes the case, or sends it back.

    decision_id: the one that was looked at; Refused "decision_changed" when another waits by now, or none.
    """
    case, decision = _waiting(actor, case_id, decision_id)
    if not may_sign(case, actor):
        raise NotVisible("case")
    if actor.user_id is None or decision.author_id == actor.user_id:
        message = _("You took this decision yourself. Another person has to sign it.")
        raise Refused("own_decision", message)
    if is_approved and decision.lost:
        message = _("What was decided cannot be read any more, so it cannot be signed. Send it back.")
        raise Refused("decision_lost", message)
    reason = deeds.clean_lines(
        reason, field="reason", most=deeds.MOST_TEXT, missing=_("Give the reason of your signature.")
    )
    status = _ENDS[decision.outcome] if is_approved else Status.UNDER_REVIEW
    deed = Deed.SIGNED if is_approved else Deed.SENT_BACK
    detail = {"decision": str(decision.id), "outcome": decision.outcome, "reason": reason}
    seq = deeds.write(actor, case, deed, {**detail, "status": status.value})
    row = uuid7()
    CaseSignature.objects.create(
        pk=row,
        case=case,
        seq=seq,
        author_id=actor.user_id,
        decision_id=decision.id,
        is_approved=is_approved,
        sealed=sealing.seal(
            {"reason": reason, "by": actor.label}, tenant_id=actor.tenant_id, case_id=case.pk, row=row
        ),
    )
    deeds.move(actor, case, seq, status)


@change
def reopen(*, actor: Actor, case_id: UUID, reason: str) -> None:
    case = case_of(actor, case_id)
    if not may_lead(case, actor):
        raise NotVisible("case")
    if deeds.current(case).status not in CLOSED:
        raise Refused("not_closed", _("The case is not closed."))
    reason = deeds.clean_lines(
        reason, field="reason", most=deeds.MOST_TEXT, missing=_("State why the case is reopened.")
    )
    seq = deeds.write(actor, case, Deed.REOPENED, {"reason": reason, "status": Status.REOPENED.value})
    deeds.move(actor, case, seq, Status.REOPENED)


def decisions_of(case: Case) -> list[Decision]:
    """All decisions of a case, oldest first; inside the tenant's scope."""
    signatures = {row.decision_id: row for row in CaseSignature.objects.filter(case=case)}
    rows = CaseDecision.objects.filter(case=case).order_by("seq")
    return [_decision(case, row, signatures.get(row.pk)) for row in rows]


_ENDS: dict[str, Status] = {Outcome.REPORT: Status.REPORTED, Outcome.NO_REPORT: Status.NOT_REPORTED}


def _waiting(actor: Actor, case_id: UUID, decision_id: UUID | None = None) -> tuple[Case, Decision]:
    """The case, and the decision of it that waits for a signature. Raises NotVisible, Refused."""
    case = case_of(actor, case_id)
    decisions = decisions_of(case)
    if deeds.current(case).status != Status.AWAITING or not decisions:
        raise Refused(
            "nothing_waits", _("No decision waits any more: it was signed, sent back or withdrawn.")
        )
    if decision_id is not None and decisions[-1].id != decision_id:
        message = _("Another decision waits by now. Look at the case again before you sign.")
        raise Refused("decision_changed", message)
    return case, decisions[-1]


def _decision(case: Case, row: CaseDecision, signed: CaseSignature | None) -> Decision:
    place: dict[str, Any] = {"tenant_id": case.tenant_id, "case_id": case.pk}
    said = {"by": "", "outcome": "", "reason": "", **sealing.shown(row.sealed, row=row.pk, **place)}
    signature = None
    if signed is not None:
        words = {"by": "", "reason": "", **sealing.shown(signed.sealed, row=signed.pk, **place)}
        signature = Signature(created=signed.created, is_approved=signed.is_approved, **words)
    return Decision(row.pk, row.seq, row.author_id, created=row.created, signature=signature, **said)
