"""Ends a request whose body is too large while it arrives: Django would first store all of it on disk."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

from inference.protocol import body_too_large

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[dict[str, Any], Receive, Any], Awaitable[None]]  # frameworks type `send` differently


class BodyLimit:
    """Wraps an ASGI application. `limit` is in bytes; what the application itself refuses may be less."""

    def __init__(self, application: Application, *, limit: int) -> None:
        self._application = application
        self._limit = limit

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return
        received, refused = 0, False

        async def receive_within_limit() -> Message:
            nonlocal received, refused
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._limit and not refused:
                refused = True
                await _refuse(send)
            return {"type": "http.disconnect"} if refused else message

        async def send_unless_refused(message: Message) -> None:
            if not refused:
                await send(message)

        await self._application(scope, receive_within_limit, send_unless_refused)


async def _refuse(send: Send) -> None:
    error = body_too_large()
    headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(error.body()).encode()})
