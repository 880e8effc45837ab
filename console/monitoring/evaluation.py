"""Rules held against the newest samples. An alert is pending while its condition has not yet held for long enough.

Time is what passed between two looks, by a clock that nobody sets: neither a clock that jumps nor a pause of this
process makes anything fire or end. No value is no reason: it neither holds nor fires.
"""

import math
import time
from collections.abc import Sequence
from datetime import datetime

from django.db import transaction
from django.db.models import Q

from console.monitoring import notices, reading
from console.monitoring.catalogue import SERIES_BY_NAME, Series
from console.monitoring.models import Alert, Notice, Rule, Silence
from console.monitoring.reading import Folded, Value
from tenants import clock

# A condition must be over for so long before its alert is: what comes and goes is one alert, told of once.
CLEAR_S = 60.0
# The most that one look counts for, however long the pause before it was.
LONGEST_S = 60.0
# Samples that make one point of "highest" and "lowest": 15 seconds.
SAMPLES_A_POINT = 3
KEPT_ALERTS = 10_000

Part = tuple[Folded, float]


class Evaluator:
    """Looks again and again, and knows how long ago the last look was."""

    def __init__(self) -> None:
        self._last: float | None = None

    def look(self) -> None:
        moment = time.monotonic()
        elapsed = 0.0 if self._last is None else moment - self._last
        self._last = moment
        look(elapsed=elapsed, now=clock.now())


def look(*, elapsed: float, now: datetime) -> None:
    """Hold every rule against the samples. elapsed: seconds since the last look."""
    elapsed = min(max(elapsed, 0.0), LONGEST_S)
    for rule in Rule.objects.filter(enabled=True, removed=None).order_by("pk"):
        series = SERIES_BY_NAME.get(rule.series)
        if series is not None:
            parts = reading.latest([rule.series], window_s=rule.window_s)
            value = aggregate(series, rule.aggregation, parts, a_point=SAMPLES_A_POINT)
            advance(rule, value, elapsed=elapsed, now=now)
    for alert in Alert.objects.exclude(state=Alert.State.RESOLVED).filter(
        Q(rule__enabled=False) | Q(rule__removed__isnull=False)
    ):
        _end(alert, now)


def aggregate(series: Series, aggregation: str, parts: Sequence[Part], *, a_point: int) -> Value:
    """What a rule compares. parts: the spans of its window, newest first; a_point: how many of them make a point."""
    match aggregation:
        case Rule.Aggregation.WHOLE:
            return _value(series, parts)
        case Rule.Aggregation.GROWTH:
            third = max(1, len(parts) // 3)
            new, old = _value(series, parts[:third]), _value(series, parts[-third:])
            return None if new is None or old is None else new - old
    points = (_value(series, parts[start : start + a_point]) for start in range(0, len(parts), a_point))
    known = [value for value in points if value is not None]
    if not known:
        return None
    return max(known) if aggregation == Rule.Aggregation.HIGHEST else min(known)


def holds(rule: Rule, value: Value) -> bool:
    if value is None or math.isnan(value):
        return False
    return value > rule.threshold if rule.comparison == Rule.Comparison.ABOVE else value < rule.threshold


@transaction.atomic
def advance(rule: Rule, value: Value, *, elapsed: float, now: datetime) -> None:
    """One step of the rule's alert: from nothing to pending, firing, resolved."""
    alert = Alert.objects.select_for_update().filter(rule=rule).exclude(state=Alert.State.RESOLVED).first()
    if holds(rule, value):
        if alert is None:
            alert = Alert(rule=rule, severity=rule.severity, began=now)
        else:
            alert.held_s += elapsed
        alert.clear_s = 0
        alert.value, alert.worst = value, _worst(rule, alert.worst, value)
        alert.save()
        if alert.state == Alert.State.PENDING and alert.held_s >= rule.for_s:
            _fire(alert, now)
    elif alert is not None and alert.state == Alert.State.PENDING:
        alert.delete()
    elif alert is not None:
        alert.clear_s += elapsed
        alert.value = value
        alert.save()
        if alert.clear_s >= CLEAR_S:
            _end(alert, now)
    if alert is not None and alert.state == Alert.State.FIRING and alert.silenced:
        _tell_if_heard(alert, now)


def is_silenced(rule: Rule, now: datetime) -> bool:
    return Silence.objects.filter(Q(rule=rule) | Q(rule=None), lifted=None, until__gt=now).exists()


def prune() -> None:
    """Keep the newest alerts that are over, whatever the clock says."""
    over = Alert.objects.filter(state=Alert.State.RESOLVED).order_by("-pk")
    oldest = over.values_list("pk", flat=True)[KEPT_ALERTS : KEPT_ALERTS + 1].first()
    if oldest is not None:
        Alert.objects.filter(state=Alert.State.RESOLVED, pk__lte=oldest).delete()


def _value(series: Series, parts: Sequence[Part]) -> Value:
    return reading.value_of(series, *reading.merged(parts)) if parts else None


def _worst(rule: Rule, worst: Value, value: Value) -> Value:
    known = [each for each in (worst, value) if each is not None]
    return max(known) if rule.comparison == Rule.Comparison.ABOVE else min(known)


def _fire(alert: Alert, now: datetime) -> None:
    alert.state, alert.fired = Alert.State.FIRING, now
    alert.silenced = is_silenced(alert.rule, now)
    alert.save()
    if not alert.silenced:
        notices.tell(alert, Notice.Event.FIRING)


def _tell_if_heard(alert: Alert, now: datetime) -> None:
    """A silence is over and the alert is not: now people are told."""
    if not is_silenced(alert.rule, now):
        alert.silenced = False
        alert.save()
        notices.tell(alert, Notice.Event.FIRING)


def _end(alert: Alert, now: datetime) -> None:
    if alert.state == Alert.State.PENDING:
        alert.delete()
        return
    alert.state, alert.resolved = Alert.State.RESOLVED, now
    alert.save()
    if not alert.silenced:
        notices.tell(alert, Notice.Event.RESOLVED)
