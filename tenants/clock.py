"""The one clock. Code asks here for the time, so that a test moves it in one place."""

from datetime import date, datetime

from django.utils import timezone


def now() -> datetime:
    """The current time, aware, UTC."""
    return timezone.now()


def today() -> date:
    """The current UTC day: days of keys, partitions and retention are UTC days."""
    return now().date()
