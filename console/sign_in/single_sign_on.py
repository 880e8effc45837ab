"""Who may come in through a tenant's identity provider, and as whom.

An issuer is trusted for its own tenant only, and about e-mail addresses it has verified in domains that the tenant
allows. An account that exists is tied to it only when it belongs to a member of this very tenant, and nobody else can
have chosen its password: an account whose address is unproven may be held by whoever invited it, who would then act as
the person that the issuer means. Nobody who administers or reviews comes in this way unless whoever appoints people
trusts the provider with them, and a platform administrator never does.
"""

import logging
from typing import Any, NoReturn
from uuid import UUID

from allauth.core.exceptions import ImmediateHttpResponse
from allauth.socialaccount.adapter import DefaultSocialAccountAdapter
from allauth.socialaccount.models import SocialAccount, SocialApp, SocialLogin
from allauth.socialaccount.providers.base.constants import AuthError
from django.http import HttpRequest
from django.shortcuts import render
from django.utils.translation import gettext as _

from console.sign_in import trail
from console.sign_in.changes import person_as_actor
from console.sign_in.entry import speaks_for
from console.sign_in.models import KEY_DAY, KEY_PURPOSE, IdentityProvider
from console.sign_in.openid import TenantOpenIDProvider
from console.sign_in.outgoing import IssuerSession
from tenants import words
from tenants.actors import permissions_of
from tenants.changes import record_change
from tenants.envelope import open_sealed
from tenants.errors import Refused
from tenants.models import Membership, Tenant, User
from tenants.roles import duties_of
from tenants.scope import tenant_scope

logger = logging.getLogger(__name__)


class NotLetIn(Exception):
    """The issuer's word does not suffice; the message, translated, says what to do."""


def enabled_providers(tenant_slug: str) -> list[IdentityProvider]:
    """The providers to offer at a tenant's sign-in; none when there is no such active tenant."""
    tenant = Tenant.objects.filter(slug=tenant_slug, status=Tenant.Status.ACTIVE).first()
    if tenant is None:
        return []
    with tenant_scope(tenant.pk):
        return list(IdentityProvider.objects.filter(enabled=True).select_related("tenant").order_by("name"))


def provider_at(request: HttpRequest, tenant_slug: str, slug: str) -> TenantOpenIDProvider | None:
    """The enabled provider of an address."""
    found = [row for row in enabled_providers(tenant_slug) if row.slug == slug]
    return _as_allauth_knows_it(request, found[0]) if found else None


def open_secret(row: IdentityProvider) -> str:
    """The client's secret, inside the tenant's scope; "" for a public client."""
    if row.sealed_secret is None:
        return ""
    opened = open_sealed(
        tenant_id=row.tenant_id,
        purpose=KEY_PURPOSE,
        day=KEY_DAY,
        sealed=bytes(row.sealed_secret),
        aad={"identity_provider": row.pk},
    )
    return opened.decode()


def _as_allauth_knows_it(request: HttpRequest, row: IdentityProvider) -> TenantOpenIDProvider:
    with tenant_scope(row.tenant_id):
        secret = open_secret(row)
    app = SocialApp(
        provider=TenantOpenIDProvider.id,
        provider_id=row.reference,
        name=row.name,
        client_id=row.client_id,
        secret=secret,
        settings={"server_url": row.issuer, "place": [row.tenant.slug, row.slug]},
    )
    return TenantOpenIDProvider(request, app)


class SocialAdapter(DefaultSocialAccountAdapter):
    """django-allauth's questions about outside accounts, answered from the tenants' identity providers."""

    def get_provider(self, request: HttpRequest, provider: str, client_id: str | None = None) -> Any:
        """The provider of a reference, `<tenant id>:<provider id>`. Raises SocialApp.DoesNotExist."""
        tenant_id, _colon, provider_id = provider.partition(":")
        try:
            with tenant_scope(UUID(tenant_id)):
                wanted = IdentityProvider.objects.select_related("tenant")
                row = wanted.get(pk=UUID(provider_id), enabled=True, tenant__status=Tenant.Status.ACTIVE)
        except (ValueError, IdentityProvider.DoesNotExist) as error:
            raise SocialApp.DoesNotExist from error
        return _as_allauth_knows_it(request, row)

    def list_apps(self, request: HttpRequest, provider: Any = None, client_id: Any = None) -> list[SocialApp]:
        return []

    def get_requests_session(self) -> IssuerSession:
        return IssuerSession()

    def populate_user(self, request: HttpRequest, sociallogin: SocialLogin, data: dict[str, Any]) -> Any:
        sociallogin.user.email = str(data.get("email") or "").strip().lower()
        sociallogin.user.name = str(data.get("name") or "")[:120]
        return sociallogin.user

    def serialize_instance(self, instance: Any) -> dict[str, Any]:
        # While a second factor is asked for, the session needs to know who, not all about them.
        return (
            {"id": str(instance.pk)} if isinstance(instance, User) else super().serialize_instance(instance)
        )

    def pre_social_login(self, request: HttpRequest, sociallogin: SocialLogin) -> None:
        sociallogin.token = None
        try:
            _let_in(sociallogin)
        except NotLetIn as error:
            tenant_id = UUID(sociallogin.account.provider.partition(":")[0])
            trail.company_refused(tenant_id=tenant_id, email=sociallogin.user.email)
            _refuse(request, str(error))

    def on_authentication_error(
        self,
        request: HttpRequest,
        provider: Any,
        error: Any = None,
        exception: Exception | None = None,
        extra_context: Any = None,
    ) -> None:
        if error == AuthError.CANCELLED:
            _refuse(request, _("You ended the sign-in at your company's page. Nothing has changed."))
        logger.warning("sign-in with provider %s failed: %s", provider.sub_id, exception or error)
        message = _(
            "The sign-in with your company did not work. Try again; if it fails again, tell your administrator."
        )
        _refuse(request, message, status=502)


def _refuse(request: HttpRequest, message: str, status: int = 403) -> NoReturn:
    raise ImmediateHttpResponse(
        render(request, "socialaccount/refused.html", {"message": message}, status=status)
    )


def _let_in(login: SocialLogin) -> None:
    """Make `login` that of an account that may enter. Raises NotLetIn."""
    tenant_id, _colon, provider_id = login.account.provider.partition(":")
    with tenant_scope(UUID(tenant_id)):
        row = IdentityProvider.objects.select_related("tenant").get(pk=UUID(provider_id))
        email = _vouched_for(row, login.account.extra_data)
        known = User.objects.filter(pk=login.user.pk).first() if login.is_existing else None
        user = known or User.objects.filter(email=email).first()
        if user is None:
            user = _provision(row, email, login.user.name)
        _require_member(user)
        _require_spoken_for(user, row)
        if known is None:
            _require_proof(user)
            _tie(login, user, row)
        login.user = user


def _vouched_for(row: IdentityProvider, said: dict[str, Any]) -> str:
    """The address that the issuer verified, in a domain that the tenant allows."""
    try:
        email = words.clean_email(str(said.get("email") or ""))
    except Refused:
        raise NotLetIn(_("Your company's sign-in gave no e-mail address. Tell your administrator.")) from None
    if said.get("email_verified") is not True:
        raise NotLetIn(
            _("Your company's sign-in has not verified your e-mail address. Tell your administrator.")
        )
    if email.rpartition("@")[2] not in row.domains:
        message = _("Addresses such as %(email)s may not sign in this way. Tell your administrator.")
        raise NotLetIn(message % {"email": email})
    return email


def _provision(row: IdentityProvider, email: str, name: str) -> User:
    if not row.just_in_time or duties_of(permissions_of([row.default_role])[row.default_role]):
        raise _stranger()
    user = User.objects.create_user(email, None, name=name)
    membership = Membership.objects.create(user=user, role=row.default_role)
    after = {"email": email, "role": row.default_role}
    record_change(
        person_as_actor(user, membership),
        "member.provisioned",
        subject_id=user.pk,
        after=after,
        detail={"identity_provider": row.name},
    )
    return user


def _require_member(user: User) -> None:
    """The same words whoever the account is: an issuer must not learn whom other tenants have."""
    is_member = Membership.objects.filter(user=user, disabled=None).exists()
    if not is_member or not user.is_active or user.is_platform_administrator:
        raise _stranger()


def _require_spoken_for(user: User, row: IdentityProvider) -> None:
    if not speaks_for(row, user):
        message = _(
            "People who administer or review sign in here by password or passkey. An owner can let your company's "
            "sign-in vouch for them too."
        )
        raise NotLetIn(message)


def _require_proof(user: User) -> None:
    if user.may_be_somebody_elses:
        message = _(
            "The address of your account is not confirmed yet. Set a new password under “Forgotten password”, which "
            "confirms it, then sign in with your company again."
        )
        raise NotLetIn(message)


def _stranger() -> NotLetIn:
    return NotLetIn(_("You are not a member of this workspace. Ask its administrator to invite you."))


def _tie(login: SocialLogin, user: User, row: IdentityProvider) -> None:
    account: SocialAccount = login.account
    account.user = user
    account.save()
    membership = Membership.objects.select_related("tenant").get(user=user)
    record_change(
        person_as_actor(user, membership),
        "account.provider_linked",
        subject_id=user.pk,
        after={"identity_provider": row.name},
    )
