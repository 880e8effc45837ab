"""What is due: who is to be reminded of a deadline, once at each number of days before it."""

from dataclasses import dataclass
from datetime import timedelta

from audit.cases import deeds
from audit.cases.access import members_of, subjects_of, working
from audit.cases.models import CLOSED, Case, CaseDeadline, CaseReminder, DeadlineState, Deed, MemberRole
from audit.cases.work import newest_deadlines
from tenants import clock
from tenants.actors import system_actor
from tenants.changes import changing
from tenants.models import Tenant, TenantSettings, User

DAYS_BEFORE = (7, 3, 1, 0)  # 0: it is over.
LABEL = "Custos"


@dataclass(frozen=True, slots=True)
class Reminder:
    """Whom to write to, in which language first: nothing of the case itself."""

    tenant: Tenant
    addresses: list[str]
    language: str


def remind() -> list[Reminder]:
    """Note every reminder that is due, in all tenants, and say whom to write to. Raises AuditUnavailable."""
    found = []
    for tenant in Tenant.objects.filter(status=Tenant.Status.ACTIVE).order_by("slug"):
        with changing(tenant.pk):
            addresses = {address for deadline in _due() for address in _remind(tenant, deadline)}
            language = TenantSettings.objects.values_list("default_language", flat=True).first() or ""
        if addresses:
            found.append(Reminder(tenant, sorted(addresses), language))
    return found


def _due() -> list[CaseDeadline]:
    end = clock.now() + timedelta(days=max(DAYS_BEFORE))
    newest = newest_deadlines().select_related("case")
    return [each for each in newest if each.state == DeadlineState.OPEN and each.due <= end]


def _remind(tenant: Tenant, deadline: CaseDeadline) -> list[str]:
    """The addresses to write to; none when the last reminder that is due has been given."""
    case = deadline.case
    left = deadline.due - clock.now()
    passed = [days for days in DAYS_BEFORE if left <= timedelta(days=days)]
    given = set(
        CaseReminder.objects.filter(deadline_id=deadline.deadline_id, due=deadline.due).values_list(
            "days", flat=True
        )
    )
    now = deeds.current(case)
    if now.status in CLOSED or not set(passed) - given:
        return []
    for days in passed:
        if days not in given:
            CaseReminder.objects.create(
                case=case, deadline_id=deadline.deadline_id, due=deadline.due, days=days
            )
    detail = {"deadline": str(deadline.deadline_id), "due": deadline.due.isoformat(), "days": min(passed)}
    deeds.write(system_actor(tenant, LABEL), case, Deed.REMINDED, detail)
    return _addresses(case)


def _addresses(case: Case) -> list[str]:
    """Of the leads, of those who may work on cases now and whom it is not about."""
    leads = {user_id for user_id, role in members_of(case).items() if role == MemberRole.LEAD}
    fit = working(leads) - subjects_of(case)
    found = User.objects.filter(pk__in=fit, is_active=True).values_list("email", flat=True)
    return list(found)
