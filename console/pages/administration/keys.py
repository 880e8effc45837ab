"""API keys: people's own, and with the right to manage keys everybody's. A key's text is shown once, by the page that made it."""

from datetime import UTC, datetime, time, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from django import forms
from django.contrib import messages
from django.db.models import Q, QuerySet
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext, pgettext_lazy
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from console.pages.administration.confirm import Question, ask, is_confirmed
from console.pages.administration.forms import Failed, PageForm, attempt, posted, status_of
from console.pages.labels import State
from console.pages.listing import Column, Listing, csv_response, selected
from console.tenancy import TenantRequest, tenant_view
from inference.registry.models import Route
from inference.registry.selectors import usable_routes
from tenants import clock, keys
from tenants.actors import Actor, NotVisible, permissions_of_keys
from tenants.models import ApiKey
from tenants.roles import (
    ADMINISTRATION_VIEW,
    API_USE,
    KEYS_MANAGE,
    Scope,
    permissions_in_scopes,
)
from tenants.words import search_words

COLUMNS = (
    Column("name", gettext_lazy("Name"), ("name",)),
    Column("owner", gettext_lazy("Acts for"), ("service_account__name", "user__email")),
    Column("scopes", gettext_lazy("May")),
    Column("used", gettext_lazy("Last used"), ("last_used",)),
    Column("expires", gettext_lazy("Ends"), ("expires",)),
    Column("state", gettext_lazy("State")),
)
STATES = (
    ("", gettext_lazy("Any")),
    ("valid", pgettext_lazy("keys", "Valid")),
    ("ended", pgettext_lazy("keys", "Ended")),
)
OWNERS = (
    ("", gettext_lazy("Anybody")),
    ("me", gettext_lazy("Me")),
    ("people", gettext_lazy("People")),
    ("programs", gettext_lazy("Service accounts")),
)
SCOPE_WORDS: dict[str, str | Promise] = {
    Scope.INFERENCE: pgettext_lazy("scope of a key", "Use models"),
    Scope.MANAGEMENT_READ: pgettext_lazy("scope of a key", "Read administration"),
    Scope.MANAGEMENT_WRITE: pgettext_lazy("scope of a key", "Change administration"),
    Scope.KNOWLEDGE_READ: pgettext_lazy("scope of a key", "Read knowledge"),
    Scope.KNOWLEDGE_WRITE: pgettext_lazy("scope of a key", "Change knowledge"),
    Scope.SCIM: pgettext_lazy("scope of a key", "Provision people"),
}
USUAL_LIFE = timedelta(days=90)
OVERLAPS = (
    (0, gettext_lazy("not at all: it ends now")),
    (3600, gettext_lazy("for an hour")),
    (86_400, gettext_lazy("for a day")),
    (7 * 86_400, gettext_lazy("for a week")),
    (30 * 86_400, gettext_lazy("for 30 days")),
)


MYSELF = "me"


class KeyForm(PageForm):
    """A new key. `owner`: a service account's id, or MYSELF."""

    name = forms.CharField(
        label=gettext_lazy("Name"), max_length=120, help_text=gettext_lazy("What uses it, and where.")
    )
    owner = forms.ChoiceField(label=gettext_lazy("Acts for"))
    scopes = forms.MultipleChoiceField(
        label=gettext_lazy("May"), widget=forms.CheckboxSelectMultiple, required=False
    )
    expires = forms.DateField(
        label=gettext_lazy("Last day"),
        required=False,
        widget=forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d"),
        help_text=gettext_lazy("It ends with this day (UTC). Empty: it has no end."),
    )
    allowed_routes = forms.MultipleChoiceField(
        label=gettext_lazy("Models"),
        required=False,
        widget=forms.CheckboxSelectMultiple,
        help_text=gettext_lazy("None ticked: whatever its owner may use."),
    )
    networks = forms.CharField(
        label=gettext_lazy("Networks"),
        required=False,
        max_length=5000,
        widget=forms.Textarea(attrs={"rows": 3, "spellcheck": "false", "placeholder": "10.1.0.0/16"}),
        help_text=gettext_lazy("One a line. Requests from elsewhere are refused. Empty: from everywhere."),
    )

    def __init__(self, *args: Any, actor: Actor, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._offer("owner", _owners(actor))
        self._offer("scopes", _scopes(actor))
        self._offer("allowed_routes", _routes(actor))
        self.fields["expires"].widget.attrs["min"] = f"{clock.today()}"
        if not actor.can(KEYS_MANAGE):
            del self.fields["owner"]

    def _offer(self, name: str, choices: list[tuple[str, Any]]) -> None:
        field = self.fields[name]
        assert isinstance(field, forms.ChoiceField)
        field.choices = choices

    def clean_expires(self) -> datetime | None:
        day = self.cleaned_data["expires"]
        return datetime.combine(day + timedelta(days=1), time(), UTC) if day else None

    def clean_networks(self) -> list[str]:
        return self.cleaned_data["networks"].replace(",", "\n").splitlines()

    def asked(self) -> dict[str, Any]:
        """What `tenants.keys.create_key` is asked for."""
        values = dict(self.cleaned_data)
        owner = values.pop("owner", MYSELF)
        values["allowed_networks"] = values.pop("networks")
        return {**values, "service_account_id": None if owner == MYSELF else UUID(owner)}


class OverlapForm(PageForm):
    overlap = forms.TypedChoiceField(
        label=gettext_lazy("The old key works on"), coerce=int, choices=OVERLAPS, initial=86_400
    )


class Row(NamedTuple):
    """A key as the table shows it. may_change: whether whoever looks may revoke it."""

    key: ApiKey
    owner: str
    scopes: list[str]
    look: State
    may_change: bool


@require_safe
@tenant_view()
def page(request: TenantRequest) -> HttpResponse:
    actor = request.actor
    everything = keys.keys(actor)
    listing = Listing(request, _filtered(request, everything), COLUMNS, kept=("state", "owner"))
    if request.GET.get("format") == "csv":
        return _csv(actor, listing)
    context = {
        "title": _("API keys"),
        "listing": listing,
        "rows": rows_of(actor, list(listing.page)),
        "sees_all": _sees_all(actor),
        "may_create": may_create(actor),
        "states": STATES,
        "owners": OWNERS if _sees_all(actor) else (),
        "state": request.GET.get("state", ""),
        "owner": request.GET.get("owner", ""),
        "actions": [("revoke", _("Revoke…"), True)],
    }
    return render(request, "administration/keys.html", context)


@require_safe
@tenant_view()
def one(request: TenantRequest, key_id: UUID) -> HttpResponse:
    key = _visible(request.actor, key_id)
    (row,) = rows_of(request.actor, [key])
    context = {
        "title": key.name,
        "row": row,
        "key": key,
        "scopes": [Scope(scope).label for scope in key.scopes],
        "successor": ApiKey.objects.filter(rotates=key).first(),
        "may_rotate": _may_rotate(request.actor, key) and key.is_valid and not key.successor_made,
        "may_revoke": row.may_change and key.is_valid,
    }
    return render(request, "administration/key.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
@tenant_view()
def create(request: TenantRequest) -> HttpResponse:
    actor = request.actor
    if not may_create(actor):
        raise NotVisible(API_USE)
    initial = {
        "expires": clock.today() + USUAL_LIFE,
        "scopes": [Scope.INFERENCE],
        "owner": request.GET.get("account", MYSELF),
    }
    form = KeyForm(*posted(request), actor=actor, initial=initial)
    if form.is_bound and form.is_valid():
        made = attempt(form, lambda: keys.create_key(actor=actor, **form.asked()))
        if not isinstance(made, Failed):
            return _shown_once(request, *made)
    context = {"title": _("New API key"), "form": form}
    return render(request, "administration/key_new.html", context, status=status_of(form))


@require_http_methods(["GET", "HEAD", "POST"])
@tenant_view()
def rotate(request: TenantRequest, key_id: UUID) -> HttpResponse:
    actor, key = request.actor, _visible(request.actor, key_id)
    if not _may_rotate(actor, key):
        raise NotVisible("key")
    form = OverlapForm(request.POST if is_confirmed(request) else None)
    if form.is_bound and form.is_valid():
        overlap = timedelta(seconds=form.cleaned_data["overlap"])
        made = attempt(form, lambda: keys.rotate_key(actor=actor, key_id=key_id, overlap=overlap))
        if not isinstance(made, Failed):
            return _shown_once(request, *made)
    question = Question(
        title=_("Rotate “%(name)s”?") % {"name": key.name},
        text=_("A new key with the same rights takes its place. Its text is shown once, on the next page."),
        button=_("Rotate"),
        action=reverse("key_rotate", args=[actor.tenant_slug, key_id]),
        back=reverse("key", args=[actor.tenant_slug, key_id]),
        form=form,
        is_danger=False,
    )
    return ask(request, question)


@require_http_methods(["GET", "HEAD", "POST"])
@tenant_view()
def revoke(request: TenantRequest, key_id: UUID) -> HttpResponse:
    key = _changeable(request.actor, key_id)
    action = reverse("key_revoke", args=[request.actor.tenant_slug, key_id])
    back = reverse("key", args=[request.actor.tenant_slug, key_id])
    return _revoked(request, [key], action=action, back=back)


@require_POST
@tenant_view()
def revoke_selected(request: TenantRequest) -> HttpResponse:
    """What is ticked in the list."""
    found = keys.keys(request.actor).filter(pk__in=selected(request, UUID), revoked=None)
    chosen = [key for key in found if _may_change(request.actor, key)]
    back = reverse("keys", args=[request.actor.tenant_slug])
    if not chosen:
        messages.error(request, _("Tick the keys first."))
        return redirect(back)
    action = reverse("keys_revoke", args=[request.actor.tenant_slug])
    return _revoked(request, chosen, action=action, back=back)


def _revoked(request: TenantRequest, chosen: list[ApiKey], *, action: str, back: str) -> HttpResponse:
    count = len(chosen)
    if is_confirmed(request):
        for key in chosen:
            keys.revoke_key(actor=request.actor, key_id=key.pk)
        words = ngettext("%(count)d key was revoked.", "%(count)d keys were revoked.", count)
        messages.success(request, words % {"count": count})
        return redirect(back)
    title = ngettext("Revoke this key?", "Revoke these %(count)d keys?", count) % {"count": count}
    question = Question(
        title=title,
        text=_(
            "Programs that use it stop within a second, in the middle of an answer. This cannot be undone."
        ),
        names=[f"{key.name} · {_owner(key)}" for key in chosen],
        button=_("Revoke"),
        action=action,
        back=back,
        hidden=[("selected", str(key.pk)) for key in chosen],
    )
    return ask(request, question)


def rows_of(actor: Actor, found: list[ApiKey]) -> list[Row]:
    """Keys with what they are now, which depends on their owners too."""
    held = permissions_of_keys([key.pk for key in found])
    return [
        Row(
            key,
            _owner(key),
            [str(SCOPE_WORDS[scope]) for scope in key.scopes],
            _look(key, held.get(key.pk)),
            _may_change(actor, key),
        )
        for key in found
    ]


def may_create(actor: Actor) -> bool:
    return actor.can(API_USE) or actor.can(KEYS_MANAGE)


def _look(key: ApiKey, held: frozenset[str] | None) -> State:
    """`held`: what the key may do now; None when it is not accepted at all."""
    if key.revoked:
        return State("", "s-no", _("Revoked"))
    if not key.is_valid:
        return State("", "s-time", _("Ended"))
    if held is None:
        return State("warn", "s-off", _("Owner is disabled"))
    if not held:
        return State("warn", "s-warn", _("Allows nothing"))
    if key.successor_made:
        return State("warn", "s-time", _("Being replaced"))
    return State("ok", "s-ok", _("Works"))


def _owner(key: ApiKey) -> str:
    return key.user.email if key.user else str(key.service_account)


def _sees_all(actor: Actor) -> bool:
    return actor.can(KEYS_MANAGE) or actor.can(ADMINISTRATION_VIEW)


def _may_change(actor: Actor, key: ApiKey) -> bool:
    return actor.can(KEYS_MANAGE) or (actor.can(API_USE) and key.user_id == actor.user_id)


def _may_rotate(actor: Actor, key: ApiKey) -> bool:
    """A person's key is replaced by that person alone, to whom the new one is shown."""
    return _may_change(actor, key) and key.user_id in (None, actor.user_id)


def _visible(actor: Actor, key_id: UUID) -> ApiKey:
    key = keys.keys(actor).select_related("rotates").filter(pk=key_id).first()
    if key is None:
        raise NotVisible("key")
    return key


def _changeable(actor: Actor, key_id: UUID) -> ApiKey:
    key = _visible(actor, key_id)
    if not _may_change(actor, key):
        raise NotVisible("key")
    return key


def _filtered(request: TenantRequest, found: QuerySet[ApiKey]) -> QuerySet[ApiKey]:
    for word in search_words(request.GET.get("q", "")):
        named = Q(name__icontains=word) | Q(prefix__startswith=word)
        found = found.filter(
            named | Q(user__email__icontains=word) | Q(service_account__name__icontains=word)
        )
    valid = Q(revoked=None) & (Q(expires=None) | Q(expires__gt=clock.now()))
    by_state = {"valid": valid, "ended": ~valid}
    by_owner = {
        "me": Q(user_id=request.actor.user_id),
        "people": Q(service_account=None),
        "programs": Q(user=None),
    }
    nothing = Q()
    return found.filter(
        by_state.get(request.GET.get("state", ""), nothing),
        by_owner.get(request.GET.get("owner", ""), nothing),
    )


def _csv(actor: Actor, listing: Listing) -> HttpResponse:
    heading = [
        _("Name"),
        _("Acts for"),
        _("Beginning of its text"),
        _("May"),
        _("Models"),
        _("Networks"),
        _("Made"),
        _("Last used"),
        _("Ends"),
        _("Revoked"),
    ]
    rows = (
        [
            key.name,
            _owner(key),
            key.prefix,
            " ".join(key.scopes),
            " ".join(key.allowed_routes),
            " ".join(key.networks),
            *(
                when.isoformat() if when else ""
                for when in (key.created, key.last_used, key.expires, key.revoked)
            ),
        ]
        for key in listing.rows
    )
    return csv_response(f"{actor.tenant_slug}-api-keys", heading, list(rows))


def _owners(actor: Actor) -> list[tuple[str, Any]]:
    """Whom a new key can act for."""
    if not actor.can(KEYS_MANAGE):
        return [(MYSELF, _("Myself"))]
    accounts = keys.service_accounts(actor).filter(disabled=None)
    own: list[tuple[str, Any]] = [(MYSELF, _("Myself"))] if actor.can(API_USE) else []
    return own + [(str(account.pk), account.name) for account in accounts]


def _scopes(actor: Actor) -> list[tuple[str, Any]]:
    """Those that would allow the actor's own key something; whoever manages keys gives any to service accounts."""
    return [
        (scope.value, scope.label)
        for scope in Scope
        if actor.can(KEYS_MANAGE) or permissions_in_scopes(actor.permissions, [scope])
    ]


def _routes(actor: Actor) -> list[tuple[str, Any]]:
    """For service accounts all names of the tenant; what their grants do not allow stays closed all the same."""
    routes = Route.objects.order_by("name") if actor.can(KEYS_MANAGE) else usable_routes(actor)
    return [(route.name, f"{route.label} ({route.name})") for route in routes]


def _shown_once(request: TenantRequest, key: ApiKey, text: str) -> HttpResponse:
    """The page that shows a key's text, this once: nothing keeps it, and `no-store` keeps it out of caches."""
    default = Route.objects.filter(is_default=True).values_list("name", flat=True).first()
    context = {
        "title": _("Copy the key now"),
        "key": key,
        "text": text,
        "base_url": request.build_absolute_uri("/v1"),
        "model": next(iter(key.allowed_routes), default or "MODEL"),
        "uses_models": Scope.INFERENCE in key.scopes,
    }
    return render(request, "administration/key_shown.html", context)
