"""Websocket addresses."""

from __future__ import annotations

from typing import Any

from django.urls import path, re_path

from console.chat.consumer import ChatConsumer


async def nothing_here(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Refuse the handshake at any other address."""
    await send({"type": "websocket.close"})


websocket_urlpatterns = [
    path("ws/t/<slug:slug>/chat/", ChatConsumer.as_asgi()),
    re_path("", nothing_here),  # type: ignore[arg-type]  # an ASGI application, as Channels wants
]
