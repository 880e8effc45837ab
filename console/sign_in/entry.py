"""What a session must show before it opens a tenant: a second factor where one is required, and a sign-in of its own.

A session knows by which means its person signed in. A tenant's identity provider vouches for that tenant alone:
whoever runs it could otherwise enter the other tenants of everybody it names. For those who administer or review it
vouches only when who appoints them trusts it with that.
"""

from collections.abc import Iterable, MutableMapping
from enum import StrEnum
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

from allauth.account.authentication import get_authentication_records
from allauth.mfa.models import Authenticator
from django.contrib.sessions.backends.base import SessionBase
from django.http import HttpRequest
from django.urls import reverse

from console.sign_in.models import IdentityProvider
from tenants.actors import permissions_of
from tenants.models import Membership, TenantSettings, User
from tenants.roles import duties_of
from tenants.scope import tenant_scope

Session = SessionBase | MutableMapping[str, Any]

# The tenant whose identity provider the session was signed in with; missing after any other sign-in.
PROVIDER_TENANT = "sign_in.provider_tenant"

FACTORS = (Authenticator.Type.TOTP, Authenticator.Type.WEBAUTHN)


class Step(StrEnum):
    """What the person has to do before the tenant opens."""

    SET_UP = "set up a second factor"
    CONFIRM = "use the second factor"
    SIGN_IN = "sign in by their own means"


def step_before(*, session: Session, user: User, tenant_id: UUID) -> Step | None:
    """The step that is missing before this session may enter the tenant; None when it may."""
    if not is_own(session, user) and not _is_vouched_for(session, user, tenant_id):
        return Step.SIGN_IN
    if not requires_second_factor(tenant_id):
        return None
    if not has_second_factor(user):
        return Step.SET_UP
    return None if used_second_factor(session, user) else Step.CONFIRM


def way_to(*, session: Session, user: User, tenant_id: UUID) -> str | None:
    """The address of the page where the missing step is taken; None when none is missing."""
    step = step_before(session=session, user=user, tenant_id=tenant_id)
    if step is None:
        return None
    if step == Step.SET_UP:
        return reverse("second_factor_required")
    if step == Step.SIGN_IN:
        return reverse("account_reauthenticate" if user.has_usable_password() else "sso")
    has_code = Authenticator.objects.filter(user=user, type=Authenticator.Type.TOTP).exists()
    return reverse("mfa_reauthenticate" if has_code else "mfa_reauthenticate_webauthn")


def speaks_for(provider: IdentityProvider, user: User) -> bool:
    """Whether the provider's word suffices for a member of this role. Inside the tenant's scope."""
    role = Membership.objects.filter(user=user).values_list("role", flat=True).first() or ""
    return provider.vouches_for_duties or not duties_of(permissions_of([role])[role])


def provider_used(session: Session, user: User) -> str:
    """The reference of the identity provider that the session was signed in with; "" for none."""
    if PROVIDER_TENANT not in session:
        return ""
    used = [record["provider"] for record in records(session, user) if "provider" in record]
    return used[-1] if used else ""


def _is_vouched_for(session: Session, user: User, tenant_id: UUID) -> bool:
    """Whether it was the tenant's own provider, whose word suffices for who the person is there by now."""
    tenant, _colon, provider_id = provider_used(session, user).partition(":")
    if tenant != str(tenant_id):
        return False
    with tenant_scope(tenant_id):
        provider = IdentityProvider.objects.filter(pk=UUID(provider_id)).first()
        return provider is not None and speaks_for(provider, user)


def requires_second_factor(tenant_id: UUID) -> bool:
    with tenant_scope(tenant_id):
        return TenantSettings.objects.filter(mfa_required=True).exists()


def has_second_factor(user: User) -> bool:
    """Whether an authenticator app or a passkey is set up; recovery codes alone are none."""
    return bool(people_with_second_factor([user.pk]))


def people_with_second_factor(user_ids: Iterable[UUID]) -> set[UUID]:
    found = Authenticator.objects.filter(user_id__in=user_ids, type__in=FACTORS)
    return set(found.values_list("user_id", flat=True))


def used_second_factor(session: Session, user: User) -> bool:
    """Whether the session's person has shown a second factor in it."""
    return any(record.get("method") == "mfa" for record in records(session, user))


def is_own(session: Session, user: User) -> bool:
    """Whether the session rests on the person's own means, rather than on a tenant's identity provider."""
    if PROVIDER_TENANT not in session:
        return True
    return any(
        record.get("method") == "password" or record.get("type") == Authenticator.Type.WEBAUTHN
        for record in records(session, user)
    )


def records(session: Session, user: User) -> list[dict[str, Any]]:
    """How the person showed who they are in this session, oldest first: {"method", "at", …}."""
    return get_authentication_records(cast(HttpRequest, SimpleNamespace(session=session)), user)
