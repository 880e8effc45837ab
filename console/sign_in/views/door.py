"""In and out: the sign-in page, a company's sign-in, signing out."""

from allauth.account.internal.flows.login import perform_password_login
from allauth.account.internal.stagekit import clear_login
from allauth.account.models import Login
from allauth.mfa.webauthn.views import LoginWebAuthnView
from django.conf import settings
from django.contrib.auth import logout
from django.core.exceptions import NON_FIELD_ERRORS
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.decorators import method_decorator
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from console.sign_in import sessions, single_sign_on, trail
from console.sign_in.forms import SignInForm
from console.sign_in.openid import CallbackView, TenantOpenIDConnection
from tenants.models import User

SIGNED_OUT = "left"
STATUS_OF_ERROR = {"throttled": 429, "unavailable": 503}


@sensitive_post_parameters("password")
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def sign_in(request: HttpRequest) -> HttpResponse:
    """The sign-in page; goes on to a second factor where there is one, then to `next`, if that is ours."""
    target = safe_target(request)
    if request.user.is_authenticated and request.method != "POST":
        return HttpResponseRedirect(target)
    form = SignInForm(request.POST if request.method == "POST" else None, request=request)
    if form.is_bound and form.is_valid():
        email = form.cleaned_data["email"]
        login = Login(user=form.user, email=email, redirect_url=target)
        return perform_password_login(request, {"email": email}, login)
    found = [code for code in STATUS_OF_ERROR if form.is_bound and form.has_error(NON_FIELD_ERRORS, code)]
    context = {
        "form": form,
        "target": target,
        "signed_out": SIGNED_OUT in request.GET,
        "is_waiting": bool(found),
    }
    return render(
        request, "sign_in/sign_in.html", context, status=STATUS_OF_ERROR[found[0]] if found else 200
    )


@require_POST
def sign_out(request: HttpRequest) -> HttpResponse:
    if isinstance(request.user, User):
        trail.signed_out(request.user)
        sessions.forget(request.session.session_key)
    logout(request)
    return redirect(f"{reverse('signin')}?{SIGNED_OUT}=1")


@require_POST
def start_again(request: HttpRequest) -> HttpResponse:
    """Forget who was about to sign in, as another person wants to."""
    clear_login(request)
    return redirect("signin")


@method_decorator(never_cache, name="dispatch")
class PasskeyView(LoginWebAuthnView):
    """Signing in with a passkey alone: GET as JSON gives what the browser asks the passkey, POST brings its answer."""

    def get(self, request: HttpRequest, *args: object, **kwargs: object) -> HttpResponse:
        response = super().get(request, *args, **kwargs)
        # A passkey's challenge is the browser's own; nothing else of the JSON is meant for anybody.
        return response if isinstance(response, JsonResponse) else redirect("signin")

    def get_authenticated_redirect_url(self) -> str:
        return safe_target(self.request)

    def _redirect_to_pending_stage(self, request: HttpRequest, stage: object) -> None:
        """Whoever left a sign-in half done may start another."""


@require_safe
def company(request: HttpRequest) -> HttpResponse:
    """Ask for the workspace whose company sign-in is wanted."""
    slug = request.GET.get("workspace", "").strip().lower()
    if slug.replace("-", "").isalnum() and slug.isascii():
        return redirect("sso_tenant", slug)
    return render(request, "sign_in/company.html", {"is_wrong": bool(slug), "slug": slug})


@require_safe
def company_providers(request: HttpRequest, slug: str) -> HttpResponse:
    """The company sign-ins of a workspace. One without any looks like one that does not exist."""
    context = {
        "slug": slug,
        "providers": single_sign_on.enabled_providers(slug),
        "target": safe_target(request),
    }
    return render(request, "sign_in/company_providers.html", context)


@require_safe
@never_cache
def company_start(request: HttpRequest, slug: str, provider_slug: str) -> HttpResponse:
    """Off to the issuer. A link rather than a form: forms may only lead to ourselves (form-action)."""
    provider = single_sign_on.provider_at(request, slug, provider_slug)
    if provider is None:
        raise Http404
    home = reverse("tenant", args=[slug])
    return provider.redirect(request, process="login", next_url=safe_target(request, default=home))


@require_safe
@never_cache
def company_callback(request: HttpRequest, slug: str, provider_slug: str) -> HttpResponse:
    """Back from the issuer."""
    provider = single_sign_on.provider_at(request, slug, provider_slug)
    if provider is None:
        raise Http404
    return CallbackView.adapter_view(TenantOpenIDConnection(request, provider))(request)


def safe_target(request: HttpRequest, default: str = "") -> str:
    """Where `next` leads, if that is one of our own addresses; else the default, else the start page."""
    target = request.POST.get("next") or request.GET.get("next") or ""
    safe = url_has_allowed_host_and_scheme(
        target, allowed_hosts={request.get_host()}, require_https=request.is_secure()
    )
    return target if safe else default or reverse(settings.LOGIN_REDIRECT_URL)
