from django.apps import AppConfig


class SignInConfig(AppConfig):
    name = "console.sign_in"
    label = "sign_in"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from console.sign_in import signals

        signals.connect()
