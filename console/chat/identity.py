"""Who is at the other end of a socket, found anew for every message."""

from __future__ import annotations

from collections.abc import Collection, Mapping
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

from console.sign_in import entry
from console.tenancy import session_reference
from inference.generation.revocation import Claim, withdrawn
from tenants import clock
from tenants.access import Actor, Need, NotVisible, actor_for_user, require
from tenants.models import User
from tenants.roles import CHAT_USE


class SignedOut(Exception):
    """No valid session: it ended, expired, or its user was deactivated or changed the password."""


@dataclass(frozen=True, slots=True)
class Visitor:
    """An actor together with the session that proves it; `credential` changes with the password.

    is_strong: the session showed a second factor.
    """

    actor: Actor
    session_key: str
    credential: str
    is_strong: bool = False


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
    if entry.step_before(session=session, user=user, tenant_id=actor.tenant_id) is not None:
        raise NotVisible("sign-in")  # the page says what is missing; the socket stays shut until it is done
    is_strong = entry.used_second_factor(session, user)
    return Visitor(actor, session_key, user.get_session_auth_hash(), is_strong)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Who must go, with SignedOut or NotVisible as the reason; and what those who may stay may read no longer."""

    gone: dict[Visitor, type[Exception]]
    lost: dict[Visitor, frozenset[Need]]


def judge(present: Mapping[Visitor, frozenset[Need]]) -> Verdict:
    """On visitors and what each of them follows: a few queries for all of them."""
    gone: dict[Visitor, type[Exception]] = dict.fromkeys(_signed_out(present), SignedOut)
    rest = {visitor: needs for visitor, needs in present.items() if visitor not in gone}
    asked = [
        _claim(visitor, *each) for visitor, needs in rest.items() for each in [(), *((n,) for n in needs)]
    ]
    refused = withdrawn(asked)
    gone.update({visitor: NotVisible for visitor in rest if _claim(visitor) in refused})
    gone.update(dict.fromkeys(_too_weak([each for each in rest if each not in gone]), NotVisible))
    lost = {v: frozenset(n for n in needs if _claim(v, n) in refused) for v, needs in rest.items()}
    return Verdict(gone, {visitor: needs for visitor, needs in lost.items() if needs and visitor not in gone})


def _claim(visitor: Visitor, *needs: Need) -> Claim:
    return Claim(visitor.actor, CHAT_USE, frozenset(needs))


def _signed_out(visitors: Collection[Visitor]) -> list[Visitor]:
    """Those whose session has ended, whose account is switched off, or who changed the password."""
    keys = {visitor.session_key for visitor in visitors}
    live = set(
        Session.objects.filter(session_key__in=keys, expire_date__gt=clock.now()).values_list(
            "session_key", flat=True
        )
    )
    people = User.objects.filter(pk__in={visitor.actor.user_id for visitor in visitors}, is_active=True)
    credentials: dict[UUID | None, str] = {person.pk: person.get_session_auth_hash() for person in people}
    return [
        visitor
        for visitor in visitors
        if visitor.session_key not in live or credentials.get(visitor.actor.user_id) != visitor.credential
    ]


def _too_weak(visitors: list[Visitor]) -> list[Visitor]:
    """Those in tenants that require a second factor by now, who showed none or have none any more."""
    tenants = {visitor.actor.tenant_id for visitor in visitors}
    strict = {tenant_id for tenant_id in tenants if entry.requires_second_factor(tenant_id)}
    asked = [visitor for visitor in visitors if visitor.actor.tenant_id in strict]
    if not asked:
        return []
    people = {visitor.actor.user_id for visitor in asked if visitor.actor.user_id}
    able = entry.people_with_second_factor(people)
    return [v for v in asked if not (v.is_strong and v.actor.user_id in able)]


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
