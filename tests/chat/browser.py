"""A browser tab for tests: a signed-in websocket and what it has been told."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Callable
from typing import Any

from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.sessions.backends.db import SessionStore
from websockets.asyncio.client import ClientConnection, connect

from tenants.models import User
from tests.chat.stack import Stack

QUESTION = "Write two sentences about rivers."


def new_session(user: User) -> str:
    """A signed-in session's key."""
    session = SessionStore()
    session[SESSION_KEY] = str(user.pk)
    session[BACKEND_SESSION_KEY] = settings.AUTHENTICATION_BACKENDS[0]
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.save()
    return session.session_key or ""


class Tab:
    """One websocket. `frames` holds everything received, in order."""

    def __init__(self, connection: ClientConnection, session_key: str) -> None:
        self.connection, self.session_key = connection, session_key
        self.frames: list[dict[str, Any]] = []

    async def send(self, **frame: Any) -> None:
        await self.connection.send(json.dumps(frame))

    async def receive(self, timeout_s: float = 60) -> dict[str, Any]:
        frame = json.loads(await asyncio.wait_for(self.connection.recv(), timeout_s))
        self.frames.append(frame)
        return frame

    async def until(
        self, wanted: str | Callable[[dict[str, Any]], bool], timeout_s: float = 60
    ) -> dict[str, Any]:
        """The next frame of that type, or for which `wanted` holds."""
        async with asyncio.timeout(timeout_s):
            while True:
                frame = await self.receive()
                if frame["type"] == wanted if isinstance(wanted, str) else wanted(frame):
                    return frame

    async def ask(self, text: str = QUESTION, **fields: Any) -> dict[str, Any]:
        """Ask, and return the `accepted` frame."""
        await self.send(
            **{"type": "ask", "client_id": str(uuid.uuid4()), "conversation": None, "route": None}
            | {"text": text, **fields}
        )
        return await self.until("accepted")

    async def close_code(self, timeout_s: float = 5) -> int | None:
        """The code the server closes with."""
        await asyncio.wait_for(self.connection.wait_closed(), timeout_s)
        return self.connection.close_code

    def text_of(self, generation: str) -> str:
        """All text received for a generation, each sequence number once."""
        pieces = {
            f["seq"]: f["text"] for f in self.frames if f["type"] == "delta" and f["generation"] == generation
        }
        return "".join(pieces[seq] for seq in sorted(pieces))


class Browser:
    """Opens tabs of one stack, and closes them at the end."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._tabs: list[Tab] = []

    async def open(
        self, user: User, slug: str, *, session_key: str | None = None, origin: str | None = None
    ) -> Tab:
        """A tab that was greeted."""
        tab = await self.open_raw(user, slug, session_key=session_key, origin=origin)
        assert (await tab.receive())["type"] == "hello"
        return tab

    async def open_raw(
        self, user: User, slug: str, *, session_key: str | None = None, origin: str | None = None
    ) -> Tab:
        key = session_key if session_key is not None else await sync_to_async(new_session)(user)
        connection = await connect(
            self._stack.socket_url(slug),
            origin=origin or self._stack.web.url,
            additional_headers={"Cookie": f"{self._stack.session_cookie_name}={key}"} if key else {},
            proxy=None,
            max_size=None,
        )
        tab = Tab(connection, key)
        self._tabs.append(tab)
        return tab

    async def close(self) -> None:
        for tab in self._tabs:
            await tab.connection.close()
