"""Bytes in use. Whoever stores files charges them in the transaction that stores them, and releases them in the one
that removes them; conversations do not count. Inside the tenant's scope.
"""

from __future__ import annotations

from uuid import UUID

from django.db.models import F, Sum
from django.utils.translation import gettext as _

from tenants.actors import Actor
from tenants.errors import Refused
from tenants.groups import members_of
from tenants.models import Group, Tenant
from tenants.quotas import wording
from tenants.quotas.models import Metric, StorageUse, SubjectKind
from tenants.quotas.rules import Rule, rules_for


def charge_storage(*, actor: Actor, size: int) -> None:
    """Count `size` bytes as stored by the actor. Raises Refused, with nothing counted, when a limit has no room."""
    # One at a time in a tenant, so that no two both take the last bytes; what refers to the tenant does not wait.
    Tenant.objects.select_for_update(no_key=True).get(pk=actor.tenant_id)
    for rule in rules_for(actor):
        if rule.metric == Metric.STORAGE_BYTES and stored(rule) + size > rule.value:
            message = _(
                "There is no room for this: the limit is %(limit)s for %(subject)s. Remove something first."
            )
            known = {"limit": wording.amount(rule.metric, rule.value), "subject": wording.subject(rule)}
            raise Refused("storage_full", message % known)
    use, _created = StorageUse.objects.get_or_create(user_id=actor.user_id)
    StorageUse.objects.filter(pk=use.pk).update(stored=F("stored") + size)


def release_storage(*, user_id: UUID | None, size: int) -> None:
    """Count `size` bytes less, of whoever stored them; never less than none."""
    use = StorageUse.objects.select_for_update(of=("self",)).filter(user_id=user_id).first()
    if use is not None:
        use.stored = max(use.stored - size, 0)
        use.save(update_fields=["stored"])


def stored(rule: Rule) -> int:
    """Bytes that a limit's subject has stored."""
    uses = StorageUse.objects.all()
    if rule.kind == SubjectKind.MEMBER:
        uses = uses.filter(user_id=rule.subject)
    elif rule.kind == SubjectKind.GROUP:
        group = Group.objects.filter(pk=rule.subject).first()
        if group is None or not group.is_everyone:
            uses = uses.filter(user_id__in=members_of(group).values("user_id") if group else [])
    return uses.aggregate(stored=Sum("stored"))["stored"] or 0
