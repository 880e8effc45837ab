"""From a key to an actor, and from an actor to the scope of its tenant."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.http import HttpRequest
from ninja.security import HttpBearer

from console.pace import keep_pace
from tenants.actors import Actor, NotVisible, actor_for_key
from tenants.roles import Scope
from tenants.scope import tenant_scope

_READING = frozenset({"GET", "HEAD"})


class ManagementRequest(HttpRequest):
    """A request of a key that may manage."""

    auth: Actor


class Key(HttpBearer):
    """An API key whose scopes include the one that reads, or the one that writes, which every change needs."""

    def __init__(self, *, read: Scope = Scope.MANAGEMENT_READ, write: Scope = Scope.MANAGEMENT_WRITE) -> None:
        super().__init__()
        self._read, self._write = read, write

    def authenticate(self, request: HttpRequest, token: str) -> Actor | None:
        actor = actor_for_key(token.strip(), request.META.get("REMOTE_ADDR") or "")
        if actor is None:
            return None
        enough = {self._write}
        if request.method in _READING:
            enough.add(self._read)
        if not enough & (actor.scopes or frozenset()):
            raise NotVisible(self._write)
        keep_pace(actor)
        return actor


def in_tenant_scope(operation: Callable[..., Any]) -> Callable[..., Any]:
    """Run an operation in its tenant's scope: one transaction, undone when it raises."""

    @wraps(operation)
    def scoped(request: ManagementRequest, *args: Any, **kwargs: Any) -> Any:
        with tenant_scope(request.auth.tenant_id):
            return operation(request, *args, **kwargs)

    return scoped
