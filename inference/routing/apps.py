from django.apps import AppConfig


class RoutingConfig(AppConfig):
    name = "inference.routing"
    label = "routing"
