"""A clock that is wrong destroys nothing: neither one of two that disagree, nor both when they jump together."""

import logging
from datetime import date, timedelta

import pytest
from django.db import DatabaseError, connection

from audit import record
from audit.record import Handle, Keeping
from audit.retention import destruction, policies, schedule
from audit.retention.models import Notice
from tenants.access import Actor
from tenants.scope import tenant_scope
from tests.audit.conftest import generation, id_at
from tests.audit.retention.conftest import Clocks, due_at
from tests.audit.retention.test_destruction import Rows

pytestmark = pytest.mark.django_db(transaction=True)

REQUESTS = Keeping.REQUESTS


@pytest.fixture
def also_today(member: Actor, yesterday: date) -> Handle:
    return generation(member, request_id=id_at(schedule.end_of(yesterday) + timedelta(minutes=1)))


@pytest.mark.parametrize("database", [timedelta(minutes=-4), timedelta(minutes=4), timedelta(days=-900)])
def test_clocks_that_disagree_destroy_nothing(
    old: Handle,
    yesterday: date,
    clocks: Clocks,
    rows: Rows,
    database: timedelta,
    caplog: pytest.LogCaptureFixture,
) -> None:
    clocks.to(due_at(yesterday, 7) - timedelta(hours=24, minutes=30))
    destruction.run_all()
    clocks.to(due_at(yesterday, 7) + timedelta(minutes=5))
    clocks.shift(clocks.ahead, database=clocks.ahead + database)
    with caplog.at_level(logging.ERROR):
        assert destruction.run_all() == 0
    assert "ALARM: nothing goes under retention" in caplog.text
    assert rows("audit_record", old.request_id) == 1
    clocks.shift(clocks.ahead)
    assert destruction.run_all() == 1


def test_a_jump_of_years_destroys_nothing_for_a_day_and_alarms(
    old: Handle,
    also_today: Handle,
    clocks: Clocks,
    rows: Rows,
    caplog: pytest.LogCaptureFixture,
) -> None:
    destruction.run_all()
    clocks.shift(timedelta(days=2000))
    with caplog.at_level(logging.ERROR):
        assert destruction.run_all() == 0
    assert "ALARM: 2 days (audit)" in caplog.text
    assert len(schedule.waiting(old.tenant_id, schedule.now())) == 2
    clocks.shift(timedelta(days=2000, hours=23))
    assert destruction.run_all() == 0
    clocks.reset()
    assert destruction.run_all() == 0, "the clock was set right, and nothing is due"
    assert rows("audit_record", old.request_id) == rows("audit_record", also_today.request_id) == 1


def test_after_a_jump_the_days_in_which_records_are_written_have_their_partitions(
    old: Handle, member: Actor, clocks: Clocks
) -> None:
    record.record_event(actor=member, kind="member.left", detail={})  # Of today, without chunks.
    clocks.shift(timedelta(days=2000))
    destruction.run_all()
    clocks.reset()
    generation(member)


def test_what_a_clock_that_ran_ahead_said_was_not_said(
    old: Handle, yesterday: date, clocks: Clocks, rows: Rows
) -> None:
    clocks.shift(timedelta(days=2000))
    destruction.run_all()
    clocks.to(due_at(yesterday, 7) + timedelta(minutes=5))
    assert destruction.run_all() == 0, "said in the future, so not said"
    clocks.to(due_at(yesterday, 7) + timedelta(hours=24, minutes=6))
    assert destruction.run_all() == 1
    assert rows("audit_record", old.request_id) == 0


def test_after_a_day_at_the_new_time_it_goes_after_all(
    old: Handle, also_today: Handle, clocks: Clocks
) -> None:
    clocks.shift(timedelta(days=2000))
    destruction.run_all()
    clocks.shift(timedelta(days=2001, minutes=1))
    assert destruction.run_all() == 2


def test_nobody_shortens_that_day_whatever_the_application_writes(
    old: Handle, also_today: Handle, clocks: Clocks
) -> None:
    clocks.shift(timedelta(days=2000))
    insert = (
        "INSERT INTO audit_retention_notice (id, tenant_id, keeping, day, announced{more}) "
        "VALUES (gen_random_uuid(), %(tenant)s, 'audit', %(day)s, '2000-01-01'{value})"
    )
    values = {"tenant": old.tenant_id, "day": old.day}
    with tenant_scope(old.tenant_id), connection.cursor() as cursor:
        cursor.execute(insert.format(more="", value=""), values)
        cursor.execute("SELECT audit_retention_ready('audit', %(day)s)", values)
        assert cursor.fetchone() == (False,)
    confirmed = insert.format(more=", confirmed_by", value=", gen_random_uuid()")
    with (
        pytest.raises(DatabaseError, match="confirmed_by"),
        tenant_scope(old.tenant_id),
        connection.cursor() as cursor,
    ):
        cursor.execute(confirmed, values)
    assert destruction.run_all() == 0


def test_a_stop_of_some_days_waits_likewise_and_what_was_announced_goes_at_once(
    old: Handle, also_today: Handle, yesterday: date, clocks: Clocks
) -> None:
    clocks.to(due_at(yesterday, 7) - timedelta(hours=24, minutes=30))
    destruction.run_all()
    clocks.to(due_at(yesterday, 7) + timedelta(days=3))
    assert [gone.day for gone in destruction.run(old.tenant_id, schedule.now())] == [yesterday]
    assert len(schedule.waiting(old.tenant_id, schedule.now())) == 1


def test_a_clock_that_goes_back_brings_nothing_back_and_destroys_nothing(
    old: Handle, also_today: Handle, yesterday: date, clocks: Clocks, rows: Rows
) -> None:
    clocks.to(due_at(yesterday, 7) - timedelta(hours=24, minutes=30))
    destruction.run_all()
    clocks.to(due_at(yesterday, 7) + timedelta(minutes=5))
    assert destruction.run_all() == 1
    clocks.shift(timedelta(days=-30))
    assert destruction.run_all() == 0
    assert rows("audit_record", also_today.request_id) == 1


def test_each_day_is_announced_once(old: Handle, yesterday: date, clocks: Clocks) -> None:
    clocks.to(due_at(yesterday, 7) - timedelta(hours=24, minutes=30))
    for _ in range(3):
        destruction.run_all()
    with tenant_scope(old.tenant_id):
        assert Notice.objects.filter(keeping=REQUESTS, day=yesterday).count() == 1


def test_a_shorter_policy_is_announced_with_what_it_will_destroy_and_goes_when_it_counts(
    old: Handle, officer: Actor, yesterday: date, clocks: Clocks, rows: Rows
) -> None:
    clocks.to(due_at(yesterday, 3))
    policies.set_policy(actor=officer, keeping=REQUESTS, days=2, reason="Less is better")
    for hours in (0, 12, 23.9):
        clocks.to(due_at(yesterday, 3) + timedelta(hours=hours))
        destruction.run_all()
        assert rows("audit_record", old.request_id) == 1, hours
    clocks.to(due_at(yesterday, 4) + timedelta(minutes=5))
    assert destruction.run_all() == 1
