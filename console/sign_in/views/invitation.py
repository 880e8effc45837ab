"""The page that the link of an invitation leads to."""

from allauth.account.internal.flows.login import perform_password_login
from allauth.account.models import Login
from django import forms
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext_lazy
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods

from console.sign_in import invitations
from console.sign_in.changes import client_address
from console.sign_in.entry import is_own
from tenants.actors import NotVisible
from tenants.errors import Refused
from tenants.models import Invitation, User
from tenants.people import accept_invitation, find_invitation


class NewAccountForm(forms.Form):
    name = forms.CharField(
        label=gettext_lazy("Your name"),
        max_length=120,
        error_messages={"required": gettext_lazy("Enter your name.")},
    )
    password = forms.CharField(
        label=gettext_lazy("Password"),
        max_length=4096,
        strip=False,
        error_messages={"required": gettext_lazy("Choose a password.")},
    )


@sensitive_post_parameters("password")
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def page(request: HttpRequest, slug: str, token: str) -> HttpResponse:
    """Accept as who one is signed in as, sign in first, or make the account that the invitation is for."""
    try:
        invitation = find_invitation(tenant_slug=slug, token=token)
    except NotVisible as error:
        raise Http404 from error
    except Refused as refused:
        return render(request, "sign_in/invitation_closed.html", {"message": refused.message}, status=410)
    user = request.user
    if isinstance(user, User) and is_own(request.session, user):
        return _accept(request, invitation, token, user)
    account = invitations.account_of(invitation)
    if account is None:
        return _join(request, invitation, token)
    how = "sign in" if account.has_usable_password() or not account.is_active else "company"
    return render(request, "sign_in/invitation.html", {"invitation": invitation, "how": how})


def _accept(request: HttpRequest, invitation: Invitation, token: str, user: User) -> HttpResponse:
    how = "accept" if user.email == invitation.email else "other"
    context = {"invitation": invitation, "how": how}
    if request.method == "POST" and how == "accept":
        try:
            accept_invitation(
                tenant_slug=invitation.tenant.slug, token=token, user=user, address=client_address(request)
            )
            return redirect("tenant", invitation.tenant.slug)
        except Refused as refused:
            return render(request, "sign_in/invitation_closed.html", {"message": refused.message}, status=410)
    return render(request, "sign_in/invitation.html", context)


def _join(request: HttpRequest, invitation: Invitation, token: str) -> HttpResponse:
    form = NewAccountForm(request.POST if request.method == "POST" else None)
    if form.is_bound and form.is_valid():
        try:
            user = invitations.join_with_new_password(
                invitation=invitation, token=token, address=client_address(request), **form.cleaned_data
            )
        except Refused as refused:
            form.add_error(refused.field if refused.field in form.fields else None, refused.message)
        else:
            request.session.flush()  # whoever was signed in before by a provider's word
            login = Login(user=user, redirect_url=reverse("tenant", args=[invitation.tenant.slug]))
            return perform_password_login(request, {"email": user.email}, login)
    context = {"invitation": invitation, "how": "join", "form": form}
    return render(request, "sign_in/invitation.html", context, status=422 if form.is_bound else 200)
