"""Verifications of a whole log that somebody asked for: asked, run by the worker, told of while they run and after."""

import logging
from datetime import timedelta
from uuid import UUID

from audit import record
from audit.tree import verification
from audit.tree.models import Check
from tenants import clock
from tenants.access import Actor, require
from tenants.ids import uuid7
from tenants.roles import AUDIT_LIST
from tenants.scope import tenant_scope

logger = logging.getLogger(__name__)

CHECKED = "proof.checked"
# One that was not heard of for so long is not coming back; another may be asked for.
LOST_AFTER = timedelta(minutes=2)


def ask(actor: Actor) -> tuple[Check, bool]:
    """The check that is under way, or a new one; and whether it is new. Recorded. Raises NotVisible without audit.list.

    Part of the open transaction; the worker is to be told when that is committed.
    """
    require(actor, AUDIT_LIST)
    with tenant_scope(actor.tenant_id):
        running = newest(actor)
        if running is not None and is_running(running):
            return running, False
        check = Check(tenant_id=actor.tenant_id, id=uuid7(), asked_by=actor.user_id)
        check.save(force_insert=True)
        record.record_event(
            actor=actor, kind=CHECKED, detail={}, subject_id=check.pk, client_address=actor.address
        )
        return check, True


def run(tenant_id: UUID, check_id: UUID) -> None:
    """Verify the log and keep what was found. Once: a check that is finished stays as it is."""
    with tenant_scope(tenant_id):
        waiting = Check.objects.filter(pk=check_id, finished=None)
        if not waiting.update(heard=clock.now()):
            return

    def progress(done: int, total: int) -> None:
        with tenant_scope(tenant_id):
            Check.objects.filter(pk=check_id).update(done=done, total=total, heard=clock.now())

    report = verification.verify(tenant_id, progress)
    if not report.is_sound:
        logger.error("ALARM: the audit log of tenant %s has %s findings", tenant_id, report.findings_count)
    with tenant_scope(tenant_id):
        Check.objects.filter(pk=check_id).update(
            finished=clock.now(), heard=clock.now(), report=report.as_json()
        )


def newest(actor: Actor) -> Check | None:
    """The check that was asked for last. Raises NotVisible without audit.list."""
    require(actor, AUDIT_LIST)
    return Check.objects.order_by("-created", "-id").first()


def is_running(check: Check) -> bool:
    """Whether an answer can still be expected."""
    return check.finished is None and clock.now() - check.heard < LOST_AFTER
