"""Addresses of the audit's pages, below `/t/<slug>/audit/`."""

from django.urls import include, path

from console.pages.audit import records

urlpatterns = [
    path("cases/", include("console.pages.audit.case_urls")),
    path("", records.records, name="audit"),
    path("<uuid:request_id>/", records.record, name="audit_record"),
]
