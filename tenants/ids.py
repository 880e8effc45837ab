"""Identifiers: UUID version 7, so that ids sort by time and carry the day they were made on."""

from datetime import UTC, date, datetime
from uuid import UUID

from uuid_utils.compat import uuid7 as _uuid7


def uuid7() -> UUID:
    """A new time-ordered identifier (RFC 9562, millisecond timestamp in the first 48 bits)."""
    return _uuid7()


def time_of(identifier: UUID) -> datetime:
    """The UTC time (millisecond precision) a version 7 identifier was made at. ValueError for any other version."""
    if identifier.version != 7:
        raise ValueError(f"{identifier} is not a version 7 UUID")
    return datetime.fromtimestamp((identifier.int >> 80) / 1000, tz=UTC)


def day_of(identifier: UUID) -> date:
    """The UTC day a version 7 identifier was made on."""
    return time_of(identifier).date()
