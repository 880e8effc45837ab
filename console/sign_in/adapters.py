"""How django-allauth's flows behave here: settings.ACCOUNT_ADAPTER, MFA_ADAPTER and SOCIALACCOUNT_ADAPTER."""

import time
from typing import Any

from allauth.account import app_settings as account_settings
from allauth.account.adapter import DefaultAccountAdapter
from allauth.account.internal.flows.login import get_authentication_records
from allauth.core import context
from allauth.core.exceptions import ImmediateHttpResponse
from allauth.mfa.adapter import DefaultMFAAdapter
from allauth.mfa.models import Authenticator
from django.conf import settings
from django.contrib import messages
from django.contrib.auth import logout
from django.contrib.auth.base_user import AbstractBaseUser
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from audit.record import AuditUnavailable
from console.sign_in import passwords, sealing, trail
from console.sign_in.changes import client_address, record_account_change
from console.sign_in.entry import PROVIDER_TENANT
from tenants.models import User

# Where nobody's address is known, as behind a unix socket.
NO_ADDRESS = "0.0.0.0"

OWN_MEANS = ("password", "mfa")


class AccountAdapter(DefaultAccountAdapter):
    """Accounts: closed to strangers, one e-mail address each, passwords behind our own brake."""

    error_messages = {
        **DefaultAccountAdapter.error_messages,
        "too_many_login_attempts": gettext_lazy("Too many attempts. Wait a few minutes, then try again."),
        "rate_limited": gettext_lazy("Too many attempts. Wait a few minutes, then try again."),
        "incorrect_password": gettext_lazy("This is not your password."),
        "enter_current_password": gettext_lazy("This is not your present password."),
        "invalid_password_reset": gettext_lazy("This link is used or too old. Ask for a new one."),
    }

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        return False

    def get_client_ip(self, request: HttpRequest) -> str:
        return client_address(request) or NO_ADDRESS

    def is_safe_url(self, url: str) -> bool:
        request = context.request
        return url_has_allowed_host_and_scheme(
            url, allowed_hosts={request.get_host()}, require_https=request.is_secure()
        )

    def reauthenticate(self, user: AbstractBaseUser, password: str) -> bool:
        assert isinstance(user, User)
        try:
            found = passwords.check(context.request, email=user.email, password=password)
        except passwords.TooManyAttempts as error:
            raise self.validation_error("too_many_login_attempts") from error
        return found is not None and found.pk == user.pk

    def is_reauthentication_required(self, *, app: str, **kwargs: Any) -> bool:
        """Not right after signing in: whoever typed a password a minute ago need not type it again."""
        request = context.request
        own = [r for r in get_authentication_records(request, request.user) if r.get("method") in OWN_MEANS]
        return not own or time.time() - own[-1]["at"] > account_settings.REAUTHENTICATION_TIMEOUT

    def get_reauthentication_methods(self, user: Any) -> list[dict[str, Any]]:
        words = {
            "reauthenticate": _("Use your password"),
            "mfa_reauthenticate": _("Use a code from your authenticator app"),
            "mfa_reauthenticate:webauthn": _("Use a passkey"),
        }
        found = super().get_reauthentication_methods(user)
        return [{**method, "description": words[method["id"]]} for method in found]

    def set_password(self, user: AbstractBaseUser, password: str) -> None:
        assert isinstance(user, User)
        user.set_password(password)
        user.save(update_fields=["password"])
        record_account_change(user, "account.password_changed")

    def login(self, request: HttpRequest, user: AbstractBaseUser) -> None:
        """Raises ImmediateHttpResponse, and nobody is signed in, when that cannot be recorded."""
        assert isinstance(user, User)
        super().login(request, user)
        try:
            trail.signed_in(request, user)
        except AuditUnavailable:
            logout(request)
            words = _("Signing in is not possible at the moment. Try again in a minute.")
            answer = render(request, "socialaccount/refused.html", {"message": words}, status=503)
            raise ImmediateHttpResponse(answer) from None

    def post_login(
        self, request: HttpRequest, user: AbstractBaseUser, *, signal_kwargs: Any, **kwargs: Any
    ) -> HttpResponse:
        login = (signal_kwargs or {}).get("sociallogin")
        if login is not None:
            request.session[PROVIDER_TENANT] = login.account.provider.partition(":")[0]
        response = super().post_login(request, user, signal_kwargs=signal_kwargs, **kwargs)
        language = getattr(user, "language", "")
        if language and settings.LANGUAGE_COOKIE_NAME not in request.COOKIES:
            set_language_cookie(response, language)
        return response

    def respond_user_inactive(self, request: HttpRequest, user: AbstractBaseUser) -> HttpResponse:
        messages.error(request, _("This account is switched off. Ask your workspace’s administrator."))
        return redirect("signin")

    def get_password_change_redirect_url(self, request: HttpRequest) -> str:
        return reverse("account")

    def send_notification_mail(
        self, template_prefix: str, user: AbstractBaseUser, context: Any = None, email: str | None = None
    ) -> None:
        assert isinstance(user, User)
        super().send_notification_mail(template_prefix, user, context, email or user.email)


class MFAAdapter(DefaultMFAAdapter):
    """Second factors: seeds sealed at rest."""

    error_messages = {
        **DefaultMFAAdapter.error_messages,
        "incorrect_code": gettext_lazy(
            "This did not work. Try again, with the newest code or with your passkey."
        ),
    }

    def encrypt(self, text: str) -> str:
        return sealing.seal(text)

    def decrypt(self, encrypted_text: str) -> str:
        return sealing.open_sealed(encrypted_text)

    def _get_site_name(self) -> str:
        return "Custos"

    def generate_authenticator_name(self, user: AbstractBaseUser, type: str) -> str:
        number = Authenticator.objects.filter(user_id=user.pk, type=type).count() + 1
        return _("Passkey %(number)d") % {"number": number}


def set_language_cookie(response: HttpResponse, language: str) -> None:
    """Speak this language to the browser from now on, as Django's own set_language does."""
    response.set_cookie(
        settings.LANGUAGE_COOKIE_NAME,
        language,
        max_age=settings.LANGUAGE_COOKIE_AGE,
        secure=settings.LANGUAGE_COOKIE_SECURE,
        samesite="Lax",
    )
