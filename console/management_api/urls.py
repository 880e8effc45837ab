"""Addresses of the management API."""

from django.urls import path, re_path

from console.management_api import problems
from console.management_api.api import api

urlpatterns = [
    path("", api.urls),
    re_path("", problems.not_found, name="management_api_unknown"),
]
