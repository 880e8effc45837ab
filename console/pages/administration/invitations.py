"""Invitations: who is invited, invite by hand, send again, take back. Links are shown once, where they are made."""

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any
from uuid import UUID

from django import forms
from django.contrib import messages
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext, pgettext_lazy
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from console import mail
from console.pages import labels
from console.pages.administration.confirm import Question, ask, is_confirmed
from console.pages.administration.forms import posted, status_of
from console.pages.administration.people import may_manage, role_names
from console.pages.administration.people_forms import GroupsForm, RoleForm
from console.pages.listing import Column, Listing, csv_response, selected
from console.tasks import send_invitations
from console.tenancy import TenantRequest, tenant_view
from tenants import clock, people
from tenants.actors import Actor, NotVisible
from tenants.errors import Refused
from tenants.models import Group, Invitation
from tenants.roles import PEOPLE_MANAGE
from tenants.words import search_words

BY_HAND_MOST = 50

COLUMNS = (
    Column("email", gettext_lazy("E-mail address"), ("email",)),
    Column("role", gettext_lazy("Role"), ("role", "email")),
    Column("groups", gettext_lazy("Groups")),
    Column("state", gettext_lazy("State"), ("expires",)),
    Column("by", gettext_lazy("Invited by"), ("invited_by__email",)),
    Column("made", gettext_lazy("Invited"), ("created",)),
    Column("expires", gettext_lazy("Expires"), ("expires",)),
)
STATES = {
    "waiting": labels.State("busy", "s-busy", pgettext_lazy("invitations", "Waiting")),
    "unsent": labels.State("warn", "s-warn", gettext_lazy("Waiting, not mailed")),
    "asked": labels.State("busy", "s-busy", gettext_lazy("Asked to join")),
    "expired": labels.State("", "s-time", gettext_lazy("Expired")),
}
ACTIONS = (("resend", gettext_lazy("Send again…"), False), ("revoke", gettext_lazy("Take back…"), True))


class InviteForm(RoleForm, GroupsForm):
    """Addresses, the role and the groups they get. One address a line, since each is refused on its own."""

    emails = forms.CharField(
        label=gettext_lazy("E-mail addresses"),
        max_length=BY_HAND_MOST * 256,
        help_text=gettext_lazy("One or several, on lines of their own or with commas between them."),
        widget=forms.Textarea(attrs={"rows": 4, "spellcheck": "false", "autocomplete": "off"}),
        error_messages={"required": gettext_lazy("Enter at least one address.")},
    )
    mail = forms.BooleanField(
        label=gettext_lazy("Send the links by e-mail"),
        help_text=gettext_lazy("You see the links once in either case."),
        required=False,
    )
    field_order = ("emails", "role", "groups", "mail")

    def clean_emails(self) -> list[str]:
        text = self.cleaned_data["emails"].replace(",", " ").replace(";", " ")
        found = list(dict.fromkeys(each.lower() for each in text.split()))
        if len(found) > BY_HAND_MOST:
            message = _("Invite at most %(most)d people at a time this way; import more from a file.")
            raise forms.ValidationError(message % {"most": BY_HAND_MOST})
        return found


@require_safe
@tenant_view()
def page(request: TenantRequest) -> HttpResponse:
    names = role_names()
    listing = Listing(request, _found(request), COLUMNS, kept=("state",), default_sort="-made")
    groups = dict(Group.objects.values_list("pk", "name"))
    if request.GET.get("format") == "csv":
        return _csv(listing.rows, names, groups)
    context = {
        "title": _("Invitations"),
        "listing": listing,
        "rows": [_row(invitation, names, groups) for invitation in listing.page],
        "states": STATES,
        "state": request.GET.get("state", ""),
        "may_manage": may_manage(request.actor),
        "actions": ACTIONS,
    }
    return render(request, "administration/invitations.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
@tenant_view()
def invite(request: TenantRequest) -> HttpResponse:
    """Invite by hand; what comes back shows the links, this once."""
    _require_managing(request.actor)
    initial = {"role": "member", "mail": True, "groups": request.GET.getlist("group")}
    form = InviteForm(*posted(request), actor=request.actor, initial=initial)
    if form.is_bound and form.is_valid():
        made = _invite_all(request.actor, form)
        if made:
            return _links(request, made, mails=form.cleaned_data["mail"])
    context = {"title": _("Invite people"), "form": form}
    return render(request, "administration/invite.html", context, status=status_of(form))


@require_POST
@tenant_view()
def act(request: TenantRequest) -> HttpResponse:
    """Send the selected invitations again, or take them back; asks first."""
    actor = request.actor
    _require_managing(actor)
    action = request.POST.get("action", "")
    if action not in {name for name, _label, _danger in ACTIONS}:
        raise NotVisible("action")
    chosen = list(people.invitations(actor).filter(pk__in=selected(request, UUID)))
    if not chosen:
        messages.warning(request, _("Select at least one invitation first."))
        return redirect("invitations", actor.tenant_slug)
    if not is_confirmed(request):
        return ask(request, _question(actor, action, chosen))
    try:
        return _revoke(request, chosen) if action == "revoke" else _resend(request, chosen)
    except Refused as error:
        messages.error(request, error.message)
        return redirect("invitations", actor.tenant_slug)


def send_later(request: TenantRequest, invitation_ids: Sequence[UUID]) -> None:
    """Have a worker mail these invitations, in batches, once they are committed."""
    origin = request.build_absolute_uri("/").rstrip("/")
    for start in range(0, len(invitation_ids), BY_HAND_MOST):
        batch = [str(each) for each in invitation_ids[start : start + BY_HAND_MOST]]
        transaction.on_commit(partial(send_invitations.delay, str(request.actor.tenant_id), batch, origin))


# --- The list --------------------------------------------------------------------------------


def _state(invitation: Invitation) -> str:
    if invitation.expires <= clock.now():
        return "expired"
    if invitation.mailed_only:
        return "asked"
    return "waiting" if invitation.sent else "unsent"


def _found(request: TenantRequest) -> QuerySet[Invitation]:
    found = people.invitations(request.actor).defer("invited_by__avatar", "invited_by__password")
    for word in search_words(request.GET.get("q", "")):
        found = found.filter(email__icontains=word)
    narrowed: dict[str, dict[str, Any]] = {
        "expired": {"expires__lte": clock.now()},
        "asked": {"expires__gt": clock.now(), "mailed_only": True},
        "waiting": {"expires__gt": clock.now(), "mailed_only": False, "sent__isnull": False},
        "unsent": {"expires__gt": clock.now(), "mailed_only": False, "sent": None},
    }
    return found.filter(**narrowed.get(request.GET.get("state", ""), {}))


def _row(invitation: Invitation, names: dict[str, str], groups: dict[UUID, str]) -> dict[str, object]:
    return {
        "invitation": invitation,
        "role": names.get(invitation.role, invitation.role),
        "groups": [groups[each] for each in invitation.groups if each in groups],
        "state": STATES[_state(invitation)],
    }


def _csv(found: Iterable[Invitation], names: dict[str, str], groups: dict[UUID, str]) -> HttpResponse:
    heading = [column.label for column in COLUMNS]
    cells = (
        [
            each.email,
            names.get(each.role, each.role),
            "; ".join(groups[group] for group in each.groups if group in groups),
            STATES[_state(each)].label,
            each.invited_by.email if each.invited_by else "",
            each.created.isoformat(timespec="seconds"),
            each.expires.isoformat(timespec="seconds"),
        ]
        for each in found
    )
    return csv_response("invitations", heading, cells)


# --- Inviting and after ----------------------------------------------------------------------


def _require_managing(actor: Actor) -> None:
    if not may_manage(actor):
        raise NotVisible(PEOPLE_MANAGE)


def _invite_all(actor: Actor, form: InviteForm) -> list[tuple[Invitation, str]]:
    """The invitations and their tokens; none of them, with every error in the form, when any address is refused."""
    made = []
    with transaction.atomic():
        for email in form.cleaned_data["emails"]:
            try:
                made.append(
                    people.invite(
                        actor=actor, email=email, role=form.cleaned_data["role"], group_ids=form.ids()
                    )
                )
            except Refused as error:
                field = {"email": "emails"}.get(error.field or "", error.field)
                named = f"{email}: {error.message}" if field == "emails" else error.message
                form.add_error(field if field in form.fields else None, named)
        if form.errors:
            transaction.set_rollback(True)
    return [] if form.errors else made


def _links(request: TenantRequest, made: Sequence[tuple[Invitation, str]], *, mails: bool) -> HttpResponse:
    """The page with the links, which nobody can see again; mailed as well, if asked for."""
    origin = request.build_absolute_uri("/").rstrip("/")
    sent = mail.send_invitations(made, origin=origin) if mails else []
    people.mark_sent(invitation_ids=sent)
    context = {
        "title": ngettext("%d person is invited", "%d people are invited", len(made)) % len(made),
        "links": [
            (invitation, mail.invitation_link(invitation, token, origin=origin), invitation.pk in sent)
            for invitation, token in made
        ],
        "mails": mails,
        "is_delivering": mail.is_delivering(),
        "unsent": len(made) - len(sent),
    }
    response = render(request, "administration/invited.html", context)
    response.headers["Cache-Control"] = "no-store"
    return response


def _question(actor: Actor, action: str, chosen: Sequence[Invitation]) -> Question:
    count, slug = len(chosen), actor.tenant_slug
    if action == "revoke":
        title = ngettext("Take back %d invitation?", "Take back %d invitations?", count) % count
        text, verb = _("The links stop working at once. Whoever was invited is not told."), _("Take back")
    else:
        title = ngettext("Send %d invitation again?", "Send %d invitations again?", count) % count
        text = _(
            "New links go out by e-mail and work for seven days. The links that were sent before stop working."
        )
        verb = _("Send again")
    return Question(
        title=title,
        text=text,
        button=verb,
        action=reverse("invitations_act", args=[slug]),
        back=reverse("invitations", args=[slug]),
        names=[invitation.email for invitation in chosen],
        hidden=[("action", action), *(("selected", str(invitation.pk)) for invitation in chosen)],
        is_danger=action == "revoke",
    )


def _revoke(request: TenantRequest, chosen: Sequence[Invitation]) -> HttpResponse:
    with transaction.atomic():
        for invitation in chosen:
            people.revoke_invitation(actor=request.actor, invitation_id=invitation.pk)
    count = len(chosen)
    messages.success(
        request, ngettext("%d invitation was taken back.", "%d invitations were taken back.", count) % count
    )
    return redirect("invitations", request.actor.tenant_slug)


def _resend(request: TenantRequest, chosen: Sequence[Invitation]) -> HttpResponse:
    with transaction.atomic():
        made = [
            people.renew_invitation(actor=request.actor, invitation_id=invitation.pk) for invitation in chosen
        ]
    return _links(request, made, mails=True)
