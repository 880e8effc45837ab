"""Addresses. Everything of a tenant lives under `/t/<slug>/`, so that a link says whose it is."""

from django.urls import include, path

from console import operations
from console.sign_in import emergency

urlpatterns = [
    path("healthz", operations.healthz, name="healthz"),
    path("readyz", operations.readyz, name="readyz"),
    path("metrics", operations.metrics, name="metrics"),
    path("metrics/inference", operations.inference_metrics, name="inference_metrics"),
    path("v1/", include("console.api.urls")),
    path("api/", include("console.management_api.urls")),
    path("scim/v2/", include("console.scim.urls")),
    path("t/<slug:slug>/chat/", include("console.chat.urls")),
    path("emergency/", emergency.site.urls),
    path("", include("console.sign_in.urls")),
    path("", include("console.pages.urls")),
]

handler400 = "console.pages.errors.bad_request"
handler403 = "console.pages.errors.forbidden"
handler429 = "console.pages.errors.too_many"
handler404 = "console.pages.errors.not_found"
handler500 = "console.pages.errors.server_error"
