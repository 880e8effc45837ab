"""Alerts on unusual reading: what officers see and acknowledge, and the thresholds that they set."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.utils.translation import gettext as _

from audit.models import AuditRecord
from audit.readers import access
from audit.readers.models import AlertAcknowledgement, ReaderAlert, ReaderRule, Rule
from audit.readers.rules import CHECKS
from audit.record import Keeping, record_event
from audit.secrecy import visible
from tenants import envelope
from tenants.actors import Actor, NotVisible, require
from tenants.changes import change, record_change
from tenants.errors import Refused
from tenants.ids import day_of, uuid7
from tenants.models import User
from tenants.roles import REVIEW_MANAGE

ACKNOWLEDGED = "readers.acknowledged"
RULE_CHANGED = "readers.rule_changed"
MOST_SHOWN = 100
LONGEST_REASON = 1000


@dataclass(frozen=True, slots=True)
class Shown:
    """An alert for an officer. `records`: what was opened, as far as the officer knows of it; acknowledged_by: "" while open."""

    alert: ReaderAlert
    reader: str
    records: list[UUID]
    acknowledged_by: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Setting:
    """A rule as it holds in a tenant."""

    rule: str
    label: str
    threshold: int
    usual: int
    most: int
    enabled: bool


def count_open(actor: Actor) -> int:
    """How many alerts wait for this actor. Inside the tenant's scope."""
    return access.alerts_of(actor).filter(acknowledgement=None).count()


def shown(actor: Actor, *, are_open: bool) -> list[Shown]:
    """The newest alerts that wait, or those that were acknowledged. Raises NotVisible without review.manage."""
    require(actor, REVIEW_MANAGE)
    found = access.alerts_of(actor).filter(acknowledgement__isnull=are_open).select_related("acknowledgement")
    alerts = list(found[:MOST_SHOWN])
    done = {alert.pk: alert.acknowledgement for alert in alerts} if not are_open else {}
    people = {alert.reader_id for alert in alerts} | {each.by_id for each in done.values()}
    names = dict(User.objects.filter(pk__in=people).values_list("pk", "email"))
    return [_shown(actor, alert, done.get(alert.pk), names) for alert in alerts]


@change
def acknowledge(*, actor: Actor, alert_id: UUID, reason: str) -> AlertAcknowledgement:
    """Say what was found when the alert was looked into. Raises NotVisible, also to the reader concerned, and Refused."""
    require(actor, REVIEW_MANAGE)
    alert = access.alerts_of(actor).filter(pk=alert_id).first()
    if alert is None or actor.user_id is None:
        raise NotVisible("alert")
    reason = reason.strip()
    if not reason or len(reason) > LONGEST_REASON:
        message = _("State what you found, in at most %(most)d characters.") % {"most": LONGEST_REASON}
        raise Refused("reason_missing", message, "reason")
    if AlertAcknowledgement.objects.filter(alert=alert).exists():
        raise Refused("acknowledged", _("Somebody has acknowledged this alert already."))
    row_id = uuid7()
    done = AlertAcknowledgement.objects.create(
        id=row_id, alert=alert, by_id=actor.user_id, sealed_reason=_seal(actor.tenant_id, row_id, reason)
    )
    record_event(
        actor=actor,
        kind=ACKNOWLEDGED,
        subject_id=alert.reader_id,
        detail={"alert": str(alert.pk), "rule": alert.rule, "reason": reason},
        client_address=actor.address,
        confined_to=access.room_of(alert.reader_id),
    )
    return done


def settings(actor: Actor) -> list[Setting]:
    """All rules as they hold. Raises NotVisible without review.manage."""
    require(actor, REVIEW_MANAGE)
    own = {row.rule: row for row in ReaderRule.objects.all()}
    return [
        Setting(
            rule=rule,
            label=str(Rule(rule).label),
            threshold=own[rule].threshold if rule in own else check.threshold,
            usual=check.threshold,
            most=check.most,
            enabled=own[rule].enabled if rule in own else True,
        )
        for rule, check in CHECKS.items()
    ]


@change
def set_rule(*, actor: Actor, rule: str, threshold: int, enabled: bool) -> None:
    """From now on this threshold holds. Alerts raised before stay. Raises NotVisible and Refused."""
    require(actor, REVIEW_MANAGE)
    check = CHECKS.get(rule)
    if check is None:
        raise NotVisible(rule)
    if not 1 <= threshold <= check.most:
        message = _("Enter a whole number from 1 to %(most)d.") % {"most": check.most}
        raise Refused("threshold_invalid", message, rule)
    row = ReaderRule.objects.filter(rule=rule).first() or ReaderRule(rule=rule, threshold=check.threshold)
    before = {"threshold": row.threshold, "enabled": row.enabled}
    after = {"threshold": threshold, "enabled": enabled}
    if before != after:
        row.threshold, row.enabled = threshold, enabled
        row.save()
        record_change(actor, RULE_CHANGED, detail={"rule": rule}, before=before, after=after)


def _shown(
    actor: Actor, alert: ReaderAlert, done: AlertAcknowledgement | None, names: dict[UUID, str]
) -> Shown:
    days = {day_of(each) for each in alert.events}
    readings = visible(actor, AuditRecord.objects.filter(day__in=days, id__in=alert.events))
    records = readings.exclude(subject_id=None).values_list("subject_id", flat=True)
    return Shown(
        alert=alert,
        reader=names.get(alert.reader_id, str(alert.reader_id)),
        records=list(dict.fromkeys(each for each in records if each is not None)),
        acknowledged_by=names.get(done.by_id, str(done.by_id)) if done else "",
        reason=_unseal(done) if done else "",
    )


def _place(tenant_id: UUID, row_id: UUID) -> dict[str, Any]:
    aad = {"row": row_id, "field": "reason"}
    return {"tenant_id": tenant_id, "purpose": Keeping.CHANGES, "day": day_of(row_id), "aad": aad}


def _seal(tenant_id: UUID, row_id: UUID, reason: str) -> bytes:
    return envelope.seal(plaintext=reason.encode(), **_place(tenant_id, row_id))


def _unseal(row: AlertAcknowledgement) -> str:
    try:
        return envelope.open_sealed(sealed=bytes(row.sealed_reason), **_place(row.tenant_id, row.pk)).decode()
    except envelope.KeyDestroyed:
        return ""
