from django.apps import AppConfig


class DeploymentsConfig(AppConfig):
    name = "inference.deployments"
    label = "deployments"
