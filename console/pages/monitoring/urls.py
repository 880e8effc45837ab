"""Addresses below `/platform/`."""

from django.urls import path

from console.pages.monitoring import alerts, channels, dashboard, rules, span

urlpatterns = [
    path("monitoring/", dashboard.page, name="monitoring"),
    path("monitoring/data", dashboard.data, name="monitoring_data"),
    path("monitoring/span/", span.page, name="monitoring_span"),
    path("alerts/", alerts.page, name="alerts"),
    path("alerts/history/", alerts.history, name="alert_history"),
    path("alerts/silence", alerts.silence_all, name="alerts_silence"),
    path("alerts/silences/<uuid:silence_id>/lift", alerts.lift, name="alert_silence_lift"),
    path("alerts/rules/", rules.page, name="alert_rules"),
    path("alerts/rules/new/", rules.create, name="alert_rule_new"),
    path("alerts/rules/<uuid:rule_id>/", rules.one, name="alert_rule"),
    path("alerts/rules/<uuid:rule_id>/silence", alerts.silence, name="alert_rule_silence"),
    path("alerts/rules/<uuid:rule_id>/remove", rules.remove, name="alert_rule_remove"),
    path("alerts/channels/", channels.page, name="alert_channels"),
    path("alerts/channels/new/<slug:kind>/", channels.create, name="alert_channel_new"),
    path("alerts/channels/<uuid:channel_id>/", channels.one, name="alert_channel"),
    path("alerts/channels/<uuid:channel_id>/test", channels.try_out, name="alert_channel_test"),
    path("alerts/channels/<uuid:channel_id>/secret", channels.secret, name="alert_channel_secret"),
    path("alerts/channels/<uuid:channel_id>/remove", channels.remove, name="alert_channel_remove"),
    path("alerts/<uuid:alert_id>/acknowledge", alerts.acknowledge, name="alert_acknowledge"),
]
