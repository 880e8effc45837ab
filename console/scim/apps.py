from django.apps import AppConfig


class ScimConfig(AppConfig):
    name = "console.scim"
    label = "scim"
