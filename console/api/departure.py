"""Tells what works for a request, at once and for certain, that its client has left.

Django itself answers a departure by cancelling the task of the request. That alone loses some: a synchronous
middleware may swallow the cancellation, and a response that it meets on its way out is dropped without being closed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.http import HttpRequest

from console.api.body_limit import Application, Message, Receive, Send

_KEY = "custos.departure"


class Departure:
    """The moment from which nobody waits for a request's answer, be it complete or not."""

    def __init__(self) -> None:
        self._happened = False
        self._consequences: list[Callable[[], None]] = []

    def then(self, do: Callable[[], None]) -> None:
        """Call `do` in the event loop when it happens, or right now when it has happened."""
        if self._happened:
            do()
        else:
            self._consequences.append(do)

    def happen(self) -> None:
        self._happened = True
        while self._consequences:
            self._consequences.pop()()


def departure_of(request: HttpRequest) -> Departure:
    """Of a request that came through `Attended`."""
    return request.scope[_KEY]  # type: ignore[attr-defined]


class Attended:
    """Wraps an ASGI application whose HTTP requests have a departure: when the server tells of it, or at their end."""

    def __init__(self, application: Application) -> None:
        self._application = application

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        departure = scope[_KEY] = Departure()

        async def receive_and_tell() -> Message:
            message = await receive()
            if message["type"] == "http.disconnect":
                departure.happen()
            return message

        try:
            await self._application(scope, receive_and_tell, send)
        finally:
            departure.happen()
