"""Second factors: authenticator app, passkeys, recovery codes, and the page that asks for one to be set up."""

import time
from typing import Any

from allauth.account import app_settings as account_settings
from allauth.account.internal.flows.reauthentication import get_reauthentication_flows
from allauth.mfa.base.internal.flows import post_authentication
from allauth.mfa.models import Authenticator
from allauth.mfa.recovery_codes.views import GenerateRecoveryCodesView, ViewRecoveryCodesView
from allauth.mfa.totp.views import ActivateTOTPView, DeactivateTOTPView
from allauth.mfa.webauthn.internal import auth as webauthn
from allauth.mfa.webauthn.views import (
    AddWebAuthnView,
    EditWebAuthnView,
    ReauthenticateWebAuthnView,
    RemoveWebAuthnView,
)
from django.contrib.auth.decorators import login_required
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.decorators import method_decorator
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from console.pages.navigation import person
from console.sign_in import accounts
from console.sign_in.entry import records
from console.sign_in.views.door import safe_target
from tenants.models import User

# Where somebody wanted to go when they were led to set up a second factor.
GOING_TO = "sign_in.going_to"


@require_safe
@login_required
def required(request: HttpRequest) -> HttpResponse:
    """The workspace asks for a second factor, and the person has none."""
    request.session[GOING_TO] = safe_target(request)
    context = {
        "factors": accounts.factors(person(request)),
        "has_password": person(request).has_usable_password(),
    }
    return render(request, "sign_in/second_factor_required.html", context)


def _vouched_for_long_ago(request: HttpRequest) -> bool:
    """Whether somebody with no means of their own signed in too long ago to set any up."""
    user = person(request)
    if get_reauthentication_flows(user):
        return False
    last = [record["at"] for record in records(request.session, user)][-1:]
    return not last or time.time() - last[0] > account_settings.REAUTHENTICATION_TIMEOUT


class _Recorded:
    """Changes and their records in one transaction; only soon after signing in."""

    request: HttpRequest

    @method_decorator(never_cache)
    @method_decorator(login_required)
    @method_decorator(transaction.atomic)
    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if _vouched_for_long_ago(request):
            return render(request, "sign_in/sign_in_again.html", status=403)
        return super().dispatch(request, *args, **kwargs)  # type: ignore[misc]

    def count_as_used(self, authenticator: Authenticator) -> None:
        """Who has just set a factor up has also just used it."""
        post_authentication(self.request, authenticator, reauthenticated=True)


class AddAuthenticatorApp(_Recorded, ActivateTOTPView):
    def form_valid(self, form: Any) -> HttpResponse:
        response = super().form_valid(form)
        self.count_as_used(Authenticator.objects.get(user=self.request.user, type=Authenticator.Type.TOTP))
        return response


class RemoveAuthenticatorApp(_Recorded, DeactivateTOTPView):
    pass


class NewRecoveryCodes(_Recorded, GenerateRecoveryCodesView):
    pass


class ShowRecoveryCodes(_Recorded, ViewRecoveryCodesView):
    """The codes, once: whoever comes back sees how many are left."""

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        going_to = self.request.session.pop(GOING_TO, "")
        return {**super().get_context_data(**kwargs), "going_to": going_to or reverse("account")}


class _WithPassword(_Recorded):
    """A passkey signs in by itself, so it is for people with means of their own: see console.sign_in.entry."""

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if isinstance(request.user, User) and not request.user.has_usable_password():
            raise Http404
        return super().dispatch(request, *args, **kwargs)


class AddPasskey(_WithPassword, AddWebAuthnView):
    def form_valid(self, form: Any) -> HttpResponse:
        response = super().form_valid(form)
        own = Authenticator.objects.filter(user=self.request.user, type=Authenticator.Type.WEBAUTHN)
        self.count_as_used(own.latest("pk"))
        return response

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """Always one that can sign in by itself: it knows whose it is, and asks for a finger or a PIN."""
        context = super().get_context_data(**kwargs)
        # After allauth's own, whose options this replaces in the session.
        options = webauthn.begin_registration(person(self.request), True)
        # What was wrong with the last attempt stays; allauth's own makes the form anew.
        form = kwargs.get("form") or context["form"]
        return {**context, "form": form, "js_data": {"creation_options": options}}


class RenamePasskey(_WithPassword, EditWebAuthnView):
    pass


class RemovePasskey(_WithPassword, RemoveWebAuthnView):
    pass


class ConfirmByPasskey(ReauthenticateWebAuthnView):
    def form_invalid(self, form: Any) -> HttpResponse:
        return self.render_to_response(self.get_context_data(form=form), status=422)


@require_safe
@login_required
def changed(request: HttpRequest) -> HttpResponse:
    """After a change: back to the account, or on to where a second factor was asked for."""
    if accounts.factors(person(request)).is_protected and (going_to := request.session.pop(GOING_TO, "")):
        return redirect(going_to)
    return redirect("account")
