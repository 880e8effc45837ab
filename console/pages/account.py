"""Signing in and out."""

from typing import Any

from django import forms
from django.contrib.auth import authenticate, login, logout
from django.core.exceptions import NON_FIELD_ERRORS
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST

from console import throttle
from tenants.models import User

SIGNED_OUT = "left"


class SignInForm(forms.Form):
    """An address and a password; `user` is who they belong to once the form is valid."""

    email = forms.EmailField(
        label=gettext_lazy("E-mail address"),
        max_length=254,
        error_messages={
            "required": gettext_lazy("Enter your e-mail address."),
            "invalid": gettext_lazy("Enter a whole e-mail address, such as name@company.example."),
        },
    )
    password = forms.CharField(
        label=gettext_lazy("Password"),
        max_length=4096,
        strip=False,
        error_messages={"required": gettext_lazy("Enter your password.")},
    )

    def __init__(self, *args: Any, request: HttpRequest, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.request = request
        self.user: User | None = None

    def clean(self) -> dict[str, Any]:
        values = super().clean() or {}
        if self.errors:
            return values
        who = {"email": values["email"], "address": self.request.META.get("REMOTE_ADDR") or ""}
        if not throttle.admits(**who):
            minutes = throttle.WINDOW_S // 60
            message = _("Too many attempts. Wait %(minutes)d minutes, then try again.") % {"minutes": minutes}
            raise forms.ValidationError(message, code="throttled")
        found = authenticate(self.request, username=values["email"], password=values["password"])
        self.user = found if isinstance(found, User) else None
        if self.user is None:
            raise forms.ValidationError(
                _("Address and password do not belong together. Check both."), code="wrong"
            )
        throttle.succeeded(**who)
        return values


@sensitive_post_parameters("password")
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def sign_in(request: HttpRequest) -> HttpResponse:
    """The sign-in page; goes on to `next`, if that is ours."""
    target = _safe_target(request)
    if request.user.is_authenticated and request.method != "POST":
        return HttpResponseRedirect(target)
    form = SignInForm(request.POST if request.method == "POST" else None, request=request)
    if form.is_bound and form.is_valid():
        login(request, form.user)
        return HttpResponseRedirect(target)
    throttled = form.is_bound and form.has_error(NON_FIELD_ERRORS, "throttled")
    context = {
        "form": form,
        "target": target,
        "signed_out": SIGNED_OUT in request.GET,
        "throttled": throttled,
    }
    return render(request, "pages/sign_in.html", context, status=429 if throttled else 200)


@require_POST
def sign_out(request: HttpRequest) -> HttpResponse:
    logout(request)
    return redirect(f"{reverse('signin')}?{SIGNED_OUT}=1")


def _safe_target(request: HttpRequest) -> str:
    target = request.POST.get("next") or request.GET.get("next") or ""
    safe = url_has_allowed_host_and_scheme(
        target, allowed_hosts={request.get_host()}, require_https=request.is_secure()
    )
    return target if safe else reverse("home")
