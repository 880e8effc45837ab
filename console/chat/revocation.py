"""Closes sockets whose owner signed out or lost access: one task per process looks twice a second.

A socket that follows an answer in a conversation which is no longer shared with its owner stays open, and gets nothing
more of that. All sockets are asked about together (sessions and users in one query each, memberships and grants a few
a tenant), so the cost does not grow with what people do. When the question cannot be answered for FAIL_CLOSED_S, every socket
is closed: without the database nobody's rights are known.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine
from typing import Any, Protocol
from weakref import WeakKeyDictionary

from console.chat.identity import SignedOut, Verdict, Visitor, judge
from tenants.access import Need
from tenants.database import in_database

logger = logging.getLogger(__name__)

EVERY_S = 0.5
FAIL_CLOSED_S = 4.0

SIGNED_OUT, NOT_FOUND, TRY_AGAIN_LATER = 4401, 4404, 1013


class Socket(Protocol):
    """What the watcher needs of a consumer."""

    visitor: Visitor

    @property
    def needs(self) -> frozenset[Need]: ...

    async def shut(self, code: int) -> None: ...

    async def unfollow(self, lost: Need) -> None: ...


class Watcher:
    """The open sockets of one event loop."""

    def __init__(self) -> None:
        self._sockets: set[Socket] = set()
        self._task: asyncio.Task[None] | None = None
        self._closing: set[asyncio.Task[None]] = set()

    def add(self, socket: Socket) -> None:
        self._sockets.add(socket)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._watch(), name="socket revocation")

    def discard(self, socket: Socket) -> None:
        self._sockets.discard(socket)

    async def _watch(self) -> None:
        last_answer = time.monotonic()
        question: asyncio.Task[Verdict] | None = None
        while self._sockets:
            await asyncio.sleep(EVERY_S)
            if question is None:
                question = asyncio.create_task(in_database(judge, self._present()))
            # A question that hangs stays the only one: a stuck database gets no pile of them.
            await asyncio.wait([question], timeout=EVERY_S)
            if question.done():
                if (error := question.exception()) is None:
                    last_answer = time.monotonic()
                    self._carry_out(question.result())
                else:
                    logger.warning("whether sockets are still allowed could not be asked", exc_info=error)
                question = None
            if time.monotonic() - last_answer > FAIL_CLOSED_S:
                logger.error("sockets are closed: whether they are still allowed cannot be known")
                self._shut(self._sockets, TRY_AGAIN_LATER)

    def _present(self) -> dict[Visitor, frozenset[Need]]:
        """Who is here, and what they follow on all of their sockets."""
        present: dict[Visitor, frozenset[Need]] = {}
        for socket in self._sockets:
            present[socket.visitor] = present.get(socket.visitor, frozenset()) | socket.needs
        return present

    def _carry_out(self, verdict: Verdict) -> None:
        for visitor, reason in verdict.gone.items():
            code = SIGNED_OUT if reason is SignedOut else NOT_FOUND
            self._shut({socket for socket in self._sockets if socket.visitor == visitor}, code)
        for visitor, lost in verdict.lost.items():
            for socket in (socket for socket in self._sockets if socket.visitor == visitor):
                for need in lost & socket.needs:
                    self._start(socket.unfollow(need))

    def _shut(self, sockets: set[Socket], code: int) -> None:
        for socket in list(sockets):
            self._sockets.discard(socket)
            self._start(socket.shut(code))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        """In a task of its own: a slow goodbye must not delay the next."""
        task = asyncio.create_task(work)
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


_of_loop: WeakKeyDictionary[asyncio.AbstractEventLoop, Watcher] = WeakKeyDictionary()


def of_this_loop() -> Watcher:
    """The running event loop's sockets; a server process has one loop."""
    loop = asyncio.get_running_loop()
    if loop not in _of_loop:
        _of_loop[loop] = Watcher()
    return _of_loop[loop]
