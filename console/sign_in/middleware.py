"""Remembers when and from where each session was last used, for the list of one's own sessions."""

import time
from collections import OrderedDict
from collections.abc import Callable
from threading import Lock
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.conf import settings
from django.http import HttpRequest
from django.utils.decorators import sync_and_async_middleware

from console.sign_in import sessions
from tenants.database import in_database

PRECISION_S = 60.0
REMEMBERED = 10_000


class _Recently:
    """Session keys seen within PRECISION_S by this process: for them nothing is written."""

    def __init__(self) -> None:
        self._until: OrderedDict[str, float] = OrderedDict()
        self._lock = Lock()

    def is_new(self, key: str) -> bool:
        """Whether the key was not seen lately; it counts as seen from now on."""
        now = time.monotonic()
        with self._lock:
            if self._until.get(key, 0.0) > now:
                return False
            self._until[key] = now + PRECISION_S
            self._until.move_to_end(key)
            while len(self._until) > REMEMBERED:
                self._until.popitem(last=False)
            return True


_recently = _Recently()


@sync_and_async_middleware
def remember_session(get_response: Callable[[HttpRequest], Any]) -> Callable[[HttpRequest], Any]:
    """After an answer to a signed-in browser, note the session's time and address, at most once a minute."""

    def is_due(request: HttpRequest) -> bool:
        # A page that asked for nobody's session has none loaded, and none is loaded for this.
        key = request.COOKIES.get(settings.SESSION_COOKIE_NAME)
        return key is not None and request.session.accessed and _recently.is_new(key)

    if not iscoroutinefunction(get_response):

        def middleware(request: HttpRequest) -> Any:
            response = get_response(request)
            if is_due(request):
                sessions.remember(request)
            return response

        return middleware

    async def async_middleware(request: HttpRequest) -> Any:
        response = await get_response(request)
        if is_due(request):
            await in_database(sessions.remember, request)
        return response

    return async_middleware
