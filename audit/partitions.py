"""One partition a UTC day of every audit table.

The application's role owns no table, so a function of the migrating owner makes partitions for it, for days near
today only. The worker makes them ahead of time; a process that meets a day without one makes it on demand.
"""

from datetime import date, timedelta

from django.db import connection, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from tenants import clock

DAYS_AHEAD = 3

_known: set[date] = set()


def ensure(day: date) -> None:
    """Make the day's partitions unless they exist. Raises DatabaseError for days not near today.

    Costs nothing after the first call of a process and day.
    """
    if day in _known:
        return
    _make(connection, day)
    # A partition made in a transaction that fails does not exist: believe in it only once it is committed.
    transaction.on_commit(lambda: _known.add(day))


def ensure_partitions(database: BaseDatabaseWrapper | None = None) -> None:
    """Make the partitions of today and the coming days, over the given connection or the application's own."""
    today = clock.today()
    for ahead in range(DAYS_AHEAD + 1):
        _make(database or connection, today + timedelta(days=ahead))


def _make(database: BaseDatabaseWrapper, day: date) -> None:
    with database.cursor() as cursor:
        cursor.execute("SELECT audit_ensure_partition(%s)", [day])
