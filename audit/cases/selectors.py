"""Lists of cases, and one case with all of it, for whoever is inside. What is shown is recorded first."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from audit import secrecy
from audit.cases import attachments, decisions, deeds, readings, sealing, work
from audit.cases.access import (
    case_of,
    cases_of,
    may_lead,
    may_sign,
    may_work,
    members_of,
    roles_of,
    subjects_of,
    working,
)
from audit.cases.decisions import Decision
from audit.cases.models import (
    CLOSED,
    Case,
    CaseDecision,
    CaseEvent,
    CaseRecord,
    CaseVersion,
    DeadlineState,
    Looked,
    MemberRole,
    Status,
)
from audit.cases.opening import linked_records
from audit.cases.readings import Reading
from audit.models import AuditRecord
from audit.selectors import Summary, summaries
from tenants import clock
from tenants.access import Actor, require
from tenants.ids import day_of
from tenants.models import Membership, User
from tenants.roles import AUDIT_EXPORT, REVIEW_MANAGE, REVIEW_WORK
from tenants.words import search_words

DUE_SOON = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Listed:
    """A case in a list. due: its next open deadline. role: the actor's own, "" for none."""

    case: Case
    version: CaseVersion
    title: str
    typology: str
    owner: str
    role: str
    due: datetime | None
    record_count: int
    awaits_me: bool

    @property
    def is_overdue(self) -> bool:
        return self.due is not None and self.due <= clock.now()

    @property
    def is_due_soon(self) -> bool:
        return self.due is not None and not self.is_overdue and self.due <= clock.now() + DUE_SOON


@dataclass(frozen=True, slots=True)
class Event:
    """A deed of the timeline. detail: {"lost": why} where neither that nor who did it is known."""

    seq: int
    kind: str
    by: str
    created: datetime
    detail: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Linked:
    """A record of the case. summary: None when its facts are gone with its day. lost: why the reason is not known."""

    request_id: UUID
    since: datetime
    reason: str
    summary: Summary | None
    lost: str = ""


@dataclass(frozen=True, slots=True)
class Member:
    user_id: UUID
    label: str
    role: str


@dataclass(frozen=True, slots=True)
class CaseView:
    """One case. waiting: the decision that waits for a signature. seq: the place of the newest deed.

    lost: why neither title, summary nor kind is known.
    """

    case: Case
    version: CaseVersion
    title: str
    summary: str
    typology: str
    owner: str
    opened_by: str
    seq: int
    members: list[Member]
    records: list[Linked]
    files: list[attachments.File]
    deadlines: list[tuple[Any, dict[str, Any]]]
    decisions: list[Decision]
    timeline: list[Event]
    readings: list[Reading] = field(default_factory=list)
    may_work: bool = False
    may_lead: bool = False
    may_sign: bool = False
    may_withdraw: bool = False
    lost: str = ""

    @property
    def is_closed(self) -> bool:
        return self.version.status in CLOSED

    @property
    def is_frozen(self) -> bool:
        """Whether neither details, records, files nor deadlines change now."""
        return self.is_closed or self.version.status == Status.AWAITING

    @property
    def waiting(self) -> Decision | None:
        return self.decisions[-1] if self.version.status == Status.AWAITING else None


def list_cases(actor: Actor, *, show: str = "open", search: str = "") -> list[Listed]:
    """The cases the actor is inside of: the due ones first, then the newest. Raises NotVisible, AuditUnavailable.

    show: "open", "mine" (owned by the actor, or they are a member), "signature" (waits for the actor's), "due" (within
    seven days, or over), "closed" or "all". search: words of number and title.
    """
    require(actor, REVIEW_WORK)
    cases = list(Case.objects.filter(pk__in=cases_of(actor)))
    versions = _current(cases)
    roles = roles_of(actor.user_id) if actor.user_id else {}
    due, counts = _next_due(cases), _record_counts(cases)
    waiting = _waiting_for(actor, versions, roles)

    def is_shown(case: Case) -> bool:
        version = versions[case.pk]
        is_open = version.status not in CLOSED
        match show:
            case "mine":
                return is_open and (version.owner_id == actor.user_id or case.pk in roles)
            case "signature":
                return case.pk in waiting
            case "due":
                return is_open and case.pk in due and due[case.pk] <= clock.now() + DUE_SOON
            case "closed":
                return not is_open
            case "all":
                return True
            case _:
                return is_open

    shown = [case for case in cases if is_shown(case)]
    readings.record_listing(actor, shown)
    names = names_of(versions[case.pk].owner_id for case in shown)
    found = []
    for case in shown:
        version = versions[case.pk]
        said = deeds.facts(case, version)
        found.append(
            Listed(
                case=case,
                version=version,
                title=said["title"],
                typology=said["typology"],
                owner=names.get(version.owner_id, ""),
                role=roles.get(case.pk, ""),
                due=due.get(case.pk) if version.status not in CLOSED else None,
                record_count=counts.get(case.pk, 0),
                awaits_me=case.pk in waiting,
            )
        )
    words = [word.casefold() for word in search_words(search)]
    found = [
        each for each in found if all(word in f"{each.case.number} {each.title}".casefold() for word in words)
    ]
    far = clock.now() + timedelta(days=100_000)
    return sorted(found, key=lambda each: (each.due or far, -each.case.pk.int))


def export_cases(actor: Actor, *, show: str = "open", search: str = "") -> list[Listed]:
    """As `list_cases`, to be taken away: recorded in each of the cases. Also raises NotVisible without audit.export."""
    require(actor, AUDIT_EXPORT)
    found = list_cases(actor, show=show, search=search)
    for each in found:
        readings.record_reading(actor, each.case, Looked.TABLE)
    return found


def count_waiting(actor: Actor) -> int:
    """How many decisions wait for this actor's signature."""
    require(actor, REVIEW_WORK)
    cases = list(Case.objects.filter(pk__in=cases_of(actor)))
    return len(_waiting_for(actor, _current(cases), roles_of(actor.user_id) if actor.user_id else {}))


def open_one(actor: Actor, case_id: UUID) -> CaseView:
    """One case with all of it, after recording that the actor opened it. Raises NotVisible, AuditUnavailable."""
    case = case_of(actor, case_id)
    readings.record_reading(actor, case, Looked.VIEWED)
    return view(actor, case)


def view(actor: Actor, case: Case) -> CaseView:
    """As `open_one`, for whoever has recorded it already."""
    version = deeds.current(case)
    said = deeds.facts(case, version)
    timeline = timeline_of(case)
    taken = decisions.decisions_of(case)
    members = members_of(case)
    names = names_of([*members, version.owner_id])
    waits = version.status == Status.AWAITING
    is_author = waits and taken[-1].author_id == actor.user_id
    return CaseView(
        case=case,
        version=version,
        owner=names.get(version.owner_id, ""),
        opened_by=timeline[0].by,
        seq=timeline[-1].seq,
        members=[Member(user_id, names.get(user_id, ""), role) for user_id, role in members.items()],
        records=_records(actor, case),
        files=attachments.files_of(case),
        deadlines=work.deadlines_of(case),
        decisions=taken,
        timeline=timeline,
        readings=readings.readings_of(case),
        may_work=may_work(case, actor),
        may_lead=may_lead(case, actor),
        may_sign=waits and not is_author and may_sign(case, actor),
        may_withdraw=is_author,
        **said,
    )


def cases_with(actor: Actor, request_id: UUID) -> list[Case]:
    """The cases the actor is inside of that this record is in."""
    inside = cases_of(actor)
    if not inside:
        return []
    newest = (
        CaseRecord.objects.filter(request_id=request_id, case_id__in=inside)
        .order_by("case_id", "-seq")
        .distinct("case_id")
    )
    ids = [row.case_id for row in newest if row.is_linked]
    return list(Case.objects.filter(pk__in=ids).order_by("-pk"))


def joinable(actor: Actor) -> list[tuple[Case, str]]:
    """The cases to which the actor may add records now, with their titles, newest first; their listing is recorded."""
    require(actor, REVIEW_WORK)
    cases = list(Case.objects.filter(pk__in=cases_of(actor)).order_by("-pk"))
    versions = _current(cases)
    fixed = (*CLOSED, Status.AWAITING)
    open_to = [case for case in cases if versions[case.pk].status not in fixed and may_work(case, actor)]
    readings.record_listing(actor, open_to)
    return [(case, deeds.facts(case, versions[case.pk])["title"]) for case in open_to]


def candidates(actor: Actor, case: Case) -> list[Member]:
    """Who could be put into a case: those who review and whom it is not about, by address. role: theirs in it now."""
    require(actor, REVIEW_WORK)
    everybody = Membership.objects.filter(disabled=None, user__is_active=True).values_list(
        "user_id", flat=True
    )
    fit = working(list(everybody)) - subjects_of(case)
    members = members_of(case)
    names = names_of(fit)
    found = [Member(user_id, names[user_id], members.get(user_id, "")) for user_id in fit if user_id in names]
    return sorted(found, key=lambda each: each.label)


def timeline_of(case: Case) -> list[Event]:
    """Every deed, oldest first; inside the tenant's scope."""
    return [_event(case, row) for row in CaseEvent.objects.filter(case=case).order_by("seq")]


def names_of(user_ids: Iterable[UUID | None]) -> dict[UUID | None, str]:
    """The addresses of people, also of those who left."""
    return dict(User.objects.filter(pk__in={each for each in user_ids if each}).values_list("pk", "email"))


def _event(case: Case, row: CaseEvent) -> Event:
    said = sealing.shown(row.sealed, tenant_id=case.tenant_id, case_id=case.pk, row=row.pk)
    return Event(row.seq, row.kind, said.pop("by", ""), row.created, said)


def _current(cases: list[Case]) -> dict[UUID, CaseVersion]:
    newest = CaseVersion.objects.filter(case__in=cases).order_by("case_id", "-seq").distinct("case_id")
    return {version.case_id: version for version in newest}


def _next_due(cases: list[Case]) -> dict[UUID, datetime]:
    found: dict[UUID, datetime] = {}
    for deadline in work.newest_deadlines(case__in=cases):
        if deadline.state == DeadlineState.OPEN:
            found[deadline.case_id] = min(deadline.due, found.get(deadline.case_id, deadline.due))
    return found


def _record_counts(cases: list[Case]) -> dict[UUID, int]:
    newest = CaseRecord.objects.filter(case__in=cases).order_by("case_id", "request_id", "-seq")
    counts: dict[UUID, int] = {}
    for row in newest.distinct("case_id", "request_id").defer("sealed"):
        if row.is_linked:
            counts[row.case_id] = counts.get(row.case_id, 0) + 1
    return counts


def _waiting_for(actor: Actor, versions: dict[UUID, CaseVersion], roles: dict[UUID, str]) -> set[UUID]:
    """The cases whose decision waits and that the actor may sign: not one of their own."""
    waiting = [case_id for case_id, version in versions.items() if version.status == Status.AWAITING]
    newest = CaseDecision.objects.filter(case_id__in=waiting).order_by("case_id", "-seq").distinct("case_id")
    signing = (MemberRole.LEAD, MemberRole.APPROVER)
    return {
        row.case_id
        for row in newest
        if row.author_id != actor.user_id
        and (actor.can(REVIEW_MANAGE) or roles.get(row.case_id, "") in signing)
    }


def _records(actor: Actor, case: Case) -> list[Linked]:
    linked = linked_records(case)
    days = {day_of(request_id) for request_id in linked}
    rows = AuditRecord.objects.filter(day__in=days, id__in=list(linked))
    known = {summary.id: summary for summary in summaries(secrecy.visible(actor, rows))}
    found = []
    for request_id, row in linked.items():
        said = sealing.shown(row.sealed, tenant_id=case.tenant_id, case_id=case.pk, row=row.pk)
        found.append(Linked(request_id, row.created, summary=known.get(request_id), **{"reason": "", **said}))
    return found
