"""Who came in, who tried and who left, as events of every tenant that the person belongs to.

Nobody comes in unrecorded: a sign-in that cannot be recorded does not happen. Failed attempts are recorded by a worker, and
one is sent off for every attempt: neither the answer nor its time tells whether there is such an account. A flood of
attempts does not fill the audit (tenants.floods).
"""

import logging
from contextlib import suppress
from typing import Any
from uuid import UUID

from django.contrib.sessions.backends.base import SessionBase
from django.db import transaction
from django.http import HttpRequest
from kombu.exceptions import OperationalError

from audit.models import Status
from audit.record import AuditUnavailable, record_event
from console.sign_in import entry
from console.sign_in.changes import person_as_actor
from tenants import floods
from tenants.actors import memberships_of
from tenants.models import User
from tenants.scope import tenant_scope
from tenants.valkey import VALKEY_ERRORS

logger = logging.getLogger(__name__)

SIGNED_IN = "sign_in.signed_in"
CONFIRMED = "sign_in.confirmed"  # Showed once more who they are, as before a change of their account.
FAILED = "sign_in.failed"
SIGNED_OUT = "sign_in.signed_out"
SESSION_ENDED = "sign_in.session_ended"  # Its time ran out.

# Words of the first step, by allauth's name for its method.
_MEANS = {"password": "password", "socialaccount": "company sign-in", "mfa": "passkey"}


def signed_in(request: HttpRequest, user: User) -> None:
    """The session has just become the person's. Raises AuditUnavailable; the caller ends the session then."""
    _record(user, SIGNED_IN, _how(request.session, user))


def confirmed(user: User, method: str, kind: str) -> None:
    """The signed-in person showed who they are again. Raises AuditUnavailable."""
    _record(user, CONFIRMED, {"by": kind or method})


def signed_out(user: User) -> None:
    """Before the session ends. Leaving is never prevented: one that cannot be recorded is logged."""
    try:
        _record(user, SIGNED_OUT, {})
    except AuditUnavailable:
        logger.exception("a sign-out could not be recorded")


def session_ended(user: User, *, device: str, address: str, last_seen: str) -> None:
    """A session's time ran out. Raises AuditUnavailable."""
    _record(user, SESSION_ENDED, {"device": device, "address": address, "last_seen": last_seen})


def attempt_failed(*, email: str, by: str, why: str, address: str) -> None:
    """Somebody failed to show that they are whoever has this address, known or not; returns at once.

    Does nothing without Valkey: then no attempt is looked at either (console.throttle).
    """
    from console.tasks import record_failed_sign_in

    user_id = User.objects.filter(email=email.strip().lower()).values_list("pk", flat=True).first()
    if count := floods.due("sign-in", email.strip().lower(), by, why):
        with suppress(OperationalError, *VALKEY_ERRORS):
            record_failed_sign_in.delay(str(user_id or ""), by, why, address, count)


def company_refused(*, tenant_id: UUID, email: str) -> None:
    """The tenant's own identity provider named this address, and it was not let in. Raises AuditUnavailable."""
    user = User.objects.filter(email=email).first()
    if user is not None and (count := floods.due("sign-in", tenant_id, email)):
        detail = {"by": _MEANS["socialaccount"], "why": "not let in", "count": count}
        _record(user, FAILED, detail, status=Status.FAILED, only=tenant_id)


def record_attempt(*, user_id: UUID, by: str, why: str, address: str, count: int) -> None:
    """In the worker. `count`: the attempts of this kind within a minute, until now. Raises AuditUnavailable."""
    user = User.objects.filter(pk=user_id).first()
    if user is not None:
        _record(user, FAILED, {"by": by, "why": why, "count": count}, address=address, status=Status.FAILED)


def _how(session: SessionBase, user: User) -> dict[str, Any]:
    steps = entry.records(session, user)
    first = steps[0] if steps else {}
    factor = next((step.get("type", "") for step in steps[1:] if step.get("method") == "mfa"), "")
    return {"by": _MEANS.get(first.get("method", ""), ""), "second_factor": factor}


def _record(
    user: User,
    kind: str,
    detail: dict[str, Any],
    *,
    address: str = "",
    status: str = Status.COMPLETED,
    only: UUID | None = None,
) -> None:
    """In all the person's tenants or none; or in one, if they belong to it."""
    with transaction.atomic():
        for membership in memberships_of(user):
            if only not in (None, membership.tenant_id):
                continue
            with tenant_scope(membership.tenant_id):
                actor = person_as_actor(user, membership)
                record_event(
                    actor=actor,
                    kind=kind,
                    subject_id=user.pk,
                    detail=detail,
                    client_address=address or actor.address,
                    status=status,
                )
