"""For how many days records are kept: a policy for each tenant and keeping.

A longer one counts at once, a shorter one a day later, and it is shown until then: whoever takes over an account in the
night must not be able to destroy evidence before somebody notices. The database decides what counts (migration 0002).
"""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db import connection
from django.utils.translation import gettext as _

from audit.record import Keeping
from audit.retention.models import Policy
from tenants.actors import Actor, require
from tenants.changes import change, record_change
from tenants.errors import Refused
from tenants.roles import RETENTION_MANAGE
from tenants.scope import tenant_scope

BOUNDS = range(1, 3651)
REASON_LENGTH = 1000


@dataclass(frozen=True, slots=True)
class InForce:
    """days: what counts now. pending: what will, from its `effective` on, unless something newer is decided."""

    keeping: Keeping
    days: int
    pending: Policy | None

    @property
    def wanted(self) -> int:
        """What was decided last, whether it counts already or not."""
        return self.pending.days if self.pending else self.days


def in_force(tenant_id: UUID) -> dict[Keeping, InForce]:
    """The policies of a tenant. Opens its scope."""
    with tenant_scope(tenant_id):
        now = database_time()
        return {keeping: _in_force(keeping, now) for keeping in Keeping}


def history(keeping: Keeping, most: int = 20) -> list[Policy]:
    """What was decided, newest first. Inside the tenant's scope."""
    return list(Policy.objects.filter(keeping=keeping).order_by("-number")[:most])


@change
def set_policy(*, actor: Actor, keeping: str, days: int, reason: str) -> InForce:
    """Keep these records for so many days after the one they are of. Raises NotVisible and Refused."""
    require(actor, RETENTION_MANAGE)
    reason = clean_reason(reason)
    if keeping not in set(Keeping):
        raise Refused("keeping_unknown", _("There are no such records."), "keeping")
    if isinstance(days, bool) or days not in BOUNDS:
        message = _("Choose a number of days from %(least)d to %(most)d.")
        bounds = {"least": BOUNDS.start, "most": BOUNDS.stop - 1}
        raise Refused("retention_invalid", message % bounds, "days")
    before = in_force(actor.tenant_id)[Keeping(keeping)]
    if days == before.wanted:
        return before
    made = Policy.objects.create(
        keeping=keeping, days=days, decided_by=actor.user_id, decided_label=actor.label
    )
    made.refresh_from_db()
    record_change(
        actor,
        "retention.policy_changed",
        subject_id=made.pk,
        before={"days": before.wanted},
        after={"days": days, "effective": _moment(made.effective)},
        detail={"keeping": keeping, "reason": reason},
    )
    return in_force(actor.tenant_id)[Keeping(keeping)]


def clean_reason(reason: str) -> str:
    """Raises Refused when there is none."""
    reason = reason.strip()
    if not reason:
        raise Refused("reason_required", _("State a reason. It is kept with the record of this."), "reason")
    if len(reason) > REASON_LENGTH:
        message = _("Use at most %(most)d characters.") % {"most": REASON_LENGTH}
        raise Refused("reason_too_long", message, "reason")
    return reason


def database_time() -> datetime:
    """The clock of what may be destroyed, which the application cannot move."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT audit_now()")
        found: datetime = cursor.fetchone()[0]
    return found


def _in_force(keeping: Keeping, now: datetime) -> InForce:
    with connection.cursor() as cursor:
        cursor.execute("SELECT audit_retention_days(%s)", [keeping])
        days: int = cursor.fetchone()[0]
    newest = Policy.objects.filter(keeping=keeping).order_by("-number").first()
    is_pending = newest is not None and newest.effective is not None and newest.effective > now
    return InForce(keeping, days, newest if is_pending else None)


def _moment(when: datetime | None) -> str:
    return when.isoformat(timespec="seconds") if when else ""
