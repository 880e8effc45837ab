"""From what is measured now into PostgreSQL: a row every five seconds, folded to one a minute.

What is kept is bounded by the number of rows, not by their age: whatever the clock says, the disk does not fill and
nothing that is new goes. Counters become what was added since the sample before, and how they stood is kept in the
same transaction: a restart leaves no gap in what was counted, and nothing counts twice.
"""

import time
from datetime import datetime

from django.db import connection, transaction
from psycopg import sql

from console.monitoring import sources
from console.monitoring.catalogue import KEPT_BY_NAME, Fold, Source
from console.monitoring.models import Minute, Sample, SamplerState, Slot
from console.monitoring.sources import Numbers
from tenants import clock

EVERY_S = 5.0
SAMPLES = 24 * 3600 // 5
MINUTES = 30 * 24 * 60
# Longer pauses than this are no sample's span: the counters begin anew.
LONGEST_S = 600.0
# What an exposition may add to the catalogue's own names with its buckets.
MOST_SLOTS = 200
# Any number, as long as every version uses the same: one process samples a database.
LOCK = 0x4375736D6F6E


def is_ours() -> bool:
    """Whether this process is the one that samples; it stays so while its connection lasts."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s)", [LOCK])
        return bool(cursor.fetchone()[0])


class Sampler:
    """One sample after the other. `elapsed` is measured by a clock that nobody sets."""

    def __init__(self) -> None:
        self._last: float | None = None

    def tick(self) -> Sample:
        """Look, and keep what was seen."""
        numbers, at, moment = sources.read(), clock.now(), time.monotonic()
        elapsed = None if self._last is None else moment - self._last
        sample = keep(numbers, at=at, elapsed=elapsed)
        self._last = moment
        return sample


@transaction.atomic
def keep(numbers: Numbers, *, at: datetime, elapsed: float | None) -> Sample:
    """Store one sample. elapsed: seconds since the one before, None when this process has taken none yet."""
    state = SamplerState.objects.select_for_update().filter(pk=1).first()
    slots = _slots(numbers)
    covers = _covers(state, at, elapsed)
    before = dict(enumerate(state.counters, start=1)) if state and covers else {}
    values: list[float | None] = [None] * max(slots.values(), default=0)
    counters: list[float | None] = list(state.counters) if state else []
    counters += [None] * (len(values) - len(counters))
    answered = {_source(name) for name, place in slots.items() if before.get(place) is not None}
    for name, number in numbers.items():
        if (place := slots.get(name)) is None:
            continue
        if is_counter(name):
            old = before.get(place)
            if old is None and _source(name) in answered:
                # With labels, a counter is not there before it first counts: the first error is one too.
                old = 0.0
            if old is not None:
                # Less than before: its process began anew, and has counted so much since.
                values[place - 1] = number - old if number >= old else number
            counters[place - 1] = number
        else:
            values[place - 1] = number
    sample = Sample.objects.create(at=at, covers=covers, values=values)
    SamplerState.objects.update_or_create(pk=1, defaults={"at": at, "counters": counters})
    return sample


def is_counter(name: str) -> bool:
    return KEPT_BY_NAME[name.partition(":")[0]].is_counter


def _source(name: str) -> Source:
    return KEPT_BY_NAME[name.partition(":")[0]].source


@transaction.atomic
def fold() -> None:
    """Fold the samples that are not yet in a minute; those of one minute become one row."""
    state = SamplerState.objects.select_for_update().filter(pk=1).first()
    places = dict(Slot.objects.values_list("place", "name"))
    newest = Sample.objects.order_by("-pk").values_list("pk", flat=True).first()
    if state is None or not places or newest is None or newest <= state.folded:
        return
    folded = [folding(places.get(place), place) for place in range(1, max(places) + 1)]
    statement = sql.SQL(
        "INSERT INTO {minute} (at, covers, values) "
        "SELECT date_trunc('minute', at), sum(covers), ARRAY[{folded}]::real[] FROM {sample} "
        "WHERE id > %s AND id <= %s GROUP BY 1 ORDER BY 1"
    ).format(
        minute=sql.Identifier(Minute._meta.db_table),
        sample=sql.Identifier(Sample._meta.db_table),
        folded=sql.SQL(", ").join(folded),
    )
    with connection.cursor() as cursor:
        cursor.execute(statement, [state.folded, newest])
    SamplerState.objects.filter(pk=1).update(folded=newest)


def folding(name: str | None, place: int) -> sql.Composable:
    """The SQL that makes one number of several in a place; `name` None: of what no version keeps any more."""
    kept = KEPT_BY_NAME.get((name or "").partition(":")[0])
    aggregate = sql.SQL((kept.fold if kept else Fold.MOST).value)
    return sql.SQL("{}(values[{}])").format(aggregate, sql.Literal(place))


def prune() -> None:
    """Let go of what is older than the newest rows that are kept; of samples only what is folded."""
    state = SamplerState.objects.filter(pk=1).first()
    newest = Sample.objects.order_by("-pk").values_list("pk", flat=True).first()
    if state is not None and newest is not None:
        Sample.objects.filter(pk__lte=min(newest - SAMPLES, state.folded)).delete()
    newest_minute = Minute.objects.order_by("-pk").values_list("pk", flat=True).first()
    if newest_minute is not None:
        Minute.objects.filter(pk__lte=newest_minute - MINUTES).delete()


def _covers(state: SamplerState | None, at: datetime, elapsed: float | None) -> float:
    """The seconds of this sample; 0 when it cannot be known, and then nothing is counted in it."""
    if state is None:
        return 0.0
    passed = (at - state.at).total_seconds() if elapsed is None else elapsed
    return passed if 0 < passed <= LONGEST_S else 0.0


def _slots(numbers: Numbers) -> dict[str, int]:
    """The places of these names, new ones given to those that have none."""
    known = dict(Slot.objects.values_list("name", "place"))
    fresh = [name for name in sources.names(numbers) if name not in known]
    following = max(known.values(), default=0) + 1
    for place, name in enumerate(fresh[: max(0, MOST_SLOTS - len(known))], start=following):
        Slot.objects.create(place=place, name=name)
        known[name] = place
    return known
