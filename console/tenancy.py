"""From a request to an actor in a tenant: the decorator every page under `/t/<slug>/` wears."""

from collections.abc import Callable
from functools import wraps
from hashlib import sha256
from typing import Any

from django.contrib.auth.views import redirect_to_login
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import SimpleTemplateResponse

from tenants.access import Actor, NotVisible, actor_for_user, require
from tenants.scope import tenant_scope


class TenantRequest(HttpRequest):
    """A request inside a tenant's scope."""

    actor: Actor


def tenant_view(
    permission: str | None = None,
) -> Callable[[Callable[..., HttpResponse]], Callable[..., HttpResponse]]:
    """Run a synchronous view as a member of the tenant in its URL, in that tenant's scope and one transaction.

    Anonymous visitors go to sign in. Strangers, and members without `permission`, get the 404 of a missing page, and
    so does whatever the view raises NotVisible for.
    """

    def decorate(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
        @wraps(view)
        def wrapped(request: TenantRequest, slug: str, **kwargs: Any) -> HttpResponse:
            if not request.user.is_authenticated:
                return redirect_to_login(request.get_full_path())
            try:
                request.actor = actor_for_user(
                    user=request.user,
                    tenant_slug=slug,
                    session_ref=session_reference(request.session.session_key),
                    address=request.META.get("REMOTE_ADDR") or "",
                )
                if permission is not None:
                    require(request.actor, permission)
                with tenant_scope(request.actor.tenant_id):
                    response = view(request, **kwargs)
                    # Templates run queries: render while the scope is open.
                    if isinstance(response, SimpleTemplateResponse):
                        response.render()
                    return response
            except NotVisible as error:
                raise Http404 from error

        return wrapped

    return decorate


def session_reference(session_key: str | None) -> str:
    """A stable name for a session that cannot be used as one: the audit keeps this, never the key."""
    return sha256(session_key.encode()).hexdigest()[:16] if session_key else ""
