"""Which protocol goes where: HTTP to Django, websockets to Channels, the server's life to the generations."""

from collections.abc import Awaitable, Callable
from typing import Any

from channels.routing import ProtocolTypeRouter, URLRouter
from channels.security.websocket import AllowedHostsOriginValidator, OriginValidator
from channels.sessions import SessionMiddlewareStack
from django.conf import settings
from django.core.asgi import get_asgi_application

from console.api.body_limit import BodyLimit
from console.api.departure import Attended
from console.chat.routing import websocket_urlpatterns
from inference.generation.lifespan import lifespan

Application = Callable[[dict[str, Any], Any, Any], Awaitable[None]]


def same_origin(application: Application) -> Application:
    """Open a websocket for our own pages and the trusted origins only, as Django does with forms.

    The allowed hosts alone would let in the pages of another port, which the browser gives the same cookies.
    """

    async def guarded(scope: dict[str, Any], receive: Any, send: Any) -> None:
        host = dict(scope["headers"]).get(b"host", b"").decode("latin-1")
        scheme = "https" if scope.get("scheme") == "wss" else "http"
        origins = [f"{scheme}://{host}", *settings.CSRF_TRUSTED_ORIGINS]
        await OriginValidator(application, origins)(scope, receive, send)

    return guarded


application = ProtocolTypeRouter(
    {
        "http": Attended(BodyLimit(get_asgi_application(), limit=settings.DATA_UPLOAD_MAX_MEMORY_SIZE)),
        "lifespan": lifespan,
        # The session alone: who it belongs to is asked by the consumer, for each message anew.
        "websocket": AllowedHostsOriginValidator(
            same_origin(SessionMiddlewareStack(URLRouter(websocket_urlpatterns)))
        ),
    }
)
