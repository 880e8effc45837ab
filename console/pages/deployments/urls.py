"""Addresses of deployments, under `/platform/deployments/`."""

from django.urls import path

from console.pages.deployments import listing, new, one

urlpatterns = [
    path("", listing.page, name="deployments"),
    path("state", listing.state, name="deployments_state"),
    path("new/", new.create, name="deployment_new"),
    path("upstream/", new.create_upstream, name="deployment_upstream_new"),
    path("<uuid:deployment_id>/", one.page, name="deployment"),
    path("<uuid:deployment_id>/state", one.state, name="deployment_state"),
    path("<uuid:deployment_id>/settings", one.configure, name="deployment_configure"),
    path("<uuid:deployment_id>/key", one.set_key, name="deployment_key"),
    path("<uuid:deployment_id>/try", one.try_it, name="deployment_try"),
    path("<uuid:deployment_id>/turn/<slug:action>", one.turn, name="deployment_turn"),
]
