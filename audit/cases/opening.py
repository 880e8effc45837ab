"""A case is opened, from records or an escalated flag; records join it and leave it.

What joins is held at once, in the same transaction: the retention of its day no longer takes it away. What leaves stays
held until the hold is released by two people.
"""

import secrets
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.utils.translation import gettext as _

from audit import secrecy
from audit.cases import deeds, sealing
from audit.cases.access import case_of, may_work, members_of, people_behind
from audit.cases.models import Case, CaseMember, CaseRecord, Deed, MemberRole, Severity, Status, Typology
from audit.cases.work import put_deadline
from audit.models import AuditRecord
from audit.record import REQUESTS
from audit.retention import departed, holds
from audit.review.models import SEVERITIES, ReviewItem
from tenants import clock
from tenants.access import Actor, NotVisible, require
from tenants.changes import change
from tenants.errors import Refused
from tenants.ids import day_of, uuid7
from tenants.roles import REVIEW_WORK

MOST_RECORDS = 200  # Of one selection; a case may get more, one after the other.
DAYS_TO_REPORT = 30
_DIGITS = 6


@change
def open_case(
    *,
    actor: Actor,
    title: str,
    summary: str = "",
    typology: str = Typology.OTHER,
    severity: str = Severity.MEDIUM,
    request_ids: Sequence[UUID] = (),
    reason: str = "",
    days_to_report: int | None = DAYS_TO_REPORT,
    flag_id: UUID | None = None,
) -> Case:
    """A new case, led and owned by whoever opens it. Raises NotVisible, Refused, AuditUnavailable.

    reason: why these records belong to it. days_to_report: when the report is due; None: no deadline yet. flag_id: the
    reviewed item that led to it.
    """
    require(actor, REVIEW_WORK)
    known = deeds.clean_facts(title=title, summary=summary, typology=typology)
    if severity not in Severity.values:
        raise Refused("severity_unknown", _("Choose one of the severities."), "severity")
    if days_to_report is not None and not 1 <= days_to_report <= 3650:
        raise Refused("days_invalid", _("Choose 1 to 3650 days."), "days_to_report")
    case = Case.objects.create(number=_free_number(), opened_by_id=actor.user_id)
    detail: dict[str, Any] = {**known, "severity": severity, "status": Status.OPEN.value}
    if flag_id is not None:
        detail["flag"] = str(flag_id)
    seq = deeds.write(actor, case, Deed.OPENED, detail)
    deeds.put_version(
        actor, case, seq, status=Status.OPEN, severity=severity, owner_id=actor.user_id, facts=known
    )
    if actor.user_id is not None:
        CaseMember.objects.create(
            case=case, seq=seq, author_id=actor.user_id, user_id=actor.user_id, role=MemberRole.LEAD
        )
    if request_ids:
        _link(actor, case, request_ids, reason)
    if days_to_report is not None:
        due = clock.now() + timedelta(days=days_to_report)
        put_deadline(actor, case, label=_("Report to the authority"), due=due)
    return case


def open_for_flag(*, actor: Actor, item: ReviewItem, reason: str) -> UUID:
    """A case for an escalated item, opened by whoever escalated it; its id. As `open_case`.

    Where the record went before the escalation was signed, the case is about it all the same, and holds nothing.
    """
    is_there = _records(actor, [item.request_id]) and not departed.is_erased(item.request_id)
    gone = _("The record went under retention, or was erased on request, before this became a case.")
    case = open_case(
        actor=actor,
        title=_("Escalated flag"),
        summary=reason if is_there else f"{reason}\n\n{gone}",
        severity=str(SEVERITIES[item.rank]),
        request_ids=[item.request_id] if is_there else [],
        reason=reason,
        flag_id=item.pk,
    )
    if not is_there:
        subjects = [item.subject_user_id] if item.subject_user_id else []
        _put_in(actor, case, {item.request_id: subjects}, reason)
    return case.pk


@change
def link_records(*, actor: Actor, case_id: UUID, request_ids: Sequence[UUID], reason: str) -> int:
    """Put records into a case, and hold them; how many were not in it yet. Raises NotVisible, Refused."""
    case = case_of(actor, case_id)
    if not may_work(case, actor):
        raise NotVisible("case")
    deeds.require_open(case)
    return _link(actor, case, request_ids, reason)


@change
def unlink_record(*, actor: Actor, case_id: UUID, request_id: UUID, reason: str) -> None:
    """Take a record out of a case, with a reason. It stays held. Raises NotVisible, Refused."""
    case = case_of(actor, case_id)
    if not may_work(case, actor):
        raise NotVisible("case")
    deeds.require_open(case)
    linked = linked_records(case).get(request_id)
    if linked is None:
        raise NotVisible("record of the case")
    reason = deeds.clean_lines(
        reason, field="reason", most=deeds.MOST_TEXT, missing=_("State why the record leaves the case.")
    )
    detail = {"request": str(request_id), "reason": reason}
    seq = deeds.write(actor, case, Deed.RECORD_UNLINKED, detail)
    _put_record(actor, case, seq, request_id, subjects=linked.subjects, reason=reason, is_linked=False)


@change
def hold_records(*, actor: Actor, case_id: UUID, reason: str) -> None:
    """Hold those records of a case anew that are still there and not held. Raises NotVisible, Refused."""
    case = case_of(actor, case_id)
    if not may_work(case, actor):
        raise NotVisible("case")
    wanted = unheld(actor, case)
    if not wanted:
        raise Refused("nothing_to_hold", _("Every record of the case that is still there is held."))
    holds.place(actor=actor, request_ids=wanted, case_id=case.pk, reason=reason)


def unheld(actor: Actor, case: Case) -> list[UUID]:
    """The records of a case that are still there and that it does not hold, as after a release."""
    held = {each.summary.id for each in holds.of(actor, case.pk)}
    return [
        each.id
        for each in _records(actor, [*linked_records(case)])
        if each.id not in held and not departed.is_erased(each.id)
    ]


def linked_records(case: Case) -> dict[UUID, CaseRecord]:
    """The records that are in a case now, by id, in the order in which they joined."""
    newest: dict[UUID, CaseRecord] = {}
    for row in CaseRecord.objects.filter(case=case).order_by("seq", "request_id"):
        newest.pop(row.request_id, None)
        if row.is_linked:
            newest[row.request_id] = row
    return newest


def _link(actor: Actor, case: Case, request_ids: Sequence[UUID], reason: str) -> int:
    reason = deeds.clean_lines(
        reason, field="reason", most=deeds.MOST_TEXT, missing=_("State why these records belong to the case.")
    )
    already = linked_records(case)
    wanted = [each for each in dict.fromkeys(request_ids) if each not in already]
    if len(wanted) > MOST_RECORDS:
        raise Refused("too_many", _("Choose at most %(most)d records at once.") % {"most": MOST_RECORDS})
    if not wanted:
        return 0
    behind = people_behind(_records(actor, wanted))
    if missing := [each for each in wanted if each not in behind]:
        raise NotVisible(f"{len(missing)} records")
    _put_in(actor, case, {each: behind[each] for each in wanted}, reason)
    holds.place(actor=actor, request_ids=wanted, case_id=case.pk, reason=reason)
    return len(wanted)


def _put_in(actor: Actor, case: Case, behind: dict[UUID, list[UUID]], reason: str) -> None:
    """behind: whom each of the records is of. Raises Refused for the actor's own."""
    subjects = {person for people in behind.values() for person in people}
    if actor.user_id in subjects:
        message = _("One of these records is your own. Somebody else has to look into it.")
        raise Refused("own_record", message)
    detail = {"records": [str(each) for each in behind], "reason": reason}
    seq = deeds.write(actor, case, Deed.RECORDS_LINKED, detail)
    for request_id, people in behind.items():
        _put_record(actor, case, seq, request_id, subjects=people, reason=reason, is_linked=True)
    _let_go_of(actor, case, subjects)


def _records(actor: Actor, request_ids: Sequence[UUID]) -> list[AuditRecord]:
    """Those of these requests to models that exist for the actor, without content."""
    days = set()
    for request_id in request_ids:
        try:
            days.add(day_of(request_id))
        except (ValueError, OverflowError) as error:
            raise NotVisible("record") from error
    found = secrecy.visible(
        actor, AuditRecord.objects.filter(day__in=days, id__in=request_ids, kind__in=REQUESTS)
    )
    return list(found.only("day", "id", "user_id", "api_key_id"))


def _put_record(
    actor: Actor,
    case: Case,
    seq: int,
    request_id: UUID,
    *,
    subjects: Sequence[UUID],
    reason: str,
    is_linked: bool,
) -> None:
    row = uuid7()
    CaseRecord.objects.create(
        pk=row,
        case=case,
        seq=seq,
        author_id=actor.user_id,
        request_id=request_id,
        is_linked=is_linked,
        subjects=list(subjects),
        sealed=sealing.seal({"reason": reason}, tenant_id=actor.tenant_id, case_id=case.pk, row=row),
    )


def _let_go_of(actor: Actor, case: Case, subjects: set[UUID]) -> None:
    """Whoever the case is about from now on is no longer a member of it; that they see nothing needs no deed."""
    for user_id in subjects & set(members_of(case)):
        seq = deeds.write(actor, case, Deed.MEMBER_REMOVED, {"user": str(user_id)})
        CaseMember.objects.create(case=case, seq=seq, author_id=actor.user_id, user_id=user_id, role="")


def _free_number(draw: Callable[[int], int] = secrets.randbelow) -> str:
    """The year and digits at random: a sequence would tell members, by its gaps, of the cases that they do not see."""
    while True:
        number = f"{clock.today():%Y}-{draw(10**_DIGITS):0{_DIGITS}}"
        if not Case.objects.filter(number=number).exists():
            return number
