from django.apps import AppConfig


class RolloutsConfig(AppConfig):
    name = "inference.rollouts"
    label = "rollouts"
