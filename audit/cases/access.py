"""For whom a case exists: its members and officers. Never for whoever it is about, whatever their role.

To anybody else it is not there: NotVisible, as for a case that never was. All inside the tenant's scope.
"""

from collections.abc import Collection, Iterable
from uuid import UUID

from django.db.models import QuerySet

from audit.cases.models import Case, CaseMember, CaseRecord, MemberRole
from audit.models import AuditRecord
from tenants.access import Actor, NotVisible
from tenants.actors import permissions_of_people
from tenants.models import ApiKey
from tenants.roles import REVIEW_MANAGE, REVIEW_WORK


def cases_of(actor: Actor) -> set[UUID]:
    """The ids of the cases that the actor is inside of."""
    if actor.user_id is None or not actor.can(REVIEW_WORK):
        return set()
    found = Case.objects.order_by() if actor.can(REVIEW_MANAGE) else None
    ids = set(found.values_list("pk", flat=True)) if found is not None else set(roles_of(actor.user_id))
    return ids - set(_about(actor.user_id)) if ids else ids


def case_of(actor: Actor, case_id: UUID) -> Case:
    """The case, for those who are inside of it. Raises NotVisible."""
    case = Case.objects.filter(pk=case_id).first()
    if case is None or case.pk not in cases_of(actor):
        raise NotVisible("case")
    return case


def roles_of(user_id: UUID) -> dict[UUID, str]:
    """The cases that a person is a member of, with their role there."""
    newest = CaseMember.objects.filter(user_id=user_id).order_by("case_id", "-seq").distinct("case_id")
    return {case_id: role for case_id, role in newest.values_list("case_id", "role") if role}


def members_of(case: Case) -> dict[UUID, str]:
    """The members of a case, with their roles, in the order in which they last got one."""
    newest: dict[UUID, str] = {}
    for user_id, role in CaseMember.objects.filter(case=case).order_by("seq").values_list("user_id", "role"):
        newest.pop(user_id, None)
        if role:
            newest[user_id] = role
    return newest


def subjects_of(case: Case) -> set[UUID]:
    """The people whom the case is about: whose records are, or ever were, in it."""
    rows = CaseRecord.objects.filter(case=case).values_list("subjects", flat=True)
    return {each for subjects in rows for each in subjects}


def people_behind(records: Iterable[AuditRecord]) -> dict[UUID, list[UUID]]:
    """Whom each of these records is of, by its id: the person, or whoever made the program's key."""
    found = list(records)
    keys = {record.api_key_id for record in found if record.user_id is None and record.api_key_id}
    makers = dict(ApiKey.objects.filter(pk__in=keys).values_list("pk", "created_by_id")) if keys else {}
    behind = {record.id: record.user_id or makers.get(record.api_key_id) for record in found}
    return {request_id: [person] if person else [] for request_id, person in behind.items()}


def may_work(case: Case, actor: Actor) -> bool:
    """Whether the actor may add to the case: leads, members and officers; approvers only look and sign."""
    return _role(case, actor) in (MemberRole.LEAD, MemberRole.MEMBER)


def may_lead(case: Case, actor: Actor) -> bool:
    """Whether the actor may choose members, take decisions and reopen: leads and officers."""
    return _role(case, actor) == MemberRole.LEAD


def may_sign(case: Case, actor: Actor) -> bool:
    """Whether the actor may sign what somebody else decided: approvers, leads and officers."""
    return _role(case, actor) in (MemberRole.LEAD, MemberRole.APPROVER)


def working(user_ids: Collection[UUID]) -> set[UUID]:
    """Those of these people who may work on cases now."""
    held = permissions_of_people(list(user_ids))
    return {user_id for user_id, permissions in held.items() if REVIEW_WORK in permissions}


def _role(case: Case, actor: Actor) -> str:
    if actor.can(REVIEW_MANAGE):
        return MemberRole.LEAD
    return members_of(case).get(actor.user_id, "") if actor.user_id else ""


def _about(user_id: UUID) -> QuerySet[CaseRecord, UUID]:
    return (
        CaseRecord.objects.filter(subjects__contains=[user_id]).order_by().values_list("case_id", flat=True)
    )
