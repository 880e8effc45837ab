"""Moving the clock of what may be destroyed, as only the database's owner can."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from uuid import UUID

import psycopg

_CLOCK = (
    "CREATE OR REPLACE FUNCTION audit_now() RETURNS timestamptz LANGUAGE sql VOLATILE "
    "SET search_path = pg_catalog, pg_temp AS $$ SELECT clock_timestamp() + interval '{} seconds' $$"
)


def set_database_clock(owner: psycopg.Connection, ahead: timedelta) -> None:
    """Retention's clock in the database goes ahead of the real one, or behind, until it is set again."""
    owner.execute(_CLOCK.format(ahead.total_seconds()))


@contextmanager
def database_clock(owner: psycopg.Connection, ahead: timedelta) -> Iterator[None]:
    """As set_database_clock, within the block."""
    set_database_clock(owner, ahead)
    try:
        yield
    finally:
        set_database_clock(owner, timedelta())


def announced(owner: psycopg.Connection, tenant_id: UUID, keeping: str, day: date) -> None:
    """The day's going was said long ago, so that it goes when it is due."""
    owner.execute(
        "INSERT INTO audit_retention_notice (id, tenant_id, keeping, day) VALUES (gen_random_uuid(), %s, %s, %s)",
        [tenant_id, keeping, day],
    )
    # A trigger has given it the time of its writing; who writes it anew is only the owner.
    owner.execute("UPDATE audit_retention_notice SET announced = '2000-01-01' WHERE day = %s", [day])
