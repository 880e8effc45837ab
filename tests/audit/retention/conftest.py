"""What the tests of retention share: both clocks moved together, and officers."""

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta

import psycopg
import pytest
from django.utils import timezone

from audit import partitions
from audit.record import Handle, Keeping
from audit.retention import destruction, schedule
from audit.tree import sequencer
from tenants import clock
from tenants.access import Actor
from tests.audit.conftest import generation, id_at
from tests.conftest import Company, make_user
from tests.support.people import with_role
from tests.support.retention import set_database_clock


class Clocks:
    """The application's clock and the database's; both show the same time unless a test says otherwise."""

    def __init__(self, owner: psycopg.Connection) -> None:
        self.owner = owner
        self.ahead = timedelta()

    def now(self) -> datetime:
        return timezone.now() + self.ahead

    def to(self, when: datetime) -> None:
        self.shift(when - timezone.now())

    def shift(self, ahead: timedelta, *, database: timedelta | None = None) -> None:
        self.ahead = ahead
        set_database_clock(self.owner, ahead if database is None else database)

    def reset(self) -> None:
        self.shift(timedelta())


@pytest.fixture
def clocks(owner: psycopg.Connection, db: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Clocks]:
    found = Clocks(owner)
    monkeypatch.setattr(clock, "now", found.now)
    sequencer._looked.clear()
    yield found
    found.reset()
    monkeypatch.undo()
    # Days that went under a moved clock are days of today's records again.
    partitions._known.clear()
    today = datetime.now(UTC).date()
    for day in (today + timedelta(days=days) for days in (-1, 0, 1, 2, 3)):
        for table in ("audit_record", "audit_chunk", "audit_completion", "audit_search_entry"):
            owner.execute(f"DROP TABLE IF EXISTS {table}_{day:%Y%m%d}")
        owner.execute("SELECT audit_ensure_partition(%s)", [day])


@pytest.fixture
def yesterday() -> date:
    return datetime.now(UTC).date() - timedelta(days=1)


@pytest.fixture
def noon(yesterday: date) -> datetime:
    """Noon of yesterday: the newest day that is over."""
    return datetime(yesterday.year, yesterday.month, yesterday.day, 12, tzinfo=UTC)


@pytest.fixture
def old(member: Actor, noon: datetime) -> Handle:
    """A generation of yesterday."""
    return generation(member, request_id=id_at(noon))


@pytest.fixture
def officer(acme: Company) -> Actor:
    return acme.actor(acme.officer)


@pytest.fixture
def second_officer(acme: Company) -> Actor:
    return with_role(acme, make_user("second-officer@acme-bank.example"), "officer")


def due_at(day: date, days: int) -> datetime:
    """When a day's records go under a policy of so many days."""
    return schedule.end_of(day) + timedelta(days=days)


@pytest.fixture
def pass_days(clocks: Clocks) -> Callable[[date, int], None]:
    """The day's requests are announced in time, and their time comes."""

    def go(day: date, days: int) -> None:
        clocks.to(due_at(day, days) - timedelta(hours=24, minutes=30))
        destruction.run_all()
        clocks.to(due_at(day, days) + timedelta(minutes=1))

    return go


__all__ = ["Clocks", "Keeping", "due_at"]
