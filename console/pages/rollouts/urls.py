"""Addresses of rollouts, under `/platform/rollouts/`."""

from django.urls import path

from console.pages.rollouts import listing, new, one

urlpatterns = [
    path("", listing.page, name="rollouts"),
    path("state", listing.state, name="rollouts_state"),
    path("new/", new.begin, name="rollout_new"),
    path("<uuid:rollout_id>/", one.page, name="rollout"),
    path("<uuid:rollout_id>/state", one.state, name="rollout_state"),
    path("<uuid:rollout_id>/turn/<slug:action>", one.turn, name="rollout_turn"),
]
