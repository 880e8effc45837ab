"""Samples as the monitor would have taken them."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from console.monitoring import sampler
from console.monitoring.models import Sample
from console.monitoring.rules import By
from tenants import clock
from tenants.models import User

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Clock:
    """The product's clock, which a test sets."""

    def __init__(self, now: datetime) -> None:
        self.now = now

    def move(self, **by: float) -> None:
        self.now += timedelta(**by)


@pytest.fixture
def moved(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Noon, until it is moved."""
    time = Clock(NOON)
    monkeypatch.setattr(clock, "now", lambda: time.now)
    return time


@pytest.fixture
def take(moved: Clock) -> Callable[..., list[Sample]]:
    """take(5, requests=10): samples, five seconds apart, of counters and gauges as they stand; the clock goes on."""

    def samples(times: int = 1, *, elapsed: float | None = 5.0, **numbers: float) -> list[Sample]:
        taken = []
        for _number in range(times):
            moved.move(seconds=5)
            found = {name.replace("__", ":"): number for name, number in numbers.items()}
            taken.append(sampler.keep(found, at=moved.now, elapsed=elapsed))
        return taken

    return samples


@pytest.fixture
def by(platform_administrator: User) -> By:
    return By(user=platform_administrator, address="192.0.2.1")
