"""The web process, for the server: `uvicorn console.asgi:application`. Refuses to start when isolation does not hold."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "console.settings")

import django

django.setup()

# What follows imports models, so it comes after Django has loaded its applications.
from console.routing import application
from console.startup import refuse_unsafe_start

refuse_unsafe_start()

__all__ = ["application"]
