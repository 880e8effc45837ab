"""Series as points over time, from the samples in PostgreSQL or from Prometheus, by the same few calls."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

from django.conf import settings
from django.db import connection
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _
from psycopg import sql

from console.monitoring.catalogue import KEPT_BY_NAME, SERIES_BY_NAME, Fold, Kind, Series
from console.monitoring.models import Minute, Sample, Slot
from console.monitoring.sampler import EVERY_S, folding

Value = float | None
# Longer spans are read from the minutes: 24 hours of samples are 17,280 rows.
FROM_SAMPLES = timedelta(hours=6)

# What several samples came to, by kept name.
Folded = dict[str, float]


class Unreachable(Exception):
    """The figures cannot be had now; the message says from where."""


@dataclass(frozen=True, slots=True)
class Points:
    """times: the begins of the steps, in seconds since 1970. values: by series, one a step, None where there is none."""

    times: list[float]
    values: dict[str, list[Value]]


class Reader(Protocol):
    """name: where the figures come from, as the page says it."""

    @property
    def name(self) -> str | Promise: ...

    def points(self, names: Sequence[str], *, since: datetime, until: datetime, step_s: int) -> Points:
        """Raises Unreachable."""
        ...


def reader() -> Reader:
    """Prometheus when PROMETHEUS_URL is set, else what the sampler kept."""
    from console.monitoring.prometheus import Prometheus

    return Prometheus(settings.PROMETHEUS_URL) if settings.PROMETHEUS_URL else BuiltIn()


class BuiltIn:
    """The samples of this installation's own database."""

    name = _("this installation")

    def points(self, names: Sequence[str], *, since: datetime, until: datetime, step_s: int) -> Points:
        first = math.floor(since.timestamp() / step_s) * step_s
        times = [float(start) for start in range(first, math.ceil(until.timestamp()), step_s)]
        rows = _folded(names, since=datetime.fromtimestamp(first, UTC), until=until, step_s=step_s)
        values = {
            name: [value_of(SERIES_BY_NAME[name], *rows.get(start, ({}, 0.0))) for start in times]
            for name in names
        }
        return Points(times, values)


def value_of(series: Series, folded: Folded, covers: float) -> Value:
    """The value of a series over a span of `covers` seconds."""
    match series.kind:
        case Kind.VALUE:
            return folded.get(series.of[0])
        case Kind.ADDED:
            return folded.get(series.of[0])
        case Kind.RATE:
            added = folded.get(series.of[0])
            return added / covers if added is not None and covers else None
        case Kind.SHARE:
            # A counter with labels is there from its first time on: until then it is none of a whole that is known.
            whole = folded.get(series.of[1])
            return folded.get(series.of[0], 0.0) / whole if whole else None
        case Kind.PERCENTILE:
            return percentile(series.q, _buckets(series.of[0], folded))


def percentile(q: float, buckets: Sequence[tuple[float, float]]) -> Value:
    """As Prometheus tells it of (bound, count at or below) in rising order: between two bounds it is taken as even.

    None when nothing was counted. What lies above the last finite bound is told as that bound.
    """
    if not buckets or not buckets[-1][1]:
        return None
    rank = q * buckets[-1][1]
    lower_bound, lower_count = 0.0, 0.0
    for bound, count in buckets:
        if count >= rank:
            if math.isinf(bound) or count <= lower_count:
                return lower_bound
            return lower_bound + (bound - lower_bound) * (rank - lower_count) / (count - lower_count)
        lower_bound, lower_count = bound, max(count, lower_count)
    return lower_bound


def kept_names(series: Iterable[Series], known: Iterable[str]) -> list[str]:
    """What has to be read for these series, of what is kept at all; a histogram's buckets by their own names."""
    wanted = {name for each in series for name in each.of}
    return [name for name in known if name.partition(":")[0] in wanted]


def merged(parts: Iterable[tuple[Folded, float]]) -> tuple[Folded, float]:
    """What several spans come to as one. A mean of means: the spans are equally long."""
    found: dict[str, list[float]] = {}
    seconds = 0.0
    for folded, covers in parts:
        seconds += covers
        for name, value in folded.items():
            found.setdefault(name, []).append(value)
    return {name: _fold(name, values) for name, values in found.items()}, seconds


def _fold(name: str, values: list[float]) -> float:
    match KEPT_BY_NAME[name.partition(":")[0]].fold:
        case Fold.SUM:
            return sum(values)
        case Fold.MEAN:
            return sum(values) / len(values)
        case Fold.MOST:
            return max(values)
        case Fold.LEAST:
            return min(values)


def latest(names: Sequence[str], *, window_s: float) -> list[tuple[Folded, float]]:
    """The samples of the last so many seconds, newest first. By their order and spans: whatever the clock says."""
    places = dict(Slot.objects.values_list("name", "place"))
    wanted = kept_names([SERIES_BY_NAME[name] for name in names], places)
    rows = Sample.objects.order_by("-pk").values_list("covers", "values")
    found, seconds = [], 0.0
    for covers, values in rows[: max(1, round(window_s / EVERY_S))]:
        found.append((_named(wanted, [_at(values, places[name]) for name in wanted]), covers))
        seconds += covers
        if seconds >= window_s:
            break
    return found


def parts(
    names: Sequence[str], *, since: datetime, until: datetime, step_s: int
) -> list[tuple[datetime, tuple[Folded, float]]]:
    """Steps that have samples, oldest first, each with its begin and what its samples come to."""
    rows = _folded(names, since=since, until=until, step_s=step_s)
    return [(datetime.fromtimestamp(start, UTC), rows[start]) for start in sorted(rows)]


def _at(values: list[Value], place: int) -> Value:
    return values[place - 1] if place <= len(values) else None


def _folded(
    names: Sequence[str], *, since: datetime, until: datetime, step_s: int
) -> dict[float, tuple[Folded, float]]:
    """What the samples of each step come to, and their seconds; by the step's begin."""
    places = dict(Slot.objects.values_list("name", "place"))
    wanted = kept_names([SERIES_BY_NAME[name] for name in names], places)
    table = _table(since, until)
    columns = [sql.SQL("sum(covers)"), *(folding(name, places[name]) for name in wanted)]
    statement = sql.SQL(
        "SELECT floor(extract(epoch FROM at) / %s) * %s, {columns} FROM {table} "
        "WHERE at >= %s AND at < %s GROUP BY 1"
    ).format(columns=sql.SQL(", ").join(columns), table=sql.Identifier(table))
    with connection.cursor() as cursor:
        cursor.execute(statement, [step_s, step_s, since, until])
        return {float(row[0]): (_named(wanted, row[2:]), float(row[1] or 0.0)) for row in cursor}


def _table(since: datetime, until: datetime) -> str:
    """The minutes for long spans, and for those of which no sample is left."""
    if until - since > FROM_SAMPLES:
        return Minute._meta.db_table
    oldest = Sample.objects.order_by("pk").values_list("at", flat=True).first()
    if oldest is None or since >= oldest:
        return Sample._meta.db_table
    # The oldest sample's own minute begins before it.
    is_gone = Minute.objects.filter(at__lt=oldest - timedelta(minutes=1)).exists()
    return (Minute if is_gone else Sample)._meta.db_table


def _named(names: Sequence[str], values: Sequence[Value]) -> Folded:
    return {name: float(value) for name, value in zip(names, values, strict=True) if value is not None}


def _buckets(kept: str, folded: Folded) -> list[tuple[float, float]]:
    start = f"{kept}:"
    found = [(name[len(start) :], count) for name, count in folded.items() if name.startswith(start)]
    return sorted((float(bound.replace("+Inf", "inf")), count) for bound, count in found)
