"""Who is at the other end of a socket, found anew for every message."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

from django.conf import settings
from django.contrib.auth import get_user
from django.contrib.sessions.backends.db import SessionStore
from django.contrib.sessions.models import Session
from django.http import HttpRequest
from django.utils import translation
from django.utils.translation.trans_real import get_supported_language_variant, parse_accept_lang_header

from console.tenancy import session_reference
from inference.generation.revocation import withdrawn
from tenants import clock
from tenants.access import Actor, NotVisible, actor_for_user, require
from tenants.models import User
from tenants.roles import CHAT_USE


class SignedOut(Exception):
    """No valid session: it ended, expired, or its user was deactivated or changed the password."""


@dataclass(frozen=True, slots=True)
class Visitor:
    """An actor together with the session that proves it; `credential` changes with the password."""

    actor: Actor
    session_key: str
    credential: str


def identify(*, session_key: str | None, tenant_slug: str, address: str = "") -> Visitor:
    """Raises SignedOut, or NotVisible when the person may not chat in this tenant."""
    if not session_key:
        raise SignedOut
    session = SessionStore(session_key)
    user = get_user(cast(HttpRequest, SimpleNamespace(session=session)))
    if not user.is_authenticated:
        raise SignedOut
    actor = actor_for_user(
        user=user,
        tenant_slug=tenant_slug,
        session_ref=session_reference(session_key),
        address=address,
    )
    require(actor, CHAT_USE)
    return Visitor(actor, session_key, user.get_session_auth_hash())


def no_longer_valid(visitors: Collection[Visitor]) -> dict[Visitor, type[Exception]]:
    """Those visitors that must go, with SignedOut or NotVisible as the reason: a few queries for all of them."""
    keys = {visitor.session_key for visitor in visitors}
    live = set(
        Session.objects.filter(session_key__in=keys, expire_date__gt=clock.now()).values_list(
            "session_key", flat=True
        )
    )
    people = User.objects.filter(pk__in={visitor.actor.user_id for visitor in visitors}, is_active=True)
    credentials: dict[UUID | None, str] = {person.pk: person.get_session_auth_hash() for person in people}
    gone: dict[Visitor, type[Exception]] = {
        visitor: SignedOut
        for visitor in visitors
        if visitor.session_key not in live or credentials.get(visitor.actor.user_id) != visitor.credential
    }
    lost = withdrawn((v.actor, CHAT_USE) for v in visitors if v not in gone)
    gone.update({v: NotVisible for v in visitors if (v.actor, CHAT_USE) in lost})
    return gone


def language_of(scope: dict[str, Any]) -> str:
    """The language to speak on this socket: the language cookie's, else the browser's, else the default."""
    wishes = [scope.get("cookies", {}).get(settings.LANGUAGE_COOKIE_NAME, "")]
    accepted = dict(scope["headers"]).get(b"accept-language", b"").decode("latin-1")
    wishes += [code for code, _quality in parse_accept_lang_header(accepted)]
    for wish in wishes:
        try:
            return get_supported_language_variant(wish)
        except LookupError:
            continue
    return settings.LANGUAGE_CODE


def speak(scope: dict[str, Any]) -> None:
    """Translate for this socket, in the current task and those it starts."""
    translation.activate(language_of(scope))
