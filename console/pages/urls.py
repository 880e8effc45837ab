"""Addresses of the pages; the chat has its own under `/t/<slug>/chat/`."""

from django.urls import include, path
from django.views.i18n import set_language

from console.pages import home, overview, platform, platform_keys, platform_tenants
from console.pages.administration import settings

urlpatterns = [
    path("", home.home, name="home"),
    path("language/", set_language, name="set_language"),
    path("platform/", platform.page, name="platform"),
    path("platform/data", platform.data, name="platform_data"),
    path("platform/", include("console.pages.monitoring.urls")),
    path("platform/keys/", platform_keys.page, name="platform_keys"),
    path("platform/keys/rotate", platform_keys.rotate_master, name="platform_keys_rotate"),
    path("platform/keys/<slug:slug>/rotate", platform_keys.rotate_tenant, name="platform_keys_rotate_tenant"),
    path("platform/deployments/", include("console.pages.deployments.urls")),
    path("platform/models/", include("console.pages.models.urls")),
    path("platform/rollouts/", include("console.pages.rollouts.urls")),
    path("platform/tenants/", platform_tenants.page, name="platform_tenants"),
    path("platform/tenants/new/", platform_tenants.create, name="platform_tenant_new"),
    path("platform/tenants/<slug:slug>/", platform_tenants.one, name="platform_tenant"),
    path("platform/tenants/<slug:slug>/owners", platform_tenants.invite_owner, name="platform_owner_invite"),
    path(
        "platform/tenants/<slug:slug>/owners/<uuid:invitation_id>/revoke",
        platform_tenants.revoke_owner,
        name="platform_owner_revoke",
    ),
    path("platform/tenants/<slug:slug>/ceilings", platform_tenants.set_ceiling, name="platform_ceiling_set"),
    path(
        "platform/tenants/<slug:slug>/ceilings/remove",
        platform_tenants.remove_ceiling,
        name="platform_ceiling_remove",
    ),
    path("platform/tenants/<slug:slug>/delete", platform_tenants.delete, name="platform_tenant_delete"),
    path(
        "platform/tenants/<slug:slug>/turn/<slug:action>", platform_tenants.turn, name="platform_tenant_turn"
    ),
    path("t/<slug:slug>/", home.tenant, name="tenant"),
    path("t/<slug:slug>/palette", home.palette, name="palette"),
    path("t/<slug:slug>/overview/", overview.page, name="overview"),
    path("t/<slug:slug>/overview/data", overview.data, name="overview_data"),
    path("t/<slug:slug>/logo", settings.logo_picture, name="logo"),
    path("t/<slug:slug>/administration/", include("console.pages.administration.urls")),
    path("t/<slug:slug>/knowledge/", include("console.pages.knowledge.urls")),
    path("t/<slug:slug>/audit/", include("console.pages.audit.urls")),
]
