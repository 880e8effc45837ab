"""A person's sessions: where they are signed in, and ending one or all others.

An ended session is deleted, and the watcher of sockets (console/chat/revocation.py) closes its sockets within a second.
"""

import logging
import re
from dataclasses import dataclass
from datetime import datetime

from allauth.usersessions.models import UserSession
from django.contrib.sessions.models import Session
from django.db import transaction
from django.db.models import Exists, OuterRef, QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext as _

from audit.record import AuditUnavailable
from console.sign_in import trail
from console.sign_in.changes import client_address, record_account_change
from console.sign_in.entry import provider_used
from tenants import clock
from tenants.models import User

logger = logging.getLogger(__name__)

# Browser and system as people name them; the first that a user agent mentions counts.
_BROWSERS = (
    ("Edg", "Edge"),
    ("OPR", "Opera"),
    ("Firefox", "Firefox"),
    ("Chrome", "Chrome"),
    ("Safari", "Safari"),
)
_SYSTEMS = (
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Android", "Android"),
    ("Windows", "Windows"),
    ("Mac OS X", "macOS"),
    ("Linux", "Linux"),
)


@dataclass(frozen=True, kw_only=True)
class Signed:
    """A session to show: `id` names it in addresses; it is not the key."""

    id: int
    device: str
    address: str
    created: datetime
    last_seen: datetime
    is_current: bool


def remember(request: HttpRequest) -> None:
    """Note when and from where the request's session was used; nothing for visitors."""
    user, key = request.user, request.session.session_key
    if not isinstance(user, User) or not key:
        return
    agent = request.META.get("HTTP_USER_AGENT", "")[:200]
    seen = {"ip": client_address(request) or "0.0.0.0", "user_agent": agent, "last_seen_at": clock.now()}
    # A session that ended while it was used must not come back to the list.
    if Session.objects.filter(session_key=key).exists():
        UserSession.objects.update_or_create(
            session_key=key, defaults={**seen, "user": user, "data": _provider(request, user)}
        )


def of_person(user: User, *, current_key: str | None) -> list[Signed]:
    """Where the person is signed in now, last used first."""
    rows = list(UserSession.objects.filter(user=user).order_by("-last_seen_at"))
    keys = [row.session_key for row in rows]
    live = set(
        Session.objects.filter(session_key__in=keys, expire_date__gt=clock.now()).values_list(
            "session_key", flat=True
        )
    )
    return [
        Signed(
            id=row.pk,
            device=device(row.user_agent),
            address=row.ip,
            created=row.created_at,
            last_seen=row.last_seen_at,
            is_current=row.session_key == current_key,
        )
        for row in rows
        if row.session_key in live
    ]


def end(user: User, session_id: int, *, current_key: str | None) -> bool:
    """End another one of the person's sessions; False when they have none of this id. One's own ends by signing out."""
    return _end(user, _others(user, current_key).filter(pk=session_id), "one") > 0


def end_others(user: User, *, current_key: str | None) -> int:
    """End all sessions of the person but the current one; how many there were."""
    return _end(user, _others(user, current_key), "others")


def end_those_of_provider(provider: str) -> int:
    """End every session that was signed in with an identity provider, by its id in SocialAccount.provider."""
    keys = list(UserSession.objects.filter(data__provider=provider).values_list("session_key", flat=True))
    Session.objects.filter(session_key__in=keys).delete()
    UserSession.objects.filter(session_key__in=keys).delete()
    return len(keys)


def forget(session_key: str | None) -> None:
    """Delete what is remembered of a session that its person ends."""
    UserSession.objects.filter(session_key=session_key or "").delete()


def forget_ended() -> int:
    """Record that the time of these sessions ran out, and delete what is remembered of them; how many there were.

    Those that people and administrators end are deleted, and recorded, as they do so.
    """
    live = Session.objects.filter(session_key=OuterRef("session_key"))
    ended = UserSession.objects.filter(~Exists(live)).select_related("user")
    return sum(map(_forget_recorded, ended))


@transaction.atomic
def _forget_recorded(row: UserSession) -> bool:
    """False for one whose end cannot be recorded: it is left to the next time."""
    try:
        with transaction.atomic():
            last_seen = row.last_seen_at.isoformat(timespec="seconds")
            trail.session_ended(row.user, device=device(row.user_agent), address=row.ip, last_seen=last_seen)
    except AuditUnavailable:
        logger.exception("the end of a session could not be recorded")
        return False
    row.delete()
    return True


def _others(user: User, current_key: str | None) -> QuerySet[UserSession]:
    return UserSession.objects.filter(user=user).exclude(session_key=current_key or "")


@transaction.atomic
def _end(user: User, rows: QuerySet[UserSession], which: str) -> int:
    keys = list(rows.values_list("session_key", flat=True))
    if keys:
        Session.objects.filter(session_key__in=keys).delete()
        rows.delete()
        record_account_change(user, "account.sessions_ended", detail={"which": which, "count": len(keys)})
    return len(keys)


def _provider(request: HttpRequest, user: User) -> dict[str, str]:
    used = provider_used(request.session, user)
    return {"provider": used} if used else {}


def device(user_agent: str) -> str:
    """What people call the device of a user agent, such as "Firefox on Windows"."""
    browser = next((name for sign, name in _BROWSERS if re.search(rf"\b{sign}", user_agent)), "")
    system = next((name for sign, name in _SYSTEMS if sign in user_agent), "")
    if browser and system:
        return _("%(browser)s on %(system)s") % {"browser": browser, "system": system}
    return browser or system or _("Unknown device")
