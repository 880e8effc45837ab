"""OpenID Connect with a tenant's provider: discovery, the code flow with PKCE, state and nonce, the ID token.

Built on django-allauth's OpenID Connect provider, which keeps the state and exchanges the code. What it leaves open is
closed here: the nonce, the signature of every ID token, the issuer's own addresses.
"""

import secrets
from dataclasses import dataclass
from typing import Any

import jwt
import requests
from allauth.socialaccount.helpers import render_authentication_error
from allauth.socialaccount.models import SocialApp, SocialLogin, SocialToken
from allauth.socialaccount.providers.oauth2.client import OAuth2Error
from allauth.socialaccount.providers.oauth2.views import OAuth2CallbackView
from allauth.socialaccount.providers.openid_connect.provider import OpenIDConnectProvider
from allauth.socialaccount.providers.openid_connect.views import OpenIDConnectOAuth2Adapter
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.translation import gettext as _

from console.sign_in import outgoing

WELL_KNOWN = "/.well-known/openid-configuration"
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
LEEWAY_S = 60


class DiscoveryFailed(Exception):
    """The issuer does not describe itself as it must; the message, translated, says how."""


@dataclass(frozen=True, kw_only=True)
class Discovery:
    """An issuer's addresses, checked."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    userinfo_endpoint: str
    token_endpoint_auth_methods_supported: tuple[str, ...]


def discover(issuer: str) -> Discovery:
    """Ask the issuer how it is reached. Raises DiscoveryFailed."""
    try:
        with outgoing.IssuerSession() as session:
            response = session.get(issuer.rstrip("/") + WELL_KNOWN, headers={"Accept": "application/json"})
        found = response.json() if response.ok else None
    except requests.Timeout as error:
        raise DiscoveryFailed(_("The issuer does not answer in time.")) from error
    except outgoing.Unsafe as error:
        raise DiscoveryFailed(_("The issuer cannot be used: %(reason)s.") % {"reason": error}) from error
    except requests.RequestException as error:
        raise DiscoveryFailed(_("The issuer cannot be reached, or answers with no JSON.")) from error
    if not isinstance(found, dict):
        message = _("There is no OpenID Connect configuration at this address (status %(status)d).")
        raise DiscoveryFailed(message % {"status": response.status_code})
    if found.get("issuer") != issuer:
        message = _("The configuration names another issuer: %(issuer)s. Enter exactly that one.")
        raise DiscoveryFailed(message % {"issuer": str(found.get("issuer"))[:200]})
    return _checked(found)


def _checked(found: dict[str, Any]) -> Discovery:
    names = ("authorization_endpoint", "token_endpoint", "jwks_uri")
    for name in (*names, "userinfo_endpoint"):
        try:
            if name in names or name in found:
                outgoing.check_address(str(found.get(name, "")))
        except outgoing.Unsafe as error:
            message = _("The issuer's %(name)s cannot be used: %(reason)s.")
            raise DiscoveryFailed(message % {"name": name, "reason": error}) from error
    methods = found.get("token_endpoint_auth_methods_supported")
    return Discovery(
        issuer=found["issuer"],
        authorization_endpoint=found["authorization_endpoint"],
        token_endpoint=found["token_endpoint"],
        jwks_uri=found["jwks_uri"],
        userinfo_endpoint=str(found.get("userinfo_endpoint", "")),
        # What the specification assumes when nothing is said.
        token_endpoint_auth_methods_supported=tuple(methods)
        if isinstance(methods, list)
        else ("client_secret_basic",),
    )


class TenantOpenIDConnection(OpenIDConnectOAuth2Adapter):
    """The conversation with one issuer in one request. `nonce`: what its ID token must repeat."""

    def __init__(self, request: HttpRequest, provider: "TenantOpenIDProvider") -> None:
        super().__init__(request, provider.sub_id)
        self._provider = provider
        self.nonce = ""

    def get_provider(self) -> "TenantOpenIDProvider":
        return self._provider

    @property
    def openid_config(self) -> dict[str, Any]:
        if not hasattr(self, "_openid_config"):
            try:
                self._openid_config = vars(discover(self._provider.app.settings["server_url"]))
            except DiscoveryFailed as error:
                raise OAuth2Error(str(error)) from error
        return self._openid_config

    def get_callback_url(self, request: HttpRequest, app: SocialApp) -> str:
        return request.build_absolute_uri(self._provider.get_callback_url())

    def complete_login(
        self, request: HttpRequest, app: SocialApp, token: SocialToken, **kwargs: Any
    ) -> SocialLogin:
        claims = self.verify_id_token(kwargs["response"].get("id_token"), app.client_id)
        if self.openid_config["userinfo_endpoint"]:
            more = self._fetch_user_info(token.token)
            if not isinstance(more, dict) or more.get("sub") != claims["sub"]:
                raise OAuth2Error("the user information is about somebody else")
            claims = {**more, **claims}
        return self._provider.sociallogin_from_response(request, claims)

    def verify_id_token(self, token: Any, client_id: str) -> dict[str, Any]:
        """The claims of an ID token that is signed by the issuer, for us, now, and in answer to this request."""
        if not isinstance(token, str):
            raise OAuth2Error("the issuer sent no ID token")
        try:
            claims = jwt.decode(
                token,
                self._signing_key(token),
                algorithms=list(ALGORITHMS),
                issuer=self.openid_config["issuer"],
                audience=client_id,
                leeway=LEEWAY_S,
                options={"require": ["iss", "sub", "aud", "exp", "iat"]},
            )
        except jwt.PyJWTError as error:
            raise OAuth2Error(f"the ID token is not valid: {error}") from error
        several = isinstance(claims["aud"], list) and len(claims["aud"]) > 1
        if (several or "azp" in claims) and claims.get("azp") != client_id:
            raise OAuth2Error("the ID token was made for another client")
        if not self.nonce or not secrets.compare_digest(str(claims.get("nonce", "")), self.nonce):
            raise OAuth2Error("the ID token answers another request")
        return claims

    def _signing_key(self, token: str) -> jwt.PyJWK:
        with outgoing.IssuerSession() as session:
            response = session.get(self.openid_config["jwks_uri"])
        response.raise_for_status()
        keys = [key for key in jwt.PyJWKSet.from_dict(response.json()).keys if key.public_key_use != "enc"]
        wanted = jwt.get_unverified_header(token).get("kid")
        found = [key for key in keys if key.key_id == wanted] if wanted else keys
        if len(found) != 1:
            raise OAuth2Error("the issuer does not know the key of the ID token")
        return found[0]


class TenantOpenIDProvider(OpenIDConnectProvider):
    """One tenant's provider; `app` is built from its IdentityProvider and never stored."""

    id = "tenant_openid"
    pkce_enabled_default = True

    def get_oauth2_adapter(self, request: HttpRequest) -> TenantOpenIDConnection:
        return TenantOpenIDConnection(request, self)

    def get_callback_url(self) -> str:
        return reverse("sso_callback", args=self.app.settings["place"])

    def redirect(
        self, request: HttpRequest, process: str, next_url: str | None = None, data: Any = None, **kwargs: Any
    ) -> HttpResponse:
        nonce = secrets.token_urlsafe(24)
        try:
            return super().redirect(
                request, process, next_url, {"nonce": nonce}, auth_params={"nonce": nonce}, **kwargs
            )
        except OAuth2Error as error:  # an issuer that does not answer is asked for its address first
            return render_authentication_error(request, self, exception=error)

    def serialize(self) -> dict[str, Any]:
        """While a second factor is asked for, the session names the provider by what finds it again."""
        return {"id": self.sub_id}

    def extract_uid(self, data: dict[str, Any]) -> str:
        return str(data["sub"])

    def extract_common_fields(self, data: dict[str, Any]) -> dict[str, Any]:
        return {"email": data.get("email"), "name": data.get("name")}

    def extract_email_addresses(self, data: dict[str, Any]) -> list[Any]:
        return []

    def extract_extra_data(self, data: dict[str, Any]) -> dict[str, Any]:
        """Kept with the account: what decides about letting in, and no more of the person."""
        return {"email": data.get("email"), "email_verified": data.get("email_verified") is True}


class CallbackView(OAuth2CallbackView):
    """Where the issuer sends people back to; state and nonce are those of the browser's own session."""

    adapter: TenantOpenIDConnection

    def _get_state(self, request: HttpRequest, provider: TenantOpenIDProvider) -> Any:
        state, response = super()._get_state(request, provider)
        self.adapter.nonce = ((state or {}).get("data") or {}).get("nonce") or ""
        return state, response
