"""The web process: HTTP by Django, websockets by Channels."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "console.settings")

from django.core.asgi import get_asgi_application

django_application = get_asgi_application()

# What follows imports models, so it comes after Django has loaded its applications.
from channels.auth import AuthMiddlewareStack  # noqa: E402
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from channels.security.websocket import AllowedHostsOriginValidator  # noqa: E402

from console.chat.routing import websocket_urlpatterns  # noqa: E402
from console.startup import refuse_unsafe_start  # noqa: E402
from inference.generation.lifespan import lifespan  # noqa: E402

refuse_unsafe_start()

application = ProtocolTypeRouter(
    {
        "http": django_application,
        "lifespan": lifespan,
        "websocket": AllowedHostsOriginValidator(AuthMiddlewareStack(URLRouter(websocket_urlpatterns))),
    }
)
