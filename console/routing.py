"""Which protocol goes where: HTTP to Django, websockets to Channels, the server's life to the generations."""

from channels.routing import ProtocolTypeRouter, URLRouter
from channels.security.websocket import AllowedHostsOriginValidator
from channels.sessions import SessionMiddlewareStack
from django.conf import settings
from django.core.asgi import get_asgi_application

from console.api.body_limit import BodyLimit
from console.chat.routing import websocket_urlpatterns
from inference.generation.lifespan import lifespan

application = ProtocolTypeRouter(
    {
        "http": BodyLimit(get_asgi_application(), limit=settings.DATA_UPLOAD_MAX_MEMORY_SIZE),
        "lifespan": lifespan,
        # The session alone: who it belongs to is asked by the consumer, for each message anew.
        "websocket": AllowedHostsOriginValidator(SessionMiddlewareStack(URLRouter(websocket_urlpatterns))),
    }
)
