"""Unusual reading raises an alert once; officers see it and another person answers for it; the reader never learns."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from unittest.mock import patch
from uuid import UUID, uuid4

import psycopg
import pytest
from django.db import DatabaseError, IntegrityError, connection
from django.test.utils import CaptureQueriesContext

from audit import record
from audit import selectors as audit_selectors
from audit.models import AuditRecord
from audit.readers import access, alerts, selectors, watch
from audit.readers.models import AlertAcknowledgement, ReaderAlert, Rule
from audit.readers.tasks import watch_readers
from audit.record import AuditUnavailable, handle_of, open_json
from audit.selectors import READ, ReasonRequired, open_record
from console.pages import labels
from tenants import clock
from tenants.access import Actor, NotVisible
from tenants.ids import uuid7
from tenants.models import Group, GroupMember, Membership, Tenant
from tenants.scope import tenant_scope
from tests.audit.conftest import generation
from tests.conftest import Company, make_user
from tests.tenants.conftest import one_change, refused

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def officer(acme: Company) -> Actor:
    return acme.actor(acme.officer)


@pytest.fixture
def second(acme: Company) -> Actor:
    """Another officer."""
    user = make_user("second@acme-bank.example")
    with tenant_scope(acme.tenant.pk):
        Membership.objects.create(user=user, role="officer")
    return acme.actor(user)


@pytest.fixture
def low(officer: Actor) -> None:
    """Three openings within an hour are many, and no other rule speaks."""
    for setting in _settings(officer):
        alerts.set_rule(actor=officer, rule=setting.rule, threshold=setting.usual, enabled=False)
    alerts.set_rule(actor=officer, rule=Rule.MANY, threshold=3, enabled=True)


def _settings(actor: Actor) -> list[alerts.Setting]:
    with tenant_scope(actor.tenant_id):
        return alerts.settings(actor)


def opened(actor: Actor, times: int, reason: str = "Routine sample", handle: Any = None) -> None:
    for _ in range(times):
        record.record_event(
            actor=actor,
            kind=READ,
            detail={"record": "x", "reason": reason},
            subject_id=handle.request_id if handle else None,
        )


def raised(company: Company) -> list[ReaderAlert]:
    watch.look(company.tenant)
    with tenant_scope(company.tenant.pk):
        return list(ReaderAlert.objects.order_by("created", "rule"))


def shown_to(actor: Actor, *, are_open: bool = True) -> list[alerts.Shown]:
    with tenant_scope(actor.tenant_id):
        return alerts.shown(actor, are_open=are_open)


def events(company: Company) -> list[AuditRecord]:
    with tenant_scope(company.tenant.pk):
        kinds = (watch.RAISED, alerts.ACKNOWLEDGED)
        return list(AuditRecord.objects.filter(kind__in=kinds).order_by("id"))


# --- Raising -------------------------------------------------------------------------------------


def test_it_is_raised_once_at_the_threshold_and_not_below(low: None, acme: Company, reviewer: Actor) -> None:
    opened(reviewer, 2)
    assert raised(acme) == []
    opened(reviewer, 1)
    (alert,) = raised(acme)
    assert (alert.rule, alert.reader_id, alert.found, alert.threshold) == (Rule.MANY, reviewer.user_id, 3, 3)
    opened(reviewer, 5)
    assert len(raised(acme)) == 1, "an hour is told once"


def test_what_was_read_before_the_last_look_is_counted_and_a_quiet_tenant_is_left_alone(
    low: None, acme: Company, north: Company, reviewer: Actor, outsider: Actor
) -> None:
    opened(reviewer, 2)
    opened(outsider, 9)
    watch.look(acme.tenant)
    later = clock.now() + timedelta(minutes=5)
    with patch("tenants.clock.now", return_value=later):
        opened(reviewer, 1)
        assert len(raised(acme)) == 1
    with tenant_scope(north.tenant.pk):
        assert ReaderAlert.objects.count() == 0


def test_each_alert_is_an_event_in_the_same_transaction(low: None, acme: Company, reviewer: Actor) -> None:
    opened(reviewer, 3)
    with (
        patch("audit.readers.watch.record_event", side_effect=AuditUnavailable),
        pytest.raises(AuditUnavailable),
    ):
        watch.look(acme.tenant)
    with tenant_scope(acme.tenant.pk):
        assert ReaderAlert.objects.count() == 0
    (alert,) = raised(acme)
    (event,) = events(acme)
    assert (event.kind, event.subject_id, event.user_label) == (watch.RAISED, reviewer.user_id, watch.LABEL)
    with tenant_scope(acme.tenant.pk):
        detail = open_json(handle_of(event), field="input", sealed=event.input)
    assert detail == {"alert": str(alert.pk), "rule": Rule.MANY, "found": 3, "threshold": 3}


@pytest.fixture
def only(officer: Actor) -> Callable[[str, int], None]:
    def set_to(rule: str, threshold: int) -> None:
        for setting in _settings(officer):
            alerts.set_rule(actor=officer, rule=setting.rule, threshold=setting.usual, enabled=False)
        alerts.set_rule(actor=officer, rule=rule, threshold=threshold, enabled=True)

    return set_to


def test_one_persons_records(only: Any, acme: Company, reviewer: Actor, member: Actor) -> None:
    only(Rule.ONE_PERSON, 3)
    handles = [generation(member) for _ in range(3)]
    for handle in handles:
        open_record(reviewer, handle.request_id, reason="Routine sample")
    assert [alert.rule for alert in raised(acme)] == [Rule.ONE_PERSON]


def test_records_of_ones_own_department(only: Any, acme: Company, reviewer: Actor, member: Actor) -> None:
    only(Rule.OWN_DEPARTMENT, 2)
    handle = generation(member)
    opened(reviewer, 2, handle=handle)
    assert raised(acme) == []
    with tenant_scope(acme.tenant.pk):
        desk = Group.objects.create(name="Desk")
        for user in (acme.reviewer, acme.member):
            GroupMember.objects.create(group=desk, membership=Membership.objects.get(user=user))
    assert [alert.rule for alert in raised(acme)] == [Rule.OWN_DEPARTMENT]


def test_requests_opened_outside_of_a_review_or_case(
    only: Any, acme: Company, reviewer: Actor, member: Actor
) -> None:
    only(Rule.NO_GROUND, 2)
    opened(reviewer, 2, handle=generation(member))
    assert [alert.rule for alert in raised(acme)] == [Rule.NO_GROUND]


@pytest.mark.parametrize("rule", [Rule.MANY, Rule.ONE_PERSON, Rule.NO_GROUND, Rule.SAME_REASON])
def test_nobody_learns_of_a_case_by_an_alert(
    only: Any, acme: Company, reviewer: Actor, member: Actor, rule: str
) -> None:
    only(rule, 2)
    handle = generation(member)
    for _time in range(3):
        record.record_event(
            actor=reviewer,
            kind=READ,
            detail={"reason": "r"},
            subject_id=handle.request_id,
            confined_to=uuid4(),
        )
    assert raised(acme) == []


def test_the_same_reason_and_nothing_of_it_is_kept(only: Any, acme: Company, reviewer: Actor) -> None:
    only(Rule.SAME_REASON, 3)
    opened(reviewer, 3, reason="xyzzy")
    assert len(raised(acme)) == 1
    with connection.cursor() as cursor, tenant_scope(acme.tenant.pk):
        cursor.execute("SELECT row_to_json(a)::text FROM audit_readers_readeralert a")
        assert "xyzzy" not in cursor.fetchone()[0]


def test_exports(only: Any, acme: Company, reviewer: Actor) -> None:
    only(Rule.MASS_EXPORT, 100)
    for records in (60, ["x"] * 40):
        record.record_event(actor=reviewer, kind="audit.export", detail={"records": records, "reason": "r"})
    assert [alert.found for alert in raised(acme)] == [100]


def test_hours_and_days_of_before_make_the_usual(only: Any, acme: Company, reviewer: Actor) -> None:
    now = clock.now().replace(hour=12, minute=0)
    with patch("audit.record.uuid7", side_effect=lambda: _id_at(now - timedelta(days=1))):
        opened(reviewer, 20)
    with tenant_scope(acme.tenant.pk):
        usual = watch._usual(reviewer.user_id, now.date())
    assert (usual.per_day, usual.hours) == (None, frozenset({12}))
    assert usual.own == {reviewer.user_id}


def _id_at(time: Any) -> UUID:
    made = uuid7()
    milliseconds = int(time.timestamp() * 1000)
    return UUID(int=(milliseconds << 80) | (made.int & ((1 << 80) - 1)))


def test_a_thousand_readings_cost_as_many_queries_as_ten(low: None, acme: Company, reviewer: Actor) -> None:
    opened(reviewer, 5)
    watch.look(acme.tenant)
    with CaptureQueriesContext(connection) as few:
        watch.look(acme.tenant)
    opened(reviewer, 60)
    with CaptureQueriesContext(connection) as many:
        watch.look(acme.tenant)
    assert len(many) <= len(few)


# --- Seeing and acknowledging --------------------------------------------------------------------


@pytest.fixture
def alert(low: None, acme: Company, reviewer: Actor) -> ReaderAlert:
    opened(reviewer, 3)
    return raised(acme)[0]


def test_officers_see_it_and_nobody_else(
    acme: Company, alert: ReaderAlert, officer: Actor, reviewer: Actor
) -> None:
    (found,) = shown_to(officer)
    assert (found.alert.pk, found.reader) == (alert.pk, acme.reviewer.email)
    for user in (acme.reviewer, acme.auditor, acme.owner, acme.member):
        actor = acme.actor(user)
        with pytest.raises(NotVisible):
            shown_to(actor)
        with pytest.raises(NotVisible):
            alerts.acknowledge(actor=actor, alert_id=alert.pk, reason="Nothing.")
        with tenant_scope(acme.tenant.pk):
            assert alerts.count_open(actor) == 0


def test_an_officer_never_sees_the_alert_on_themselves(
    low: None, acme: Company, officer: Actor, second: Actor
) -> None:
    opened(officer, 3)
    (alert,) = raised(acme)
    assert shown_to(officer) == [] and len(shown_to(second)) == 1
    with tenant_scope(acme.tenant.pk):
        assert [alerts.count_open(officer), alerts.count_open(second)] == [0, 1]
    with pytest.raises(NotVisible):
        alerts.acknowledge(actor=officer, alert_id=alert.pk, reason="It was me.")


def test_its_event_is_known_to_those_officers_alone(
    acme: Company, alert: ReaderAlert, officer: Actor, reviewer: Actor
) -> None:
    (event,) = events(acme)
    assert audit_selectors.find_record(officer, event.id).kind == watch.RAISED
    for user in (acme.reviewer, acme.auditor):
        with pytest.raises(NotVisible):
            audit_selectors.find_record(acme.actor(user), event.id)
    every = audit_selectors.RecordFilters(kinds=())
    assert event.id not in {each.id for each in audit_selectors.list_records(reviewer, every).records}


def test_it_is_acknowledged_once_with_a_reason(acme: Company, alert: ReaderAlert, officer: Actor) -> None:
    for reason in ("", "  ", "x" * (alerts.LONGEST_REASON + 1)):
        with refused("reason_missing", "reason"):
            alerts.acknowledge(actor=officer, alert_id=alert.pk, reason=reason)
    alerts.acknowledge(actor=officer, alert_id=alert.pk, reason="Agreed sample of Desk 7.")
    assert shown_to(officer) == []
    (done,) = shown_to(officer, are_open=False)
    assert (done.acknowledged_by, done.reason) == (acme.officer.email, "Agreed sample of Desk 7.")
    with refused("acknowledged"):
        alerts.acknowledge(actor=officer, alert_id=alert.pk, reason="Again.")
    assert [event.kind for event in events(acme)] == [watch.RAISED, alerts.ACKNOWLEDGED]
    assert {event.confined_to for event in events(acme)} == {access.room_of(alert.reader_id)}
    with tenant_scope(acme.tenant.pk):
        assert b"Desk" not in bytes(AlertAcknowledgement.objects.get().sealed_reason)


def test_without_a_record_nothing_is_acknowledged(alert: ReaderAlert, officer: Actor) -> None:
    with (
        patch("audit.readers.alerts.record_event", side_effect=AuditUnavailable),
        pytest.raises(AuditUnavailable),
    ):
        alerts.acknowledge(actor=officer, alert_id=alert.pk, reason="Nothing.")
    assert len(shown_to(officer)) == 1


def test_the_database_refuses_the_readers_own_and_every_change(
    alert: ReaderAlert, acme: Company, owner: psycopg.Connection
) -> None:
    with pytest.raises(IntegrityError), tenant_scope(acme.tenant.pk):
        AlertAcknowledgement.objects.create(alert=alert, by_id=alert.reader_id, sealed_reason=b"x")
    for statement in (
        "UPDATE audit_readers_readeralert SET found = 0",
        "DELETE FROM audit_readers_readeralert",
    ):
        denied = pytest.raises(DatabaseError, match="permission denied")
        with denied, tenant_scope(acme.tenant.pk), connection.cursor() as cursor:
            cursor.execute(statement)


def test_another_tenants_officer_acknowledges_nothing(alert: ReaderAlert, north: Company) -> None:
    theirs = north.actor(north.officer)
    assert shown_to(theirs) == []
    with pytest.raises(NotVisible):
        alerts.acknowledge(actor=theirs, alert_id=alert.pk, reason="Nothing.")


# --- Thresholds ----------------------------------------------------------------------------------


def test_thresholds_are_a_tenants_own_and_their_change_is_recorded(
    acme: Company, north: Company, officer: Actor
) -> None:
    with one_change(acme, alerts.RULE_CHANGED) as found:
        alerts.set_rule(actor=officer, rule=Rule.MANY, threshold=7, enabled=True)
    assert (found[0].before, found[0].after) == (
        {"threshold": 60, "enabled": True},
        {"threshold": 7, "enabled": True},
    )
    assert found[0].detail == {"rule": Rule.MANY}
    assert {s.rule: s.threshold for s in _settings(officer)}[Rule.MANY] == 7
    assert {s.rule: s.threshold for s in _settings(north.actor(north.officer))}[Rule.MANY] == 60


def test_what_is_no_threshold_is_refused(acme: Company, officer: Actor, reviewer: Actor) -> None:
    for threshold in (0, -1, 12):
        with refused("threshold_invalid", Rule.ODD_HOURS):
            alerts.set_rule(actor=officer, rule=Rule.ODD_HOURS, threshold=threshold, enabled=True)
    with pytest.raises(NotVisible):
        alerts.set_rule(actor=officer, rule="no-such", threshold=1, enabled=True)
    with pytest.raises(NotVisible):
        alerts.set_rule(actor=reviewer, rule=Rule.MANY, threshold=1, enabled=False)


# --- Readings ------------------------------------------------------------------------------------


def entries(actor: Actor, filters: selectors.Filters | None = None) -> list[selectors.Entry]:
    with tenant_scope(actor.tenant_id):
        return selectors.readings(actor, filters or selectors.Filters())[0]


def test_a_reviewer_sees_their_own_with_reasons_and_an_officer_everybodys_without(
    acme: Company, officer: Actor, reviewer: Actor, member: Actor
) -> None:
    handle = generation(member)
    open_record(reviewer, handle.request_id, reason="mine")
    open_record(officer, handle.request_id, reason="the officer's")
    assert [(each.reader, each.reason) for each in entries(reviewer)] == [(acme.reviewer.email, "mine")]
    assert [(each.reader, each.reason) for each in entries(officer)] == [
        (acme.officer.email, "the officer's"),
        (acme.reviewer.email, None),
    ]
    with pytest.raises(NotVisible):
        entries(acme.actor(acme.auditor))


def test_the_reasons_of_others_are_shown_once_that_is_recorded(
    acme: Company, officer: Actor, reviewer: Actor, member: Actor
) -> None:
    open_record(reviewer, generation(member).request_id, reason="a client's name")

    def look(actor: Actor, reason: str) -> list[selectors.Entry]:
        with tenant_scope(actor.tenant_id):
            return selectors.with_reasons(actor, selectors.Filters(), reason=reason)[0]

    with pytest.raises(ReasonRequired):
        look(officer, " ")
    with pytest.raises(NotVisible):
        look(reviewer, "curious")
    unwritable = patch("audit.readers.selectors.record_event", side_effect=AuditUnavailable)
    with unwritable, pytest.raises(AuditUnavailable):
        look(officer, "quarterly check")
    assert [each.reader for each in entries(officer)] == [acme.reviewer.email]
    assert [each.reason for each in look(officer, "quarterly check")] == ["a client's name"]
    assert [(each.reader, each.reason) for each in entries(officer)] == [
        (acme.officer.email, "quarterly check"),
        (acme.reviewer.email, None),
    ]


def test_readings_are_narrowed_and_paged(
    acme: Company, officer: Actor, reviewer: Actor, member: Actor
) -> None:
    one, other = generation(member), generation(member)
    for handle in (one, other, one):
        open_record(reviewer, handle.request_id, reason="r")
    open_record(officer, one.request_id, reason="r")
    record.record_event(actor=officer, kind="audit.search", detail={"reason": "r"})
    narrowed = {
        5: selectors.Filters(),
        3: selectors.Filters(user_id=reviewer.user_id),
        1: selectors.Filters(kind="audit.search"),
        0: selectors.Filters(until=clock.now() - timedelta(hours=1)),
    }
    for count, filters in narrowed.items():
        assert len(entries(officer, filters)) == count, filters
    assert (
        len(
            entries(officer, selectors.Filters(record=one.request_id, since=clock.now() - timedelta(hours=1)))
        )
        == 3
    )
    assert entries(officer, selectors.Filters(user_id=uuid4())) == []
    seen: list[UUID] = []
    cursor = ""
    with tenant_scope(acme.tenant.pk):
        while True:
            page, cursor = selectors.readings(officer, cursor=cursor, limit=2)
            seen += [each.id for each in page]
            if not cursor:
                break
        with pytest.raises(NotVisible):
            selectors.readings(officer, cursor="no-such")
    assert seen == [each.id for each in entries(officer)]


def test_what_is_read_in_a_case_is_not_listed_outside_of_it(
    acme: Company, officer: Actor, reviewer: Actor
) -> None:
    record.record_event(actor=reviewer, kind=READ, detail={"reason": "r"}, confined_to=uuid4())
    assert entries(officer) == []
    with tenant_scope(acme.tenant.pk):
        assert selectors.figures(officer) == []


def test_figures_tell_today_from_other_days(acme: Company, officer: Actor, reviewer: Actor) -> None:
    yesterday = clock.now() - timedelta(days=1)
    with patch("audit.record.uuid7", side_effect=lambda: _id_at(yesterday)):
        opened(reviewer, 4)
    opened(reviewer, 2)
    record.record_event(actor=reviewer, kind="audit.export", detail={"reason": "r"})
    with tenant_scope(acme.tenant.pk):
        (found,) = selectors.figures(officer)
        assert selectors.figures(acme.actor(acme.officer)) == [found]
        assert selectors.readers(officer) == [(reviewer.user_id, acme.reviewer.email)]
    assert (found.openings, found.searches, found.exports, found.usual) == (2, 0, 1, 4.0)


def test_each_event_has_words() -> None:
    assert {watch.RAISED, alerts.ACKNOWLEDGED, alerts.RULE_CHANGED} <= set(labels.EVENTS)


def test_one_tenants_trouble_does_not_hold_up_another(
    acme: Company, north: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[str] = []

    def look(tenant: Tenant) -> int:
        looked.append(tenant.slug)
        raise RuntimeError("trouble")

    monkeypatch.setattr(watch, "look", look)
    watch_readers()
    assert looked == ["acme-bank", "north-fund"]
