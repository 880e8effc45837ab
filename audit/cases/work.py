"""Work on a case: its details, members, notes and deadlines. Raises NotVisible, Refused, AuditUnavailable."""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db.models import QuerySet
from django.utils.translation import gettext as _

from audit.cases import deeds, sealing
from audit.cases.access import case_of, may_lead, may_work, members_of, subjects_of, working
from audit.cases.models import (
    CLOSED,
    Case,
    CaseDeadline,
    CaseMember,
    CaseVersion,
    DeadlineState,
    Deed,
    MemberRole,
    Severity,
)
from tenants import clock
from tenants.access import Actor, NotVisible
from tenants.changes import change, difference
from tenants.errors import Refused
from tenants.ids import uuid7
from tenants.models import User
from tenants.words import clean_text

MOST_NOTE = 8000
MOST_LABEL = 120


@change
def change_case(
    *,
    actor: Actor,
    case_id: UUID,
    title: str,
    summary: str,
    typology: str,
    severity: str,
    owner_id: UUID | None,
    expected: str = "",
) -> CaseVersion:
    """Other details. expected: the version that was looked at; Refused "case_changed" when there is a newer one."""
    case = _workable(actor, case_id)
    now = deeds.require_open(case, expected)
    known = deeds.clean_facts(title=title, summary=summary, typology=typology)
    if severity not in Severity.values:
        raise Refused("severity_unknown", _("Choose one of the severities."), "severity")
    if owner_id != now.owner_id:
        if not may_lead(case, actor):
            raise NotVisible("case")
        if members_of(case).get(owner_id) != MemberRole.LEAD:  # type: ignore[arg-type]
            raise Refused("owner_no_lead", _("The owner must be one of the case’s leads."), "owner_id")
    before = {**deeds.facts(case, now), "severity": now.severity, "owner": str(now.owner_id or "")}
    before.pop("lost", None)
    after = {**known, "severity": severity, "owner": str(owner_id or "")}
    old, new = difference(before, after)
    if not new:
        return now
    seq = deeds.write(actor, case, Deed.CHANGED, {"before": old, "after": new})
    return deeds.put_version(
        actor, case, seq, status=now.status, severity=severity, owner_id=owner_id, facts=known
    )


@change
def add_note(*, actor: Actor, case_id: UUID, text: str) -> None:
    """Write into the timeline, for good. Whoever is inside of the case may, also while a decision waits."""
    case = case_of(actor, case_id)
    if deeds.current(case).status in CLOSED:
        raise Refused("case_closed", _("The case is closed. Reopen it first."))
    text = deeds.clean_lines(text, field="text", most=MOST_NOTE, missing=_("Write something first."))
    deeds.write(actor, case, Deed.NOTED, {"text": text})


@change
def set_member(*, actor: Actor, case_id: UUID, user_id: UUID, role: str) -> None:
    """Put a person into the case, or give a member another role."""
    case = _leadable(actor, case_id)
    if role not in MemberRole.values:
        raise Refused("role_unknown", _("Choose one of the roles."), "role")
    members = members_of(case)
    if members.get(user_id) == role:
        return
    if user_id in subjects_of(case):
        message = _("The case is about this person, so they must not learn of it.")
        raise Refused("member_is_subject", message, "user_id")
    if user_id not in working([user_id]):
        message = _("This person does not work on cases here. Choose somebody whose role reviews.")
        raise Refused("member_unfit", message, "user_id")
    _keep_a_lead(members, user_id)
    who = User.objects.get(pk=user_id).email
    seq = deeds.write(actor, case, Deed.MEMBER_SET, {"user": str(user_id), "role": str(role), "who": who})
    _put_member(actor, case, seq, user_id, role)


@change
def remove_member(*, actor: Actor, case_id: UUID, user_id: UUID) -> None:
    """Take a person out: from then on there is no such case for them."""
    case = _leadable(actor, case_id)
    members = members_of(case)
    if user_id not in members:
        return
    _keep_a_lead(members, user_id)
    who = User.objects.filter(pk=user_id).values_list("email", flat=True).first() or ""
    seq = deeds.write(actor, case, Deed.MEMBER_REMOVED, {"user": str(user_id), "who": who})
    _put_member(actor, case, seq, user_id, "")


@change
def set_deadline(
    *, actor: Actor, case_id: UUID, label: str, due: datetime, deadline_id: UUID | None = None
) -> UUID:
    """A new deadline, or another time for one; its id."""
    case = _workable(actor, case_id)
    deeds.require_open(case)
    label = clean_text(label, field="label", most=MOST_LABEL)
    if not label:
        raise Refused("label_missing", _("Say what is due."), "label")
    if not clock.now() < due < clock.now() + timedelta(days=3651):
        raise Refused("due_invalid", _("Choose a time to come, within ten years."), "due")
    if deadline_id is not None and _open_deadline(case, deadline_id) is None:
        raise NotVisible("deadline")
    return put_deadline(actor, case, label=label, due=due, deadline_id=deadline_id)


@change
def close_deadline(*, actor: Actor, case_id: UUID, deadline_id: UUID, state: str, reason: str = "") -> None:
    """A deadline was met, or is dropped for a reason."""
    case = _workable(actor, case_id)
    deeds.require_open(case)
    deadline = _open_deadline(case, deadline_id)
    if deadline is None:
        raise NotVisible("deadline")
    if state not in (DeadlineState.MET, DeadlineState.DROPPED):
        raise Refused("state_unknown", _("A deadline is met or dropped."), "state")
    missing = _("State why the deadline is dropped.") if state == DeadlineState.DROPPED else ""
    reason = deeds.clean_lines(reason, field="reason", most=1000, missing=missing)
    label = _said(case, deadline)["label"]
    detail = {"deadline": str(deadline_id), "label": label, "state": str(state), "reason": reason}
    seq = deeds.write(actor, case, Deed.DEADLINE_CLOSED, detail)
    _put(actor, case, seq, deadline_id, deadline.due, state, {"label": label, "reason": reason})


def put_deadline(
    actor: Actor, case: Case, *, label: str, due: datetime, deadline_id: UUID | None = None
) -> UUID:
    """As `set_deadline`, of a deed that has been checked already."""
    deadline_id = deadline_id or uuid7()
    detail = {"deadline": str(deadline_id), "label": label, "due": due.isoformat()}
    seq = deeds.write(actor, case, Deed.DEADLINE_SET, detail)
    _put(actor, case, seq, deadline_id, due, DeadlineState.OPEN, {"label": label})
    return deadline_id


def deadlines_of(case: Case) -> list[tuple[CaseDeadline, dict[str, Any]]]:
    """The deadlines of a case as they are now, with what is said of each; the open ones first, by time."""
    found = [(deadline, _said(case, deadline)) for deadline in newest_deadlines(case=case)]
    return sorted(found, key=lambda each: (each[0].state != DeadlineState.OPEN, each[0].due))


def newest_deadlines(**which: Any) -> QuerySet[CaseDeadline]:
    """Each of these deadlines as it is now."""
    return CaseDeadline.objects.filter(**which).order_by("deadline_id", "-seq").distinct("deadline_id")


def _workable(actor: Actor, case_id: UUID) -> Case:
    case = case_of(actor, case_id)
    if not may_work(case, actor):
        raise NotVisible("case")
    return case


def _leadable(actor: Actor, case_id: UUID) -> Case:
    case = case_of(actor, case_id)
    if not may_lead(case, actor):
        raise NotVisible("case")
    if deeds.current(case).status in CLOSED:
        raise Refused("case_closed", _("The case is closed. Reopen it first."))
    return case


def _keep_a_lead(members: dict[UUID, str], user_id: UUID) -> None:
    """Raises Refused if without this person nobody would lead the case."""
    leads = {each for each, role in members.items() if role == MemberRole.LEAD}
    if leads == {user_id}:
        message = _("This is the only lead of the case. Make somebody else a lead first.")
        raise Refused("last_lead", message, "role")


def _put_member(actor: Actor, case: Case, seq: int, user_id: UUID, role: str) -> None:
    CaseMember.objects.create(case=case, seq=seq, author_id=actor.user_id, user_id=user_id, role=role)


def _open_deadline(case: Case, deadline_id: UUID) -> CaseDeadline | None:
    newest = CaseDeadline.objects.filter(case=case, deadline_id=deadline_id).order_by("-seq").first()
    return newest if newest is not None and newest.state == DeadlineState.OPEN else None


def _put(
    actor: Actor, case: Case, seq: int, deadline_id: UUID, due: datetime, state: str, said: dict[str, Any]
) -> None:
    row = uuid7()
    CaseDeadline.objects.create(
        pk=row,
        case=case,
        seq=seq,
        author_id=actor.user_id,
        deadline_id=deadline_id,
        due=due,
        state=state,
        sealed=sealing.seal(said, tenant_id=actor.tenant_id, case_id=case.pk, row=row),
    )


def _said(case: Case, deadline: CaseDeadline) -> dict[str, Any]:
    found = sealing.shown(deadline.sealed, tenant_id=case.tenant_id, case_id=case.pk, row=deadline.pk)
    return {"label": "", **found}
