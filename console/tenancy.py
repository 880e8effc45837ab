"""From a request to an actor in a tenant: the decorators of the pages under `/t/<slug>/` and `/platform/`."""

import logging
from collections.abc import Callable
from functools import wraps
from hashlib import sha256
from typing import Any, cast

from django.contrib.auth.views import redirect_to_login
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import SimpleTemplateResponse
from django.urls import reverse
from django.utils.http import urlencode

from audit.record import AuditUnavailable
from console.pages.errors import keys_unavailable, not_recorded
from console.sign_in.entry import way_to
from tenants.access import Actor, NotVisible, actor_for_user, require
from tenants.actors import platform_actor
from tenants.envelope import KeysUnavailable
from tenants.models import Tenant, User
from tenants.scope import tenant_scope

logger = logging.getLogger(__name__)


class TenantRequest(HttpRequest):
    """A request inside a tenant's scope."""

    actor: Actor


def tenant_view(
    permission: str | None = None,
) -> Callable[[Callable[..., HttpResponse]], Callable[..., HttpResponse]]:
    """Run a synchronous view as a member of the tenant in its URL, in that tenant's scope and one transaction.

    Anonymous visitors go to sign in, and people whose session lacks what the tenant asks for, as a second factor, go to
    where they can show it. Strangers, and members without `permission`, get the 404 of a missing page, and
    so does whatever the view raises NotVisible for. What cannot be recorded is undone, and they are told so.
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
                if (elsewhere := _missing_step(request)) is not None:
                    return elsewhere
                with tenant_scope(request.actor.tenant_id):
                    response = view(request, **kwargs)
                    # Templates run queries: render while the scope is open.
                    if isinstance(response, SimpleTemplateResponse):
                        response.render()
                    return response
            except NotVisible as error:
                raise Http404 from error
            except KeysUnavailable:
                logger.exception("a page failed for want of keys")
                return keys_unavailable(request)
            except AuditUnavailable:
                logger.exception("a page was undone, for it could not be recorded")
                return not_recorded(request)

        return wrapped

    return decorate


def platform_view(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """Run a synchronous view for platform administrators; to anybody else who is signed in it does not exist."""

    @wraps(view)
    def wrapped(request: HttpRequest, **kwargs: Any) -> HttpResponse:
        user = request.user
        if not isinstance(user, User):
            return redirect_to_login(request.get_full_path())
        if not (user.is_active and user.is_platform_administrator):
            raise Http404
        try:
            return view(request, **kwargs)
        except NotVisible as error:
            raise Http404 from error
        except AuditUnavailable:
            logger.exception("a page was undone, for it could not be recorded")
            return not_recorded(request)

    return wrapped


def platform_tenant_view(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """A `platform_view` of the tenant in its URL, whatever its state: runs in that tenant's scope and one transaction.

    The view gets `tenant`, and `actor`, who may do with it what a platform administrator may and sees no content.
    """

    @platform_view
    @wraps(view)
    def wrapped(request: HttpRequest, slug: str, **kwargs: Any) -> HttpResponse:
        tenant = Tenant.objects.filter(slug=slug).first()
        if tenant is None:
            raise NotVisible(slug)
        assert isinstance(request.user, User)
        actor = platform_actor(
            user=request.user,
            tenant=tenant,
            address=request.META.get("REMOTE_ADDR") or "",
            session_ref=session_reference(request.session.session_key),
        )
        with tenant_scope(tenant.pk):
            return view(request, tenant=tenant, actor=actor, **kwargs)

    return wrapped


def _missing_step(request: TenantRequest) -> HttpResponse | None:
    """The way to what the session still lacks before it may enter the tenant; None when it lacks nothing."""
    url = way_to(session=request.session, user=cast(User, request.user), tenant_id=request.actor.tenant_id)
    if url is None:
        return None
    # What was about to be sent is not sent again: they come back to the tenant's start.
    is_page = request.method in ("GET", "HEAD")
    back = request.get_full_path() if is_page else reverse("tenant", args=[request.actor.tenant_slug])
    return redirect(f"{url}?{urlencode({'next': back})}")


def session_reference(session_key: str | None) -> str:
    """A stable name for a session that cannot be used as one: the audit keeps this, never the key."""
    return sha256(session_key.encode()).hexdigest()[:16] if session_key else ""
