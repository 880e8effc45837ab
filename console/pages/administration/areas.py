"""The tabs of the administration, in one place: a page is found by adding a line here and one in urls.py."""

from django.utils.translation import gettext_lazy as _

from console.pages.tabs import Area
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

AREAS: tuple[Area, ...] = (
    Area("people", _("People"), (ADMINISTRATION_VIEW, PEOPLE_MANAGE)),
    Area("invitations", _("Invitations"), (ADMINISTRATION_VIEW, PEOPLE_MANAGE)),
    Area("groups", _("Groups"), (ADMINISTRATION_VIEW, PEOPLE_MANAGE)),
    Area("roles", _("Roles"), (ADMINISTRATION_VIEW, ROLES_MANAGE)),
    Area("access", _("Access"), (ADMINISTRATION_VIEW, GRANTS_MANAGE, MODELS_OPERATE)),
    Area("models_here", _("Models"), (MODELS_OPERATE,)),
    Area("keys", _("API keys"), (API_USE, KEYS_MANAGE, ADMINISTRATION_VIEW)),
    Area("quotas", _("Quotas"), (ADMINISTRATION_VIEW, QUOTAS_MANAGE)),
    Area("usage", _("Usage"), (USAGE_VIEW, CHAT_USE, API_USE)),
    Area("sign_in_administration", _("Sign-in"), (ADMINISTRATION_VIEW, SIGN_IN_MANAGE)),
    Area("settings", _("Settings"), (ADMINISTRATION_VIEW, SETTINGS_MANAGE, TENANT_CLOSE)),
)
