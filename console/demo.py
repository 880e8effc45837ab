"""The demonstration data of a first start: two tenants, a person for each role in each, and something to ask about."""

import datetime
import secrets
from pathlib import Path
from typing import Any
from uuid import UUID

from django.db import transaction

from audit.models import AuditRecord
from console import environment
from inference.registry.services import ensure_default_registry, ensure_default_route
from knowledge import bases, documents, uploads
from knowledge.models import Base
from tenants import clock, grants, lifecycle
from tenants.access import Actor, Level, actor_for_user
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
DOCUMENTS = Path(__file__).parent / "demo_data"


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
                _knowledge(tenant)
    return password if any(made) and not chosen else None


def accounts() -> list[str]:
    """The e-mail addresses of the demonstration people."""
    return [PLATFORM_EMAIL, *(_email(slug, role) for slug in TENANTS for role in Role)]


def _knowledge(tenant: Tenant) -> None:
    """A base in each language that everyone may ask, once: what somebody changed or deleted since stays so."""
    if AuditRecord.objects.filter(kind="knowledge.base_created").exists():
        return
    curator = actor_for_user(
        user=User.objects.get(email=_email(tenant.slug, Role.CURATOR)), tenant_slug=tenant.slug
    )
    model = next(iter(bases.embedding_models(curator)), "")
    english = _base(curator, "AML guidance", "Alerts of the U.S. Treasury on money laundering.", model)
    alert = _file(curator, english, "fincen-alert-2023.txt")
    _call(curator, alert, "FinCEN alert on virtual currency investment scams (2023)")
    # Of Chinese the packaged embedding model knows nothing.
    chinese = _base(curator, "反洗钱法规", "《中华人民共和国反洗钱法》2006年版与2024年修订版。", "")
    law = _file(curator, chinese, "反洗钱法-2006.md", valid_from=datetime.date(2007, 1, 1))
    _file(curator, chinese, "反洗钱法-2024.md", valid_from=datetime.date(2025, 1, 1), document_id=law)
    _call(curator, law, "中华人民共和国反洗钱法")


def _base(actor: Actor, name: str, description: str, model: str) -> Base:
    made = bases.make_base(actor=actor, name=name, description=description, embedding_model=model)
    grants.open_to_everyone(made, Level.VIEWER)
    return made


def _file(actor: Actor, base: Base, name: str, **more: Any) -> UUID:
    """The document that it became, or of which it became a further version."""
    content = (DOCUMENTS / name).read_bytes()
    return uploads.upload(actor=actor, base_id=base.pk, name=name, content=content, **more).document_id


def _call(actor: Actor, document_id: UUID, name: str) -> None:
    documents.change_document(actor=actor, document_id=document_id, name=name)


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
