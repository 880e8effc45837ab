"""Setting and removing limits. Inside the tenant's scope; raises NotVisible and Refused; each change is recorded.

A tenant's administrators set its limits; a platform administrator (tenants.actors.platform_actor) sets ceilings on the
tenant as a whole, which its administrators see and cannot change. Of a ceiling and a limit the smaller one binds.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import Any
from uuid import UUID

from django.db import transaction
from django.utils.translation import gettext as _

from tenants import clock, valkey
from tenants.actors import Actor, NotVisible, require
from tenants.changes import change, record_change
from tenants.errors import Refused
from tenants.models import ApiKey, Group, Membership
from tenants.quotas import counters, rules
from tenants.quotas.models import MOST, Limit, Metric, SubjectKind
from tenants.quotas.storage import charge_storage, release_storage
from tenants.roles import QUOTAS_MANAGE

__all__ = ["charge_storage", "release_storage", "remove_limit", "set_limit"]


logger = logging.getLogger(__name__)


@change
def set_limit(*, actor: Actor, subject_kind: str, subject_id: UUID | None, metric: str, value: int) -> Limit:
    """Make or change the limit of a subject and metric, binding at once.

    subject_id: a group's id, a member's user id, a key's id; None for the tenant, every member, or every key.
    value: 0 allows nothing.
    """
    _require(actor)
    _refuse_unless_possible(actor, subject_kind, subject_id, metric, value)
    limit = _found(actor, subject_kind, subject_id, metric) or Limit(
        subject_kind=subject_kind, subject_id=subject_id, metric=metric, is_ceiling=actor.is_platform
    )
    if limit.value == value:
        return limit
    before = {} if limit.value is None else {"value": limit.value}
    limit.value, limit.changed = value, clock.now()
    limit.save()
    transaction.on_commit(partial(_tell, actor.tenant_id))
    record_change(
        actor,
        "quota.limit_set",
        subject_id=limit.pk,
        before=before,
        after={"value": value},
        detail=_described(limit),
    )
    return limit


@change
def remove_limit(*, actor: Actor, subject_kind: str, subject_id: UUID | None, metric: str) -> None:
    """Take a limit away. Raises NotVisible where there is none."""
    _require(actor)
    limit = _found(actor, subject_kind, subject_id, metric)
    if limit is None:
        raise NotVisible("limit")
    limit_id, before = limit.pk, {"value": limit.value}
    limit.delete()
    transaction.on_commit(partial(_tell, actor.tenant_id))
    record_change(actor, "quota.limit_removed", subject_id=limit_id, before=before, detail=_described(limit))


def _tell(tenant_id: UUID) -> None:
    """Once it is committed. Without Valkey nobody goes by any limit, and when it comes back all look them up anew."""
    try:
        counters.limits_changed(tenant_id)
    except valkey.VALKEY_ERRORS:
        logger.warning("a changed limit is noticed within %g s: Valkey does not answer", rules.CACHED_S)


def _require(actor: Actor) -> None:
    if not actor.is_platform:
        require(actor, QUOTAS_MANAGE)


def _found(actor: Actor, subject_kind: str, subject_id: UUID | None, metric: str) -> Limit | None:
    """Of those that the actor may change: ceilings are the platform's, limits the tenant's."""
    return (
        Limit.objects.select_for_update(of=("self",))
        .filter(subject_kind=subject_kind, subject_id=subject_id, metric=metric, is_ceiling=actor.is_platform)
        .first()
    )


def _refuse_unless_possible(
    actor: Actor, subject_kind: str, subject_id: UUID | None, metric: str, value: int
) -> None:
    if metric not in Metric.values:
        message = _("There is no such metric. Choose one of: %(names)s.")
        raise Refused("metric_unknown", message % {"names": ", ".join(Metric.values)}, "metric")
    if subject_kind not in SubjectKind.values:
        message = _("Limits are for these: %(names)s. Choose one of them.")
        raise Refused("subject_unknown", message % {"names": ", ".join(SubjectKind.values)}, "subject_kind")
    if actor.is_platform and subject_kind != SubjectKind.TENANT:
        message = _("The platform limits a tenant as a whole; the rest is for the tenant's administrators.")
        raise Refused("ceiling_of_tenant_only", message, "subject_kind")
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MOST:
        message = _("Enter a whole number from 0 to %(most)s.")
        raise Refused("value_invalid", message % {"most": MOST}, "value")
    if metric == Metric.STORAGE_BYTES and subject_kind == SubjectKind.KEY:
        message = _("What a key stores belongs to its owner. Limit the member, a group or the workspace.")
        raise Refused("storage_not_by_key", message, "metric")
    if not _is_subject(subject_kind, subject_id):
        message = _("There is nobody and nothing of this kind with this id. Choose from the list.")
        raise Refused("subject_unknown", message, "subject_id")


def _is_subject(subject_kind: str, subject_id: UUID | None) -> bool:
    match subject_kind:
        case SubjectKind.TENANT:
            return subject_id is None
        case SubjectKind.GROUP:
            return subject_id is not None and Group.objects.filter(pk=subject_id).exists()
        case SubjectKind.MEMBER:
            return subject_id is None or Membership.objects.filter(user_id=subject_id).exists()
        case _:
            return subject_id is None or ApiKey.objects.filter(pk=subject_id).exists()


def _described(limit: Limit) -> dict[str, Any]:
    return {
        "metric": limit.metric,
        "subject_kind": limit.subject_kind,
        "subject": str(limit.subject_id) if limit.subject_id else None,
        "ceiling": limit.is_ceiling,
    }
