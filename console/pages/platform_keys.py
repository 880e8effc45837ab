"""Keys as the platform's administrators see them: who keeps the master key, how old keys are, how a rotation goes on.

Names, times and counts; no key, wrapped or not, is ever shown.
"""

from datetime import datetime
from typing import NamedTuple

from django.contrib import messages
from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods, require_safe

from console import tasks
from console.pages.administration.confirm import Question, ask, is_confirmed
from console.pages.listing import Column, Listing
from console.pages.navigation import person
from console.pages.platform_tenants import FRAME
from console.sign_in.accounts import require_recent_sign_in
from console.tenancy import platform_tenant_view, platform_view
from tenants import clock
from tenants.actors import Actor
from tenants.errors import Refused
from tenants.keyring import inspection, providers, rotation
from tenants.keyring.errors import KeysUnavailable, Tampered
from tenants.models import Tenant
from tenants.words import search_words

COLUMNS = (
    Column("name", gettext_lazy("Name"), ("name",)),
    Column("generation", gettext_lazy("Key"), number=True),
    Column("made", gettext_lazy("Key since")),
    Column("wrapped", gettext_lazy("Wrapped since")),
    Column("data_keys", gettext_lazy("Data keys"), number=True),
    Column("destroyed", gettext_lazy("Destroyed"), number=True),
    Column("progress", gettext_lazy("Under the newest keys")),
    Column("actions", ""),
)
PROVIDERS = {
    "local": gettext_lazy("A file on this machine"),
    "aws-kms": gettext_lazy("AWS KMS"),
    "vault": gettext_lazy("Vault (transit)"),
}
LATEST = 10


class Rotation(NamedTuple):
    """What was rotated lately: a tenant's key, or its wrapping under the provider's."""

    when: datetime
    tenant: str
    what: str


@require_safe
@platform_view
def page(request: HttpRequest) -> HttpResponse:
    health = providers.health()
    found = Tenant.objects.exclude(status=Tenant.Status.DELETED).order_by("name")
    for word in search_words(request.GET.get("q", "")):
        found = found.filter(Q(name__icontains=word) | Q(slug__icontains=word))
    listing = Listing(request, found, COLUMNS)
    states = [inspection.state(tenant, key_id=health.key_id) for tenant in listing.page]
    made = [state.made for state in states if state.made]
    context = {
        "title": _("Keys"),
        "listing": listing,
        "health": health,
        "provider": PROVIDERS.get(health.name, health.name),
        "is_rotating": getattr(providers.provider(), "is_rotating", False),
        "states": states,
        "is_under_way": any(state.to_wrap or state.to_move for state in states),
        "superseded": sum(state.superseded for state in states),
        "oldest_days": (clock.now() - min(made)).days if made else None,
        "rotations": _latest(states),
    }
    return render(request, "platform/keys.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
@platform_view
def rotate_master(request: HttpRequest) -> HttpResponse:
    """A new master key at the provider, after a question and a fresh proof of who asks; the worker does the rest."""
    require_recent_sign_in(request)
    if is_confirmed(request):
        try:
            providers.provider().rotate()
        except Refused as error:
            messages.error(request, error.message)
        except KeysUnavailable:
            messages.error(request, _("The key provider does not answer, so nothing was begun."))
        else:
            tasks.rotate_keys.delay(str(person(request).pk))
            messages.success(request, _("A new master key is in use. Keys are being wrapped anew."))
        return redirect("platform_keys")
    question = Question(
        title=_("Begin with a new master key?"),
        text=_(
            "Every tenant’s key is wrapped anew, while everything goes on. Nothing stops opening meanwhile. It is "
            "recorded in every tenant. Back the new master key up afterwards."
        ),
        button=_("Rotate the master key"),
        action=reverse("platform_keys_rotate"),
        back=reverse("platform_keys"),
        is_danger=False,
    )
    return ask(request, question, frame=FRAME)


@require_http_methods(["GET", "HEAD", "POST"])
@platform_tenant_view
def rotate_tenant(request: HttpRequest, tenant: Tenant, actor: Actor) -> HttpResponse:
    """A new key for one tenant; its data keys are wrapped anew by the worker."""
    require_recent_sign_in(request)
    if is_confirmed(request):
        try:
            rotation.rotate_tenant(actor)
        except (KeysUnavailable, Tampered):
            messages.error(request, _("The key provider does not answer, so nothing was begun."))
        else:
            tasks.rotate_keys.delay_on_commit(str(person(request).pk))
            messages.success(request, _("%(name)s has a new key.") % {"name": tenant.name})
        return redirect("platform_keys")
    question = Question(
        title=_("Give %(name)s a new key?") % {"name": tenant.name},
        text=_(
            "Its data keys are wrapped anew, while everything goes on. It is recorded in the tenant’s audit."
        ),
        button=_("Rotate the key"),
        action=reverse("platform_keys_rotate_tenant", args=[tenant.slug]),
        back=reverse("platform_keys"),
        is_danger=False,
    )
    return ask(request, question, frame=FRAME)


def _latest(states: list[inspection.TenantState]) -> list[Rotation]:
    found = []
    for state in states:
        if state.generation > 1 and state.made:
            found.append(Rotation(state.made, state.name, _("New key of the tenant")))
        if state.wrapped and state.wrapped != state.made:
            found.append(Rotation(state.wrapped, state.name, _("Wrapped anew")))
    return sorted(found, reverse=True)[:LATEST]
