"""Who changes the registry, and where that is recorded.

Models are the platform's and serve every tenant, so a change of them is recorded in the audit of each tenant that there
is, in the transaction that makes it: all of them have it, or it was not made.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any, ParamSpec, TypeVar, cast
from uuid import UUID

from django.db import transaction

from tenants.actors import Actor, NotVisible, platform_actor, system_actor
from tenants.changes import record_change
from tenants.models import Tenant, User
from tenants.scope import tenant_scope

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, kw_only=True)
class Operator:
    """A platform administrator, or without a user_id Custos itself under the label."""

    label: str
    user_id: UUID | None = None
    address: str = ""
    session_ref: str = ""

    def towards(self, tenant: Tenant) -> Actor:
        """Raises NotVisible for who is no platform administrator any more."""
        if self.user_id is None:
            return system_actor(tenant, self.label)
        return platform_actor(
            user=_administrator(self.user_id),
            tenant=tenant,
            address=self.address,
            session_ref=self.session_ref,
        )


def operator(user: User, *, address: str = "", session_ref: str = "") -> Operator:
    return Operator(label=user.email, user_id=user.pk, address=address, session_ref=session_ref)


def change(service: Callable[P, R]) -> Callable[P, R]:
    """A service that changes the registry in the name of its keyword argument `by`, whole or not at all.

    Raises NotVisible unless they are a platform administrator at this moment.
    """

    @wraps(service)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        by = cast(Operator, kwargs["by"])
        with transaction.atomic():
            if by.user_id is not None:
                _administrator(by.user_id)
            return service(*args, **kwargs)

    return run


def record(
    by: Operator,
    kind: str,
    *,
    subject_id: UUID,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
) -> None:
    """Record a change in every tenant. Call inside the transaction of the change."""
    for tenant in Tenant.objects.exclude(status=Tenant.Status.DELETED).order_by("pk"):
        with tenant_scope(tenant.pk):
            record_change(by.towards(tenant), kind, subject_id=subject_id, before=before, after=after)


def _administrator(user_id: UUID) -> User:
    user = User.objects.filter(pk=user_id, is_active=True, is_platform_administrator=True).first()
    if user is None:
        raise NotVisible("platform")
    return user
