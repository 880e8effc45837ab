"""One trial: a tenant of its own, an answer that has begun, and the right to it taken away in the middle.

Needs Django to be set up for the running product, whose address is given.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, Literal

import httpx
from asgiref.sync import sync_to_async
from django.conf import settings
from django.test import Client
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from console.chat.models import Conversation
from inference.registry.models import Route
from inference.registry.services import ensure_default_route
from tenants import grants, keys, lifecycle, people
from tenants.actors import actor_for_user, platform_actor
from tenants.models import Group, Membership, Tenant, User
from tenants.roles import Role
from tenants.scope import tenant_scope

LIMIT_S = 1.0
MODEL = "smollm2-135m-instruct"
QUESTION = "Write a very long and detailed story about a river, with many chapters."
ACCESS_LOST = {"access_revoked", "not_found"}
_CLOSED_FOR_GOOD = 4404
_TOKENS_BEFORE = 3  # Only then is the right taken away.


@dataclass(frozen=True)
class Scene:
    """A tenant with its people; `reader` is whose right is taken away."""

    tenant: Tenant
    platform: User
    owner: User
    reader: User

    def as_owner(self, **wanted: Any) -> dict[str, Any]:
        return {"actor": actor_for_user(user=self.owner, tenant_slug=self.tenant.slug), **wanted}


@dataclass(frozen=True)
class Cause:
    """Something that ends the right to an answer.

    reads: over the chat what they asked, over the API, or in the chat what another asked in a shared conversation.
    """

    name: str
    reads: Literal["chat", "api", "shared"]
    take_away: Callable[[Scene], object]


def _everyone_off_the_route(scene: Scene) -> None:
    route, everyone = Route.objects.get(is_default=True), Group.objects.get(is_everyone=True)
    grants.remove(**scene.as_owner(obj=route, principal=everyone))


def _conversation_unshared(scene: Scene) -> None:
    grants.remove(**scene.as_owner(obj=Conversation.objects.get(), principal=scene.reader))


def _membership(scene: Scene) -> Membership:
    return Membership.objects.get(user=scene.reader)


CAUSES = (
    Cause("the grant of the model", "api", _everyone_off_the_route),
    Cause("the sharing of a conversation", "shared", _conversation_unshared),
    Cause(
        "the membership",
        "chat",
        lambda scene: people.remove_member(**scene.as_owner(membership_id=_membership(scene).pk)),
    ),
    Cause(
        "the role",
        "chat",
        lambda scene: people.change_role(
            **scene.as_owner(membership_id=_membership(scene).pk, role=Role.REVIEWER)
        ),
    ),
    Cause(
        "the key",
        "api",
        lambda scene: [keys.revoke_key(**scene.as_owner(key_id=key.pk)) for key in _keys(scene)],
    ),
    Cause(
        "the tenant's being active",
        "chat",
        lambda scene: lifecycle.suspend(actor=platform_actor(user=scene.platform, tenant=scene.tenant)),
    ),
)


def _keys(scene: Scene) -> list[Any]:
    return list(keys.keys(scene.as_owner()["actor"]))


class Trial:
    """A cause, tried once in a tenant called `name`, which must be new."""

    def __init__(self, url: str, cause: Cause, *, name: str) -> None:
        self._url, self._cause, self._name = url, cause, name

    async def run(self) -> float:
        """Seconds from when the right was gone to the last token; 0 when none came after. Raises if it went on to the end."""
        scene = await sync_to_async(self._set_up)()
        read = {"chat": self._chat, "api": self._api, "shared": self._shared}[self._cause.reads]
        arrivals: list[float] = []
        gone_at: asyncio.Task[float] | None = None
        async for arrived in read(scene):
            arrivals.append(arrived)
            if len(arrivals) == _TOKENS_BEFORE:
                gone_at = asyncio.create_task(self._take_away(scene))
        if gone_at is None:
            raise RuntimeError(f"{self._cause.name}: the answer ended after {len(arrivals)} tokens by itself")
        return max(arrivals[-1] - await gone_at, 0.0)

    async def _take_away(self, scene: Scene) -> float:
        """At any moment between two looks of the watchers; the time when it was committed."""
        await asyncio.sleep(random.random() * LIMIT_S)
        await sync_to_async(self._commit)(scene)
        return time.monotonic()

    def _commit(self, scene: Scene) -> None:
        with tenant_scope(scene.tenant.pk):
            self._cause.take_away(scene)

    def _set_up(self) -> Scene:
        def person(what: str, **fields: bool) -> User:
            return User.objects.create_user(f"{what}@{self._name}.example", **fields)

        platform = person("platform", is_platform_administrator=True)
        tenant = lifecycle.create_tenant(user=platform, slug=self._name, name=self._name)
        scene = Scene(tenant, platform, owner=person("owner"), reader=person("reader"))
        with tenant_scope(tenant.pk):
            ensure_default_route()
            Membership.objects.create(user=scene.owner, role=Role.OWNER)
            Membership.objects.create(user=scene.reader, role=Role.MEMBER)
        return scene

    # --- Reading ---------------------------------------------------------------------------------

    async def _api(self, scene: Scene) -> AsyncIterator[float]:
        key = await sync_to_async(self._new_key)(scene)
        question = {"role": "user", "content": QUESTION}
        body = {"model": MODEL, "messages": [question], "max_tokens": 1500, "ignore_eos": True}
        headers = {"Authorization": f"Bearer {key}"}
        async with (
            httpx.AsyncClient(base_url=self._url, headers=headers, timeout=60, trust_env=False) as client,
            client.stream("POST", "/v1/chat/completions", json={**body, "stream": True}) as response,
        ):
            response.raise_for_status()
            async for line in response.aiter_lines():
                if not line.startswith("data: {"):
                    continue
                event = json.loads(line[6:])
                if "error" in event:
                    self._check(event["error"]["code"])
                    return
                yield time.monotonic()
        raise RuntimeError(f"{self._cause.name}: the answer went on to its end")

    def _new_key(self, scene: Scene) -> str:
        with tenant_scope(scene.tenant.pk):
            reader = actor_for_user(user=scene.reader, tenant_slug=scene.tenant.slug)
            return keys.create_key(actor=reader, name="trial", expires=None)[1]

    async def _chat(self, scene: Scene) -> AsyncIterator[float]:
        async with await self._socket(scene, scene.reader) as socket:
            await self._ask(socket)
            async for arrived in self._tokens(socket):
                yield arrived

    async def _shared(self, scene: Scene) -> AsyncIterator[float]:
        async with (
            await self._socket(scene, scene.owner) as asking,
            await self._socket(scene, scene.reader) as socket,
        ):
            await self._ask(asking)
            accepted = await self._frame(asking, "accepted")
            await sync_to_async(self._share)(scene, accepted["conversation"]["id"])
            await socket.send(
                json.dumps({"type": "resume", "generation": accepted["generation"], "after": 0})
            )
            async for arrived in self._tokens(socket):
                yield arrived

    def _share(self, scene: Scene, conversation_id: str) -> None:
        with tenant_scope(scene.tenant.pk):
            conversation = Conversation.objects.get(pk=conversation_id)
            grants.set_level(**scene.as_owner(obj=conversation, principal=scene.reader, level="viewer"))

    async def _tokens(self, socket: ClientConnection) -> AsyncIterator[float]:
        try:
            while True:
                frame = json.loads(await asyncio.wait_for(socket.recv(), 60))
                if frame["type"] == "delta":
                    yield time.monotonic()
                elif frame["type"] == "error":
                    self._check(frame["code"])
                    return
                elif frame["type"] == "done":
                    self._check((frame["error"] or {}).get("code"))
                    return
        except ConnectionClosed:
            self._check("access_revoked" if socket.close_code == _CLOSED_FOR_GOOD else str(socket.close_code))

    def _check(self, code: str | None) -> None:
        if code not in ACCESS_LOST:
            raise RuntimeError(f"{self._cause.name}: the answer ended with {code!r}, not for lack of access")

    async def _socket(self, scene: Scene, user: User) -> ClientConnection:
        cookie = await sync_to_async(self._cookie)(user)
        address = f"{self._url.replace('http', 'ws', 1)}/ws/t/{scene.tenant.slug}/chat/"
        headers = {"Cookie": cookie}
        return await connect(
            address, origin=self._url, additional_headers=headers, proxy=None, close_timeout=1
        )

    def _cookie(self, user: User) -> str:
        browser = Client()
        browser.force_login(user, backend=settings.AUTHENTICATION_BACKENDS[0])
        value = browser.cookies[settings.SESSION_COOKIE_NAME].value
        return f"custos_session_{self._url.rpartition(':')[2]}={value}"

    async def _ask(self, socket: ClientConnection) -> None:
        await socket.send(json.dumps({"type": "ask", "client_id": str(uuid.uuid4()), "text": QUESTION}))

    async def _frame(self, socket: ClientConnection, kind: str) -> dict[str, Any]:
        while True:
            frame = json.loads(await asyncio.wait_for(socket.recv(), 60))
            if frame["type"] == kind:
                return frame
