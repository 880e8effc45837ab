"""The administration of a tenant's sign-in: its identity providers, and whether a second factor is required.

Every function runs in the tenant's scope, checks its own permission (NotVisible) and raises Refused for what makes no
sense. A provider's secret goes in and never comes out.
"""

from typing import Any
from uuid import UUID

from allauth.socialaccount.models import SocialAccount
from django.utils.translation import gettext as _

from console.sign_in import outgoing, sessions
from console.sign_in.models import KEY_DAY, KEY_PURPOSE, IdentityProvider
from console.sign_in.openid import Discovery, DiscoveryFailed, discover
from tenants import words
from tenants.actors import Actor, NotVisible, permissions_of, require
from tenants.changes import change, difference, record_change
from tenants.envelope import seal
from tenants.errors import Refused
from tenants.models import CustomRole, TenantSettings
from tenants.roles import ADMINISTRATION_VIEW, PEOPLE_APPOINT, PERMISSIONS, SIGN_IN_MANAGE, duties_of

MOST_PROVIDERS = 20
MOST_DOMAINS = 50


def providers(actor: Actor) -> list[IdentityProvider]:
    """The tenant's identity providers, by name."""
    _require_any(actor)
    return list(IdentityProvider.objects.order_by("name"))


def provider(actor: Actor, provider_id: UUID) -> IdentityProvider:
    _require_any(actor)
    found = IdentityProvider.objects.filter(pk=provider_id).first()
    if found is None:
        raise NotVisible(str(provider_id))
    return found


def default_roles() -> dict[str, frozenset[str]]:
    """The roles that a provider may give to new people: those without duties, custom ones included."""
    names = [*PERMISSIONS, *CustomRole.objects.order_by("slug").values_list("slug", flat=True)]
    return {role: held for role, held in permissions_of(names).items() if not duties_of(held)}


@change
def create_provider(
    *,
    actor: Actor,
    slug: str,
    name: str,
    issuer: str,
    client_id: str,
    client_secret: str = "",
    domains: list[str],
    default_role: str = "member",
    just_in_time: bool = False,
    vouches_for_duties: bool = False,
    enabled: bool = True,
) -> IdentityProvider:
    """A new identity provider. An empty secret is that of a public client (PKCE alone)."""
    require(actor, SIGN_IN_MANAGE)
    if IdentityProvider.objects.count() >= MOST_PROVIDERS:
        message = _("A workspace can have at most %(most)d identity providers.")
        raise Refused("too_many_providers", message % {"most": MOST_PROVIDERS})
    row = IdentityProvider(tenant_id=actor.tenant_id, slug=words.clean_slug(slug))
    if IdentityProvider.objects.filter(slug=row.slug).exists():
        raise Refused("slug_taken", _("There is a provider of this short name. Choose another."), "slug")
    values = {
        "name": name,
        "issuer": issuer,
        "client_id": client_id,
        "domains": domains,
        "default_role": default_role,
        "just_in_time": just_in_time,
        "vouches_for_duties": vouches_for_duties,
        "enabled": enabled,
    }
    _apply(row, values)
    _refuse_trust(actor, row.vouches_for_duties)
    _set_secret(row, client_secret)
    row.save(force_insert=True)
    record_change(actor, "identity_provider.created", subject_id=row.pk, after=_shown(row))
    return row


@change
def update_provider(*, actor: Actor, provider_id: UUID, **changes: Any) -> IdentityProvider:
    """Change some of: name, issuer, client_id, client_secret, domains, default_role, just_in_time, vouches_for_duties,
    enabled.

    With another issuer the accounts tied to the old one are untied: its names for people mean others there. Sessions
    that the provider vouched for end when it is disabled or its issuer changes.
    """
    require(actor, SIGN_IN_MANAGE)
    row = _locked(provider_id)
    before = _shown(row)
    secret_before = row.sealed_secret
    secret = changes.pop("client_secret", None)
    _apply(row, changes)
    _refuse_trust(actor, before["vouches_for_duties"] or row.vouches_for_duties)
    if secret is not None:
        _set_secret(row, secret)
    row.save()
    old, new = difference(before, _shown(row))
    if row.sealed_secret is not secret_before:
        new["secret"] = "changed"
    if "issuer" in new:
        SocialAccount.objects.filter(provider=row.reference).delete()
    if "issuer" in new or new.get("enabled") is False:
        sessions.end_those_of_provider(row.reference)
    if new:
        record_change(actor, "identity_provider.changed", subject_id=row.pk, before=old, after=new)
    return row


@change
def delete_provider(*, actor: Actor, provider_id: UUID) -> None:
    """Remove it, untie the accounts tied to it and end the sessions it vouched for. The people stay members."""
    require(actor, SIGN_IN_MANAGE)
    row = _locked(provider_id)
    sessions.end_those_of_provider(row.reference)
    SocialAccount.objects.filter(provider=row.reference).delete()
    before, key = _shown(row), row.pk
    row.delete()
    record_change(actor, "identity_provider.deleted", subject_id=key, before=before)


def test_connection(*, actor: Actor, provider_id: UUID) -> Discovery:
    """Ask the issuer how it is reached. Raises Refused with what is wrong."""
    require(actor, SIGN_IN_MANAGE)
    return _discovered(provider(actor, provider_id).issuer)


def is_second_factor_required(actor: Actor) -> bool:
    _require_any(actor)
    return TenantSettings.objects.filter(mfa_required=True).exists()


@change
def require_second_factor(*, actor: Actor, required: bool) -> None:
    """Whether everybody needs a second factor. From now on: sockets of those without one close within a second."""
    require(actor, SIGN_IN_MANAGE)
    row = TenantSettings.objects.select_for_update().get(tenant_id=actor.tenant_id)
    before, row.mfa_required = row.mfa_required, required
    if before != required:
        row.save(update_fields=["mfa_required"])
        record_change(
            actor,
            "tenant.settings_changed",
            subject_id=actor.tenant_id,
            before={"mfa_required": before},
            after={"mfa_required": required},
        )


def _require_any(actor: Actor) -> None:
    if not (actor.can(ADMINISTRATION_VIEW) or actor.can(SIGN_IN_MANAGE)):
        raise NotVisible(SIGN_IN_MANAGE)


def _refuse_trust(actor: Actor, for_duties: bool) -> None:
    """Raises Refused: with such a provider one could sign in as any administrator or reviewer, so who appoints them sees
    to it."""
    if for_duties and not actor.can(PEOPLE_APPOINT):
        message = _("Only an owner changes a sign-in that vouches for administrators and reviewers.")
        raise Refused("provider_not_yours", message, "vouches_for_duties")


def _locked(provider_id: UUID) -> IdentityProvider:
    row = IdentityProvider.objects.select_for_update().filter(pk=provider_id).first()
    if row is None:
        raise NotVisible(str(provider_id))
    return row


def _discovered(issuer: str) -> Discovery:
    try:
        return discover(issuer)
    except DiscoveryFailed as error:
        raise Refused("discovery_failed", str(error), "issuer") from error


def _apply(row: IdentityProvider, values: dict[str, Any]) -> None:
    for field, value in values.items():
        if field not in _CLEANERS:
            raise Refused("setting_unknown", _("There is no such setting: %(name)s") % {"name": field}, field)
        setattr(row, field, _CLEANERS[field](value))


def _set_secret(row: IdentityProvider, secret: str) -> None:
    if len(secret) > 1000:
        raise Refused(
            "secret_too_long", _("Use at most %(most)d characters.") % {"most": 1000}, "client_secret"
        )
    row.sealed_secret = (
        seal(
            tenant_id=row.tenant_id,
            purpose=KEY_PURPOSE,
            day=KEY_DAY,
            plaintext=secret.encode(),
            aad={"identity_provider": row.pk},
        )
        if secret
        else None
    )


def _issuer(value: str) -> str:
    try:
        outgoing.check_address(value)
    except outgoing.Unsafe:
        message = _("Enter the issuer's address exactly as it names itself; it begins with https://.")
        raise Refused("issuer_invalid", message, "issuer") from None
    if len(value) > 500 or not value.isascii() or any(sign in value for sign in "?# \t\r\n"):
        message = _("Enter the issuer's address alone, without query or spaces.")
        raise Refused("issuer_invalid", message, "issuer")
    return value


def _client_id(value: str) -> str:
    value = words.clean_text(value, field="client_id", most=255)
    if not value:
        raise Refused("client_id_missing", _("Enter the client ID that the issuer gave you."), "client_id")
    return value


def _domains(values: list[str]) -> list[str]:
    """At least one: an issuer that may speak of any address could name anybody."""
    names = {value.strip().lower().removeprefix("@") for value in values} - {""}
    cleaned = sorted(words.clean_email(f"x@{name}", field="domains")[2:] for name in names)
    if not cleaned:
        raise Refused(
            "domains_missing", _("Name at least one e-mail domain, such as company.example."), "domains"
        )
    if len(cleaned) > MOST_DOMAINS:
        raise Refused(
            "too_many_domains", _("Name at most %(most)d domains.") % {"most": MOST_DOMAINS}, "domains"
        )
    return cleaned


def _default_role(value: str) -> str:
    if value not in default_roles():
        message = _("New people can only get a role without duties of administration or review.")
        raise Refused("role_has_duties", message, "default_role")
    return value


_CLEANERS: dict[str, Any] = {
    "name": words.clean_name,
    "issuer": _issuer,
    "client_id": _client_id,
    "domains": _domains,
    "default_role": _default_role,
    "just_in_time": bool,
    "vouches_for_duties": bool,
    "enabled": bool,
}


def _shown(row: IdentityProvider) -> dict[str, Any]:
    """What of a provider is recorded: all but the secret."""
    return {"slug": row.slug, **{field: getattr(row, field) for field in _CLEANERS}}
