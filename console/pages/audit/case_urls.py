"""Addresses of cases, below `/t/<slug>/audit/cases/`."""

from django.urls import path

from console.pages.audit import case, case_report, cases

urlpatterns = [
    path("", cases.page, name="cases"),
    path("new/", cases.create, name="case_new"),
    path("join", cases.join, name="case_join"),
    path("<uuid:case_id>/", case.page, name="case"),
    path("<uuid:case_id>/details/", case.details, name="case_details"),
    path("<uuid:case_id>/act/<slug:action>", case.act, name="case_act"),
    path("<uuid:case_id>/files/<uuid:file_id>", case.file, name="case_file"),
    path("<uuid:case_id>/records/<uuid:request_id>/", case_report.record, name="case_record"),
    path("<uuid:case_id>/report", case_report.report, name="case_report"),
]
