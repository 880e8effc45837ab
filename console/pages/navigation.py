"""What the sidebar and the command palette offer: only what the signed-in person may open."""

from dataclasses import dataclass
from typing import NamedTuple

from django.http import HttpRequest
from django.urls import reverse
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from console.monitoring import rules
from console.pages import tabs
from console.pages.administration.areas import AREAS as ADMINISTRATION
from console.pages.audit.areas import AREAS as AUDIT
from knowledge.access import visible_bases
from tenants.access import Actor, memberships_of
from tenants.models import Tenant, User
from tenants.roles import (
    ADMINISTRATION_VIEW,
    AUDIT_LIST,
    CHAT_USE,
    KNOWLEDGE_CURATE,
    OVERVIEW_VIEW,
    PEOPLE_MANAGE,
    Duty,
    duties_of,
)


class Area(NamedTuple):
    """permissions: one of these opens it."""

    permissions: tuple[str, ...]
    url_name: str
    label: str | Promise
    icon: str

    def is_open_to(self, actor: Actor) -> bool:
        return any(map(actor.can, self.permissions))


AREAS = (
    Area((OVERVIEW_VIEW,), "overview", _("Overview"), "overview"),
    Area((CHAT_USE,), "chat", _("Chat"), "chat"),
    Area((CHAT_USE, KNOWLEDGE_CURATE), "knowledge", _("Knowledge"), "knowledge"),
    Area((AUDIT_LIST,), "audit", _("Audit"), "audit"),
)


@dataclass(frozen=True)
class Link:
    url: str
    label: str
    icon: str
    current: bool
    waiting: int = 0


@dataclass(frozen=True)
class Sidebar:
    """actor: None on pages outside a tenant. tenants: those the person can switch to, the current one included."""

    actor: Actor | None
    tenants: list[Tenant]
    links: list[Link]
    platform: Link | None
    conversations: str  # Where the palette finds the person's own conversations; "" without a chat.
    found: str  # Where it finds people and groups; "" for those who may not see them.
    areas: list[dict[str, str]]  # The tabs of administration and audit, as `tabs.for_palette` tells them.


def person(request: HttpRequest) -> User:
    """Who is signed in, on pages that only people who are can reach."""
    assert isinstance(request.user, User)
    return request.user


def sidebar(request: HttpRequest) -> Sidebar:
    user = person(request)
    actor: Actor | None = getattr(request, "actor", None)
    platform_url = reverse("platform")
    return Sidebar(
        actor=actor,
        tenants=[membership.tenant for membership in memberships_of(user)],
        links=_links(actor, request.path) if actor else [],
        platform=Link(
            platform_url,
            str(_("Platform")),
            "platform",
            request.path.startswith(platform_url),
            rules.firing(),
        )
        if user.is_platform_administrator
        else None,
        conversations=reverse("palette", args=[actor.tenant_slug]) if actor and actor.can(CHAT_USE) else "",
        found=reverse("find", args=[actor.tenant_slug]) if actor and _sees_people(actor) else "",
        areas=tabs.for_palette(actor, (*ADMINISTRATION, *AUDIT)) if actor else [],
    )


def _sees_people(actor: Actor) -> bool:
    return actor.can(ADMINISTRATION_VIEW) or actor.can(PEOPLE_MANAGE)


def _links(actor: Actor, path: str) -> list[Link]:
    links = []
    for area in AREAS:
        if area.is_open_to(actor) and (area.url_name != "knowledge" or _has_knowledge(actor)):
            url = reverse(area.url_name, args=[actor.tenant_slug])
            links.append(Link(url, str(area.label), area.icon, path.startswith(url)))
    if own := tabs.open_to(actor, ADMINISTRATION):
        # Most people find their own keys and usage there, and nothing to administer.
        administers = actor.can(ADMINISTRATION_VIEW) or Duty.ADMINISTER in duties_of(actor.permissions)
        label = _("Administration") if administers else _("API keys and usage")
        home = reverse("administration", args=[actor.tenant_slug])
        url = reverse(own[0].url_name, args=[actor.tenant_slug])
        links.append(Link(url, str(label), "people", path.startswith(home)))
    return links


def _has_knowledge(actor: Actor) -> bool:
    """Whether there is a base that they may ask, or may be one that they make."""
    return actor.can(KNOWLEDGE_CURATE) or visible_bases(actor).exists()


def landing(actor: Actor) -> str | None:
    """Where a person starts in a tenant: the first area they may open, or None when there is none."""
    for area in AREAS:
        if area.is_open_to(actor):
            return reverse(area.url_name, args=[actor.tenant_slug])
    return None
