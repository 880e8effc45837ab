"""How far an export is, for the page that asked for it, which can also stop it.

The page makes up a name and sends it with the form; under it the export tells Valkey how far it is, for an hour. Without
Valkey the export works as well, and says nothing.
"""

import re
from dataclasses import dataclass
from typing import Any

from django.http import HttpResponse, JsonResponse
from django.views.decorators.http import require_POST, require_safe

from console.tenancy import TenantRequest, tenant_view
from tenants.roles import AUDIT_EXPORT
from tenants.valkey import VALKEY_ERRORS, sync_client

KEPT_S = 3600
FINDING, WRITING, DONE, STOPPED = "finding", "writing", "done", "stopped"


class Stopped(Exception):
    """Whoever asked for the export wants it no more."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Of one export of one person. key: "" where no page asks for it."""

    key: str

    def tell(self, state: str, done: int, total: int = 0) -> None:
        """Raises Stopped once that was asked for."""
        if not self.key:
            return
        try:
            with sync_client().pipeline() as pipe:
                pipe.hset(self.key, mapping={"state": state, "done": done, "total": total})
                pipe.expire(self.key, KEPT_S)
                pipe.hget(self.key, "stop")
                is_stopped = pipe.execute()[-1] is not None
                if is_stopped and state != DONE:
                    pipe.hset(self.key, "state", STOPPED)
                    pipe.execute()
        except VALKEY_ERRORS:
            return
        if is_stopped and state != DONE:
            raise Stopped

    def told(self) -> dict[str, Any]:
        """{"state", "done", "total"}; state "": nothing was told."""
        found: dict[Any, Any] = {}
        try:
            found = sync_client().hgetall(self.key) if self.key else found
        except VALKEY_ERRORS:
            pass  # It is told again a moment later.
        return {
            "state": found.get(b"state", b"").decode(),
            "done": int(found.get(b"done", 0)),
            "total": int(found.get(b"total", 0)),
        }

    def stop(self) -> None:
        try:
            if self.key:
                sync_client().hset(self.key, "stop", "1")
                sync_client().expire(self.key, KEPT_S)
        except VALKEY_ERRORS:
            return


def of(request: TenantRequest, name: str) -> Progress:
    """name: as the page made it up; what is none tells nobody."""
    actor = request.actor
    is_name = re.fullmatch("[0-9a-f]{32}", name) is not None
    return Progress(f"custos:export:{actor.tenant_id}:{actor.user_id}:{name}" if is_name else "")


@require_safe
@tenant_view(AUDIT_EXPORT)
def progress(request: TenantRequest) -> HttpResponse:
    """?name=…: how far it is."""
    return JsonResponse(of(request, request.GET.get("name", "")).told())


@require_POST
@tenant_view(AUDIT_EXPORT)
def stop(request: TenantRequest) -> HttpResponse:
    """POST name=…: it ends where it is, and what was sent of it is no whole file."""
    of(request, request.POST.get("name", "")).stop()
    return HttpResponse(status=204)
