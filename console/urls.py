"""Addresses. Everything of a tenant lives under `/t/<slug>/`, so that a link says whose it is."""

import importlib.util

from django.urls import include, path

from console import operations

urlpatterns = [
    path("healthz", operations.healthz, name="healthz"),
    path("readyz", operations.readyz, name="readyz"),
    path("metrics", operations.metrics, name="metrics"),
    path("metrics/inference", operations.inference_metrics, name="inference_metrics"),
]


def _have(name: str) -> bool:  # TEMPORARY while parts land
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


if _have("console.api.urls"):
    urlpatterns += [path("v1/", include("console.api.urls"))]
if _have("console.chat.urls"):
    urlpatterns += [path("t/<slug:slug>/chat/", include("console.chat.urls"))]
if _have("console.pages.urls"):
    urlpatterns += [path("", include("console.pages.urls"))]
if _have("console.pages.errors"):
    handler400 = "console.pages.errors.bad_request"
    handler403 = "console.pages.errors.forbidden"
    handler404 = "console.pages.errors.not_found"
    handler500 = "console.pages.errors.server_error"
