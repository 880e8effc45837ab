"""The page "Account & security" and what it changes: name, language, picture, e-mail address, password, sessions."""

from uuid import UUID

from allauth.account.views import PasswordChangeView
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.decorators import method_decorator
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from console.pages.navigation import person
from console.sign_in import accounts, avatars, sessions
from console.sign_in.adapters import set_language_cookie
from console.sign_in.entry import is_own
from console.sign_in.forms import AvatarForm, NewEmailForm, ProfileForm
from tenants.errors import Refused
from tenants.models import User


@require_safe
@never_cache
@login_required
def overview(request: HttpRequest) -> HttpResponse:
    return _page(request)


def _page(request: HttpRequest, status: int = 200, **more: object) -> HttpResponse:
    user = person(request)
    context = {
        "profile_form": ProfileForm(initial={"name": user.name, "language": user.language}),
        "factors": accounts.factors(user),
        "sessions": sessions.of_person(user, current_key=request.session.session_key),
        "has_password": user.has_usable_password(),
        "is_own": is_own(request.session, user),
        "is_unproven": user.may_be_somebody_elses,
        **more,
    }
    return render(request, "sign_in/account.html", context, status=status)


@require_POST
@login_required
def profile(request: HttpRequest) -> HttpResponse:
    form = ProfileForm(request.POST)
    try:
        if form.is_valid():
            accounts.change_profile(user=person(request), **form.cleaned_data)
            response = redirect("account")
            if form.cleaned_data["language"]:
                set_language_cookie(response, form.cleaned_data["language"])
            messages.success(request, _("Saved."))
            return response
    except Refused as refused:
        form.add_error(refused.field, refused.message)
    return _page(request, 422, profile_form=form)


@require_POST
@login_required
def avatar(request: HttpRequest) -> HttpResponse:
    """Take a new picture, or with `remove` none."""
    user = person(request)
    form = AvatarForm(request.POST, request.FILES)
    try:
        if "remove" in request.POST:
            avatars.take_away(user=user)
        elif form.is_valid():
            avatars.change(user=user, upload=form.cleaned_data["picture"])
        else:
            raise Refused("picture_missing", _("Choose a picture first."), "picture")
    except Refused as refused:
        return _page(request, 422, avatar_error=refused.message)
    messages.success(request, _("Saved."))
    return redirect("account")


@require_safe
@login_required
def avatar_of(request: HttpRequest, user_id: UUID) -> HttpResponse:
    """Somebody's picture, for those who share a tenant with them."""
    picture = avatars.visible_to(person(request), user_id)
    if picture is None:
        raise Http404
    response = HttpResponse(picture, content_type="image/webp")
    response.headers["Cache-Control"] = "private, max-age=300"
    response.headers["Content-Security-Policy"] = "default-src 'none'; sandbox"
    return response


@require_POST
@login_required
def end_session(request: HttpRequest, session_id: int) -> HttpResponse:
    if not sessions.end(person(request), session_id, current_key=request.session.session_key):
        raise Http404
    messages.success(request, _("That session has ended."))
    return redirect("account")


@require_POST
@login_required
def end_other_sessions(request: HttpRequest) -> HttpResponse:
    count = sessions.end_others(person(request), current_key=request.session.session_key)
    messages.success(request, _("Sessions ended elsewhere: %(count)d.") % {"count": count})
    return redirect("account")


@method_decorator(transaction.atomic, name="dispatch")
class ChangePassword(PasswordChangeView):
    """A new password, for people who have one: others are vouched for by their company alone."""

    def dispatch(self, request: HttpRequest, *args: object, **kwargs: object) -> HttpResponse:
        if request.user.is_authenticated and not person(request).has_usable_password():
            raise Http404
        return super().dispatch(request, *args, **kwargs)


@require_http_methods(["GET", "HEAD", "POST"])
@never_cache
@login_required
def change_email(request: HttpRequest) -> HttpResponse:
    """Ask for another address; it becomes the person's own once a link sent there is followed."""
    user = _with_password(request)
    accounts.require_recent_sign_in(request)
    form = NewEmailForm(request.POST if request.method == "POST" else None, user=user)
    if form.is_bound and form.is_valid():
        try:
            accounts.ask_for_email(request, user=user, email=form.cleaned_data["email"])
            return render(request, "sign_in/email_sent.html", {"email": form.cleaned_data["email"]})
        except Refused as refused:
            form.add_error(refused.field, refused.message)
    return render(request, "sign_in/email.html", {"form": form}, status=422 if form.is_bound else 200)


@require_POST
@never_cache
@login_required
def prove_email(request: HttpRequest) -> HttpResponse:
    """Mail a link that proves the account's own address."""
    user = _with_password(request)
    if user.email_verified is not None:
        raise Http404
    try:
        accounts.ask_for_proof(request, user=user)
    except Refused as refused:
        messages.error(request, refused.message)
        return redirect("account")
    return render(request, "sign_in/email_sent.html", {"email": user.email})


@require_http_methods(["GET", "HEAD", "POST"])
@never_cache
@login_required
def confirm_email(request: HttpRequest, token: str) -> HttpResponse:
    """The link in the mail: shows the new address, and takes it when that is confirmed."""
    user = _with_password(request)
    try:
        email = accounts.email_of_token(user=user, token=token)
        if request.method == "POST":
            accounts.change_email(user=user, token=token)
            said = (
                _("Your address is confirmed.")
                if email == user.email
                else _("Your e-mail address is now %(email)s.")
            )
            messages.success(request, said % {"email": email})
            return redirect("account")
    except Refused as refused:
        return render(request, "sign_in/email_confirm.html", {"refused": refused.message}, status=422)
    return render(request, "sign_in/email_confirm.html", {"email": email})


def _with_password(request: HttpRequest) -> User:
    user = person(request)
    if not user.has_usable_password():
        raise Http404
    return user
