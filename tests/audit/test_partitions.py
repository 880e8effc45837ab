"""A day, a partition: around midnight, ahead of time and on demand."""

from datetime import UTC, date, datetime, time, timedelta

import psycopg
import pytest

from audit import partitions, record, tasks
from audit.output import text_of
from audit.record import AuditUnavailable
from audit.selectors import RecordFilters, list_records, open_record
from tenants import clock
from tenants.access import Actor
from tenants.scope import tenant_scope
from tests.audit.conftest import begin, generation, id_at

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def midnight() -> datetime:
    """The next UTC midnight."""
    return datetime.combine(clock.today() + timedelta(days=1), time(), tzinfo=UTC)


def _partitions(owner: psycopg.Connection, day: date) -> int:
    names = [f"public.{table}_{day:%Y%m%d}" for table in ("audit_record", "audit_chunk", "audit_completion")]
    found = owner.execute(
        "SELECT count(*) FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid "
        "WHERE inhrelid = ANY(SELECT to_regclass(name) FROM unnest(%s::text[]) AS name) "
        "AND relrowsecurity AND relforcerowsecurity",
        [names],
    )
    return found.fetchone()[0]


def _drop(owner: psycopg.Connection, day: date) -> None:
    for table in ("audit_record", "audit_chunk", "audit_completion"):
        owner.execute(f"DROP TABLE IF EXISTS {table}_{day:%Y%m%d}")
    partitions._known.discard(day)


def test_the_worker_makes_the_coming_days(owner: psycopg.Connection, db: None) -> None:
    days = [clock.today() + timedelta(days=ahead) for ahead in range(partitions.DAYS_AHEAD + 1)]
    for day in days[1:]:
        _drop(owner, day)
    assert [_partitions(owner, day) for day in days] == [3, 0, 0, 0]
    tasks.ensure_partitions()
    assert [_partitions(owner, day) for day in days] == [3, 3, 3, 3]
    tasks.ensure_partitions()


def test_a_day_without_partitions_gets_them_with_its_first_record(
    member: Actor, owner: psycopg.Connection, midnight: datetime
) -> None:
    _drop(owner, midnight.date())
    handle = begin(member, request_id=id_at(midnight + timedelta(hours=1)))
    assert handle.day == midnight.date()
    assert _partitions(owner, handle.day) == 3


def test_a_partition_that_was_rolled_back_is_made_again(
    member: Actor, owner: psycopg.Connection, midnight: datetime
) -> None:
    _drop(owner, midnight.date())
    with pytest.raises(ZeroDivisionError), tenant_scope(member.tenant_id):
        partitions.ensure(midnight.date())
        raise ZeroDivisionError
    assert _partitions(owner, midnight.date()) == 0
    begin(member, request_id=id_at(midnight))
    assert _partitions(owner, midnight.date()) == 3


def test_a_generation_that_runs_over_midnight_stays_in_its_day(
    member: Actor,
    reviewer: Actor,
    owner: psycopg.Connection,
    midnight: datetime,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = midnight - timedelta(milliseconds=1)
    handle = begin(member, request_id=id_at(before))
    monkeypatch.setattr(clock, "now", lambda: before)
    record.append(handle, seq=1, text="old ")
    monkeypatch.setattr(clock, "now", lambda: midnight + timedelta(seconds=1))
    record.append(handle, seq=2, text="new")
    record.complete(handle, status="completed")

    view = open_record(reviewer, handle.request_id, reason="midnight")
    assert text_of(view.output) == "old new"
    days = owner.execute(
        "SELECT DISTINCT day FROM audit_chunk WHERE request_id = %s "
        "UNION SELECT day FROM audit_completion WHERE request_id = %s",
        [handle.request_id, handle.request_id],
    )
    assert days.fetchall() == [(before.date(),)]


def test_the_first_millisecond_of_a_day_belongs_to_it(
    member: Actor, reviewer: Actor, midnight: datetime
) -> None:
    last = generation(member, request_id=id_at(midnight - timedelta(milliseconds=1)))
    first = generation(member, request_id=id_at(midnight))
    assert (last.day, first.day) == (midnight.date() - timedelta(days=1), midnight.date())
    found = list_records(reviewer, RecordFilters(since=midnight))
    assert [summary.id for summary in found.records] == [first.request_id]
    found = list_records(reviewer, RecordFilters(until=midnight))
    assert [summary.id for summary in found.records] == [last.request_id]


def test_a_request_far_from_today_cannot_be_recorded(member: Actor) -> None:
    """As when the clock of this machine and that of the database disagree by days."""
    with pytest.raises(AuditUnavailable):
        begin(member, request_id=id_at(clock.now() + timedelta(days=30)))
