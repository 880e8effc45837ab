"""The chat's websocket: validated frames in, typed frames out, everything authorised anew.

Answers do not run here: they run in `inference.generation` and this socket only follows their streams, so a
reload, a second tab or another device picks them up where it left off. The channel layer carries hints ("there
is something new"), never content.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from typing import Any
from uuid import UUID

from channels.generic.websocket import AsyncWebsocketConsumer
from django import db
from django.utils.translation import gettext as _

from console.chat import exchange, frames, hints, limits, revocation, selectors
from console.chat.errors import ChatError, not_found, too_many_followed
from console.chat.identity import SignedOut, Visitor, identify, speak
from console.chat.selectors import Exchange
from inference.generation import metrics
from inference.generation.errors import GenerationError, explain
from tenants.access import Actor, Need, NotVisible
from tenants.database import in_database
from tenants.envelope import KeysUnavailable
from tenants.valkey import VALKEY_ERRORS

logger = logging.getLogger(__name__)


class ChatConsumer(AsyncWebsocketConsumer):
    """One browser tab. Errors are frames; the socket closes only when its owner may no longer be here."""

    visitor: Visitor

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._followers: dict[UUID, asyncio.Task[None]] = {}
        self._needs: dict[UUID, Need] = {}
        self._joined = self._shut = False
        self._strikes, self._struck_at = 0.0, time.monotonic()
        self._allowance, self._allowance_at = float(limits.FRAME_BURST), time.monotonic()

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            # Here rather than in `disconnect`, which an error on the way would skip.
            self._shut = True
            self._leave()

    async def connect(self) -> None:
        speak(self.scope)
        # Accepted first, because a browser cannot read why a handshake was refused.
        await self.accept()
        actor = await self._authorise()
        if actor is None:
            return
        try:
            await self.channel_layer.group_add(hints.group_of(actor), self.channel_name)
        except VALKEY_ERRORS:
            await self.shut(revocation.TRY_AGAIN_LATER)
            return
        self._join()
        await self._send("hello", tenant=actor.tenant_slug, limits={"text_bytes": limits.TEXT_BYTES})

    async def disconnect(self, code: int) -> None:
        self._shut = True
        if self._joined:
            with contextlib.suppress(*VALKEY_ERRORS):
                await self.channel_layer.group_discard(hints.group_of(self.visitor.actor), self.channel_name)

    @property
    def needs(self) -> frozenset[Need]:
        """What following the answers that are followed now depends on."""
        return frozenset(self._needs.values())

    async def unfollow(self, lost: Need) -> None:
        """Deliver nothing more of what depended on it; the socket stays open."""
        missing = not_found()
        for generation in [each for each, need in self._needs.items() if need == lost]:
            if (task := self._followers.pop(generation, None)) is not None:
                task.cancel()
            self._needs.pop(generation, None)
            await self._send_error(missing.code, str(missing.message), generation=generation)

    async def shut(self, code: int) -> None:
        """Deliver nothing more and close."""
        if not self._shut:
            self._shut = True
            self._stop_following()
            with contextlib.suppress(OSError):
                await self.close(code=code)

    def _join(self) -> None:
        self._joined = True
        metrics.sockets.inc()
        revocation.of_this_loop().add(self)

    def _leave(self) -> None:
        self._stop_following()
        if self._joined:
            metrics.sockets.dec()
            revocation.of_this_loop().discard(self)

    # --- Frames in ---------------------------------------------------------------------------

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        if self._shut:
            return
        if not self._within_rate():
            await self._strike("too_many_messages", _("Too many messages at once. Wait a moment."))
        elif text_data is None:
            await self._strike("binary_message", _("Only text messages are understood. Reload the page."))
        else:
            await self._receive_text(text_data)

    async def _receive_text(self, text: str) -> None:
        try:
            frame = frames.parse(text)
        except frames.FrameError as error:
            await self._send_error(error.code, error.message, client_id=error.client_id)
            return
        if isinstance(frame, frames.Ping):
            await self._send("pong")
            return
        about = {
            "client_id": getattr(frame, "client_id", None),
            "generation": getattr(frame, "generation", None),
        }
        actor = await self._authorise(**about)
        if actor is not None:
            await self._guarded(self._handle(actor, frame), **about)

    async def _handle(self, actor: Actor, frame: frames.Frame) -> None:
        match frame:
            case frames.Ask():
                started = await exchange.ask(actor=actor, frame=frame, client_address=self._address())
                await self._accepted(actor, frame.client_id, started)
            case frames.Regenerate():
                started = await exchange.regenerate(actor=actor, frame=frame, client_address=self._address())
                await self._accepted(actor, frame.client_id, started)
            case frames.Stop():
                await exchange.stop(actor=actor, generation_id=frame.generation)
            case frames.Resume():
                self._follow(actor, frame.generation, frame.after)

    async def _accepted(self, actor: Actor, client_id: UUID, started: Exchange) -> None:
        await self._send("accepted", client_id=str(client_id), **_exchange(started))
        self._follow(actor, started.generation, 0)
        await hints.started(self.channel_layer, actor, started.answer_id, origin=self.channel_name)

    # --- Following an answer -------------------------------------------------------------------

    def _follow(self, actor: Actor, generation: UUID, after: int) -> None:
        """Send the answer from `after` on. Following it again starts anew from there."""
        before = self._followers.pop(generation, None)
        if before is not None:
            before.cancel()
        if len(self._followers) >= limits.RESUMED_PER_SOCKET:
            raise too_many_followed()
        task = asyncio.create_task(
            self._guarded(self._pass_on(actor, generation, after), generation=generation)
        )
        self._followers[generation] = task
        task.add_done_callback(lambda done: self._forget(generation, done))

    async def _pass_on(self, actor: Actor, generation: UUID, after: int) -> None:
        admitted = await exchange.admit(actor=actor, generation_id=generation)
        self._needs[generation] = admitted.need
        async for piece in exchange.follow(admitted, after=after):
            if piece.end is None:
                thought = {"reasoning": piece.reasoning} if piece.reasoning else {}
                await self._send(
                    "delta", generation=str(generation), seq=piece.seq, text=piece.text, **thought
                )
            else:
                # Read anew: who answered, and what its sentences rest on, is known now that they are written.
                known = await in_database(selectors.ended, actor, generation)
                done = {**_done(piece.end), **known}
                await self._send("done", generation=str(generation), seq=piece.seq, **done)
                await self._tell_quota(actor)

    async def _tell_quota(self, actor: Actor) -> None:
        """Whether a limit is nearly used up, now that there is an answer more."""
        try:
            banner = await in_database(selectors.quota_for, actor)
        except db.Error:
            logger.warning("a person could not be told of their limits")
        else:
            await self._send("quota", quota=banner)

    def _forget(self, generation: UUID, task: asyncio.Task[None]) -> None:
        if self._followers.get(generation) is task:
            del self._followers[generation]
            self._needs.pop(generation, None)

    def _stop_following(self) -> None:
        for task in self._followers.values():
            task.cancel()

    # --- Hints from the channel layer ------------------------------------------------------------

    async def chat_started(self, event: dict[str, Any]) -> None:
        """Another tab of the same person started an answer."""
        if event["origin"] == self.channel_name or self._shut:
            return
        actor = await self._authorise()
        if actor is not None:
            await self._guarded(self._tell_started(actor, UUID(event["answer"])))

    async def _tell_started(self, actor: Actor, answer_id: UUID) -> None:
        await self._send("started", **_exchange(await in_database(hints.exchange_for, actor, answer_id)))

    async def chat_renamed(self, event: dict[str, Any]) -> None:
        """A conversation of the same person got another title."""
        if self._shut:
            return
        actor = await self._authorise()
        if actor is not None:
            await self._guarded(self._tell_title(actor, UUID(event["conversation"])))

    async def _tell_title(self, actor: Actor, conversation_id: UUID) -> None:
        title = await in_database(hints.title_for, actor, conversation_id)
        await self._send("title", conversation=str(conversation_id), title=title)

    # --- Common ------------------------------------------------------------------------------

    async def _authorise(self, **about: UUID | None) -> Actor | None:
        """The actor as of now. None after telling the browser why not, and closing if it must go."""
        session = self.scope["session"]
        try:
            self.visitor = await in_database(
                identify,
                session_key=session.session_key,
                tenant_slug=self.scope["url_route"]["kwargs"]["slug"],
                address=self._address(),
            )
        except SignedOut:
            await self.shut(revocation.SIGNED_OUT)
        except NotVisible:
            await self.shut(revocation.NOT_FOUND)
        except db.Error:
            logger.exception("who is at a chat socket could not be established")
            # Nothing can be recorded either, and that is what matters to the person.
            await self._send_error("audit_unavailable", explain("audit_unavailable"), **about)
            if not self._joined:
                await self.shut(revocation.TRY_AGAIN_LATER)
        else:
            return self.visitor.actor
        return None

    async def _guarded(self, work: Any, **about: UUID | None) -> None:
        """Run `work`; whatever goes wrong becomes an error frame about the same thing."""
        try:
            await work
        except ChatError as error:
            await self._send_error(error.code, str(error.message), **about)
        except NotVisible:
            missing = not_found()
            await self._send_error(missing.code, str(missing.message), **about)
        except GenerationError as error:
            await self._send_error(error.code, error.explained(), **about)
        except (db.Error, KeysUnavailable):
            logger.exception("a chat message failed in the database")
            await self._send_error("audit_unavailable", explain("audit_unavailable"), **about)
        except Exception:
            logger.exception("a chat message failed")
            await self._send_error("internal_error", explain("internal_error"), **about)

    def _within_rate(self) -> bool:
        """A token bucket: FRAMES_PER_SECOND sustained, FRAME_BURST at once."""
        now = time.monotonic()
        earned = (now - self._allowance_at) * limits.FRAMES_PER_SECOND
        self._allowance, self._allowance_at = min(self._allowance + earned, limits.FRAME_BURST), now
        if self._allowance < 1:
            return False
        self._allowance -= 1
        return True

    async def _strike(self, code: str, message: str) -> None:
        now = time.monotonic()
        forgiven = (now - self._struck_at) * limits.STRIKES_FORGIVEN_PER_SECOND
        self._strikes, self._struck_at = max(self._strikes - forgiven, 0) + 1, now
        if self._strikes >= limits.STRIKES_BEFORE_CLOSE:
            await self.shut(4400)
        else:
            await self._send_error(code, message)

    def _address(self) -> str:
        client = self.scope.get("client")
        return client[0] if client else ""

    async def _send_error(self, code: str, message: str, **about: UUID | None) -> None:
        known = {name: str(value) for name, value in about.items() if value is not None}
        await self._send("error", code=code, message=message, **known)

    async def _send(self, type: str, **fields: Any) -> None:
        if self._shut:
            return
        try:
            await self.send(text_data=json.dumps({"type": type, **fields}, ensure_ascii=False))
        except OSError:
            # The server's way to say that nobody is there any more; `disconnect` follows.
            self._shut = True


def _exchange(started: Exchange) -> dict[str, Any]:
    regenerated = started.regenerated
    return {
        "conversation": {"id": str(started.conversation_id), "title": started.title},
        "question": {"id": str(started.question_id), "text": started.question_text},
        "answer": {"id": str(started.answer_id)},
        "generation": str(started.generation),
        "regenerated": str(regenerated) if regenerated else None,
        "sources": started.sources,
    }


def _done(end: dict[str, Any]) -> dict[str, Any]:
    code = end["error_code"]
    return {
        "status": end["status"],
        "finish_reason": end["finish_reason"],
        "usage": {name: end[name] for name in ("prompt_tokens", "completion_tokens")},
        "timings": {name: end[name] for name in ("ttft_ms", "tokens_per_s")},
        "error": {"code": code, "message": explain(code)} if code else None,
    }
