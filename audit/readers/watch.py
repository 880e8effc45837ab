"""The worker's look at what was read since the last one. Each reader with something new is judged by their last day.

What happened is told once: a rule speaks of a reader once an hour or day, and looking twice raises nothing twice.
"""

import statistics
from collections import Counter
from collections.abc import Collection, Iterable
from datetime import date, datetime, timedelta
from typing import Any
from uuid import UUID

from django.db.models import Count, Q, QuerySet
from django.db.models.functions import ExtractHour

from audit.models import AuditRecord
from audit.readers.access import room_of
from audit.readers.models import ReaderAlert, ReaderRule, ReaderWatch
from audit.readers.rules import CHECKS, DAY, Finding, Opened, Usual
from audit.record import READINGS, REQUESTS, handle_of, open_json, record_event
from audit.selectors import READ, first_id_at
from tenants import clock, envelope, groups
from tenants.actors import system_actor
from tenants.ids import day_of
from tenants.models import GroupMember, Tenant
from tenants.scope import tenant_scope

RAISED = "readers.alert"
LABEL = "custos readers"  # Who raised it, in records.

# What was begun before the last look may have been committed after it.
_SETTLING = timedelta(seconds=60)
_USUAL_DAYS = 28
_DAYS_TO_TELL = 5
_READINGS_TO_TELL = 20
_MOST = (
    5000  # Readings of a day that are looked at, newest first; far above every threshold but that of exports.
)
_EVENTS_NAMED = 100


def look(tenant: Tenant) -> int:
    """Raise what is to be raised; how many alerts."""
    now = clock.now()
    with tenant_scope(tenant.pk):
        watch = _watch(now)
        readers = _read_since(watch.looked_until - _SETTLING).exclude(user_id=None).order_by()
        thresholds = _thresholds()
        raised = 0
        for reader_id in readers.values_list("user_id", flat=True).distinct():
            raised += _judge(tenant, reader_id, thresholds, now) if reader_id else 0
        watch.looked_until = now
        watch.save(update_fields=["looked_until"])
    return raised


def _watch(now: datetime) -> ReaderWatch:
    """Locked: of two workers one looks after the other."""
    ReaderWatch.objects.bulk_create([ReaderWatch(looked_until=now - DAY)], ignore_conflicts=True)
    return ReaderWatch.objects.select_for_update().get()


def _thresholds() -> dict[str, int]:
    """By rule; rules that are switched off are left out."""
    own = {row.rule: row for row in ReaderRule.objects.all()}
    return {
        rule: own[rule].threshold if rule in own else check.threshold
        for rule, check in CHECKS.items()
        if rule not in own or own[rule].enabled
    }


def _judge(tenant: Tenant, reader_id: UUID, thresholds: dict[str, int], now: datetime) -> int:
    rows = _read_since(now - DAY).filter(user_id=reader_id).order_by("-day", "-id")[:_MOST]
    read, usual = _opened(list(rows)[::-1]), _usual(reader_id, now.date())
    raised = 0
    for rule, threshold in thresholds.items():
        for finding in CHECKS[rule].find(read, usual, threshold):
            raised += _raise(tenant, reader_id, rule, threshold, finding)
    return raised


def _raise(tenant: Tenant, reader_id: UUID, rule: str, threshold: int, finding: Finding) -> bool:
    if ReaderAlert.objects.filter(rule=rule, reader_id=reader_id, span=finding.span).exists():
        return False
    alert = ReaderAlert.objects.create(
        rule=rule,
        reader_id=reader_id,
        span=finding.span,
        since=finding.readings[0].time,
        until=finding.readings[-1].time,
        found=finding.found,
        threshold=threshold,
        events=[each.id for each in finding.readings[-_EVENTS_NAMED:]],
    )
    record_event(
        actor=system_actor(tenant, LABEL),
        kind=RAISED,
        subject_id=reader_id,
        detail={"alert": str(alert.pk), "rule": rule, "found": finding.found, "threshold": threshold},
        confined_to=room_of(reader_id),
    )
    return True


def _read_since(since: datetime) -> QuerySet[AuditRecord]:
    first = first_id_at(since)
    return _readings().filter(day__gte=day_of(first), id__gte=first)


def _readings() -> QuerySet[AuditRecord]:
    """Those outside of reviews and cases: by an alert, or one that does not come, nobody learns that there is a case."""
    return AuditRecord.objects.filter(kind__in=READINGS, confined_to=None)


def _opened(rows: Collection[AuditRecord]) -> list[Opened]:
    subjects = {row.subject_id for row in rows if row.kind == READ and row.subject_id is not None}
    about = {found.id: found for found in _records(subjects)}
    return [_one(row, about.get(row.subject_id) if row.subject_id else None) for row in rows]


def _one(row: AuditRecord, subject: AuditRecord | None) -> Opened:
    detail = _detail(row)
    exported = detail.get("records", 0)
    is_opening = row.kind == READ
    return Opened(
        id=row.id,
        time=row.created,
        record=subject.id if subject else None,
        about=subject.user_id if subject and is_opening else None,
        reason=str(detail.get("reason", "")),
        is_opening=is_opening,
        exported=0 if is_opening else exported if isinstance(exported, int) else len(exported),
        asked=subject is not None and subject.kind in REQUESTS,
    )


def _detail(row: AuditRecord) -> dict[str, Any]:
    try:
        found = open_json(handle_of(row), field="input", sealed=row.input)
    except (envelope.KeyDestroyed, envelope.Tampered):
        return {}
    return found if isinstance(found, dict) else {}


def _records(request_ids: Iterable[UUID]) -> Iterable[AuditRecord]:
    """Those that are still in their day, without content."""
    ids = list(request_ids)
    days = {day_of(each) for each in ids if each.version == 7}
    found = AuditRecord.objects.filter(day__in=days, id__in=ids)
    return found.only("day", "id", "kind", "user_id")


def _usual(reader_id: UUID, today: date) -> Usual:
    before = (
        _readings()
        .filter(user_id=reader_id, day__lt=today, day__gte=today - timedelta(days=_USUAL_DAYS))
        .order_by()
    )
    days = list(
        before.values("day")
        .annotate(n=Count("id", filter=Q(kind=READ)))
        .filter(n__gt=0)
        .values_list("n", flat=True)
    )
    hours = Counter(before.annotate(hour=ExtractHour("created")).values_list("hour", flat=True))
    return Usual(
        per_day=statistics.median(days) if len(days) >= _DAYS_TO_TELL else None,
        hours=frozenset(hours) if hours.total() >= _READINGS_TO_TELL else frozenset(),
        own=frozenset({reader_id, *_colleagues(reader_id)}),
    )


def _colleagues(reader_id: UUID) -> Iterable[UUID]:
    """Whoever is in a group that the person is in."""
    own = GroupMember.objects.filter(membership__user_id=reader_id).values_list("group_id", flat=True)
    for group_id in own:
        yield from groups.people_in(group_id)
