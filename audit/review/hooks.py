"""What happens when an item is escalated: the cases lie above this package, so they register what opens one."""

from collections.abc import Callable
from uuid import UUID

from django.utils.translation import gettext as _

from audit.review.models import ReviewItem
from tenants.access import Actor
from tenants.errors import Refused

# (actor=…, item=…, reason=…) -> the id of the case. Called in the transaction of the escalation, in the tenant's scope;
# actor: who decided it. What it raises undoes the escalation.
Escalation = Callable[..., UUID]

_escalation: Escalation | None = None


def register_escalation(opens_case: Escalation) -> None:
    """What opens a case, or joins one, for an escalated item."""
    global _escalation
    _escalation = opens_case


def can_escalate() -> bool:
    return _escalation is not None


def escalate(*, actor: Actor, item: ReviewItem, reason: str) -> UUID:
    """The case to which the item now belongs. Raises Refused where there are no cases."""
    if _escalation is None:
        raise Refused("no_cases", _("Cases are not available here. Confirm the flag instead."), "outcome")
    return _escalation(actor=actor, item=item, reason=reason)
