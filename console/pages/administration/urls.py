"""Addresses under `/t/<slug>/administration/`."""

from django.urls import path

from console.pages.administration import home

urlpatterns = [
    path("", home.first, name="administration"),
]
