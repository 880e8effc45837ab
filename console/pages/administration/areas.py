"""The tabs of the administration, in one place: a page is found by adding a line here and one in urls.py."""

from typing import NamedTuple

from django.conf import settings
from django.http import HttpRequest
from django.urls import reverse
from django.utils import translation
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from tenants.actors import Actor
from tenants.roles import (
    ADMINISTRATION_VIEW,
    API_USE,
    CHAT_USE,
    GRANTS_MANAGE,
    KEYS_MANAGE,
    MODELS_OPERATE,
    PEOPLE_MANAGE,
    QUOTAS_MANAGE,
    ROLES_MANAGE,
    SETTINGS_MANAGE,
    SIGN_IN_MANAGE,
    TENANT_CLOSE,
    USAGE_VIEW,
)


class Area(NamedTuple):
    """permission: one of these opens it."""

    url_name: str
    label: str | Promise
    permissions: tuple[str, ...] = (ADMINISTRATION_VIEW,)


AREAS: tuple[Area, ...] = (
    Area("people", _("People"), (ADMINISTRATION_VIEW, PEOPLE_MANAGE)),
    Area("invitations", _("Invitations"), (ADMINISTRATION_VIEW, PEOPLE_MANAGE)),
    Area("groups", _("Groups"), (ADMINISTRATION_VIEW, PEOPLE_MANAGE)),
    Area("roles", _("Roles"), (ADMINISTRATION_VIEW, ROLES_MANAGE)),
    Area("access", _("Access"), (ADMINISTRATION_VIEW, GRANTS_MANAGE, MODELS_OPERATE)),
    Area("keys", _("API keys"), (API_USE, KEYS_MANAGE, ADMINISTRATION_VIEW)),
    Area("quotas", _("Quotas"), (ADMINISTRATION_VIEW, QUOTAS_MANAGE)),
    Area("usage", _("Usage"), (USAGE_VIEW, CHAT_USE, API_USE)),
    Area("sign_in_administration", _("Sign-in"), (ADMINISTRATION_VIEW, SIGN_IN_MANAGE)),
    Area("settings", _("Settings"), (ADMINISTRATION_VIEW, SETTINGS_MANAGE, TENANT_CLOSE)),
)


class Tab(NamedTuple):
    url: str
    label: str
    current: bool


def areas_for(actor: Actor) -> list[Area]:
    """Those the actor may open."""
    return [area for area in AREAS if any(actor.can(permission) for permission in area.permissions)]


def for_palette(actor: Actor) -> list[dict[str, str]]:
    """What the command palette finds: {"label", "also", "url"}. also: the same words in every language."""
    found = []
    for area in areas_for(actor):
        label, also = str(area.label), []
        for language, _name in settings.LANGUAGES:
            with translation.override(language):
                also.append(str(area.label))
        url = reverse(area.url_name, args=[actor.tenant_slug])
        found.append({"label": label, "also": " ".join(also), "url": url})
    return found


def tabs(request: HttpRequest, actor: Actor) -> list[Tab]:
    """The tabs for this person, the one that is open marked."""
    found = []
    for area in areas_for(actor):
        url = reverse(area.url_name, args=[actor.tenant_slug])
        found.append(Tab(url, str(area.label), request.path.startswith(url)))
    return found
