"""The demonstration data of a first start: two tenants, and a person for each role in each."""

import secrets

from django.db import transaction

from console import environment
from inference.registry.services import ensure_default_registry, ensure_default_route
from tenants import clock, lifecycle
from tenants.models import Membership, Tenant, User
from tenants.roles import Role
from tenants.scope import tenant_scope

TENANTS = {"acme-bank": "Acme Bank", "north-fund": "North Fund"}
LOCAL_PARTS = {
    Role.OWNER: "owner",
    Role.ADMINISTRATOR: "admin",
    Role.OPERATOR: "operator",
    Role.CURATOR: "curator",
    Role.MEMBER: "member",
    Role.REVIEWER: "reviewer",
    Role.OFFICER: "officer",
    Role.AUDITOR: "auditor",
}
PLATFORM_EMAIL = "platform@custos.example"


def seed() -> str | None:
    """Make what is missing of the demonstration data; what exists stays as its owners left it.

    The password of new people is CUSTOS_DEMO_PASSWORD, else a random one. When that variable is set it also becomes
    the password of the demonstration people who exist. Returns the random password when one was given to somebody, to
    be shown this once; else None.
    """
    chosen = environment.demo_password()
    password = chosen or secrets.token_urlsafe(12)
    with transaction.atomic():
        made = [_user(PLATFORM_EMAIL, password, chosen is not None, is_platform_administrator=True)]
        ensure_default_registry()
        for slug, name in TENANTS.items():
            tenant, _ = Tenant.objects.get_or_create(slug=slug, defaults={"name": name})
            lifecycle.furnish(tenant)
            made += [_person(tenant, role, password, chosen is not None) for role in Role]
            with tenant_scope(tenant.pk):
                ensure_default_route()
    return password if any(made) and not chosen else None


def accounts() -> list[str]:
    """The e-mail addresses of the demonstration people."""
    return [PLATFORM_EMAIL, *(_email(slug, role) for slug in TENANTS for role in Role)]


def _email(slug: str, role: Role) -> str:
    return f"{LOCAL_PARTS[role]}@{slug}.example"


def _person(tenant: Tenant, role: Role, password: str, is_chosen: bool) -> bool:
    email = _email(tenant.slug, role)
    made = _user(email, password, is_chosen)
    if made:
        with tenant_scope(tenant.pk):
            Membership.objects.get_or_create(
                tenant=tenant, user=User.objects.get(email=email), defaults={"role": role}
            )
    return made


def _user(email: str, password: str, is_chosen: bool, *, is_platform_administrator: bool = False) -> bool:
    user = User.objects.filter(email=email).first()
    if user is None:
        User.objects.create_user(
            email,
            password,
            is_platform_administrator=is_platform_administrator,
            email_verified=clock.now(),
        )
        return True
    if is_chosen and not user.check_password(password):
        user.set_password(password)
        user.save(update_fields=["password"])
    return False
