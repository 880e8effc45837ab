"""Addresses of the pages; the chat has its own under `/t/<slug>/chat/`."""

from django.urls import include, path
from django.views.i18n import set_language

from console.pages import audit, home, overview, platform

urlpatterns = [
    path("", home.home, name="home"),
    path("language/", set_language, name="set_language"),
    path("platform/", platform.page, name="platform"),
    path("platform/data", platform.data, name="platform_data"),
    path("t/<slug:slug>/", home.tenant, name="tenant"),
    path("t/<slug:slug>/palette", home.palette, name="palette"),
    path("t/<slug:slug>/overview/", overview.page, name="overview"),
    path("t/<slug:slug>/overview/data", overview.data, name="overview_data"),
    path("t/<slug:slug>/administration/", include("console.pages.administration.urls")),
    path("t/<slug:slug>/audit/", audit.records, name="audit"),
    path("t/<slug:slug>/audit/<uuid:request_id>/", audit.record, name="audit_record"),
]
