"""What somebody asks of the audit's records, as they asked it: words, filters, and times that move on with the day.

A search of the engine has times that stand still. What is saved, linked to and shown on a page is this instead, so that
"last 7 days" still means that next week.
"""

from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from audit.record import READINGS, REQUESTS
from audit.search.engine import Search, Sort
from audit.selectors import CHANGES, OPENINGS, RecordFilters
from tenants import clock

WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_SPANS = {
    "today": (0, 1),
    "yesterday": (-1, 0),
    "7d": (-6, 1),
    "30d": (-29, 1),
}  # Days from today: first, after the last.
WHENS = (*_SPANS, *WEEKDAYS)
LONGEST_TEXT = 1000
# What a list can show, and where its filters begin.
KINDS = {"": RecordFilters(), "changes": CHANGES, "readings": OPENINGS}


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """All as it was typed or chosen; "" narrows nothing.

    kind: one of KINDS. event: one kind of record among these. version: of the model. when: one of WHENS; a weekday is
    the last one before today. day: YYYY-MM-DD. since, until: YYYY-MM-DDTHH:MM; from since on, before until. All three are meant in `zone`, and together
    with `when` each narrows further. least, most: tokens read and written. group: its id. sort: one of Sort, or "".
    """

    text: str = ""
    kind: str = ""
    event: str = ""
    user: str = ""
    group: str = ""
    model: str = ""
    version: str = ""
    channel: str = ""
    status: str = ""
    rule: str = ""
    risk: str = ""
    when: str = ""
    day: str = ""
    since: str = ""
    until: str = ""
    zone: str = ""
    least: str = ""
    most: str = ""
    sort: str = ""

    @classmethod
    def of(cls, values: dict[str, Any]) -> "Asked":
        """From what `told` gave, or from a form's data: names that are none are left out."""
        known = {field.name for field in fields(cls)}
        return cls(**{name: str(value) for name, value in values.items() if name in known})

    def told(self) -> dict[str, str]:
        """What is not empty, by name."""
        return {name: value for name, value in asdict(self).items() if value}

    def span(self, now: datetime | None = None) -> tuple[datetime | None, datetime | None]:
        """(from, before), as of now; None: open on that side. Raises ValueError for a time that is none."""
        try:
            return self._span(zone_named(self.zone), now or clock.now())
        except OverflowError as error:  # The day after the last one.
            raise ValueError(str(error)) from error

    @property
    def is_search(self) -> bool:
        """Whether the engine must look, so that it takes a reason; else a list of plain columns tells."""
        return bool(self.text or self.rule or self.risk)

    def filters(self, now: datetime | None = None) -> RecordFilters:
        """As of now. Raises ValueError for a time, number or id that is none."""
        since, until = self.span(now)
        base = KINDS.get(self.kind, KINDS[""])
        return replace(
            base,
            kinds=(self.event,) if self._is_event_of(base) else base.kinds,
            user=self.user,
            group=UUID(self.group) if self.group else None,
            model=self.model,
            model_version=self.version,
            channel=self.channel,
            status=self.status,
            since=since,
            until=until,
            least=int(self.least) if self.least else None,
            most=int(self.most) if self.most else None,
        )

    def search(self, now: datetime | None = None) -> Search:
        """The search of the engine, as of now. Raises as `filters` does."""
        wanted = self.filters(now)
        narrowed = {field.name: getattr(wanted, field.name) for field in fields(wanted)}
        sort = Sort(self.sort) if self.sort else Sort.NEWEST
        return Search(text=self.text, rule=self.rule, risk=self.risk, sort=sort, **narrowed)

    def _is_event_of(self, base: RecordFilters) -> bool:
        return self.event in base.kinds if base.kinds else self.event not in ("", *REQUESTS, *READINGS)

    def _span(self, zone: tzinfo, now: datetime) -> tuple[datetime | None, datetime | None]:
        today = now.astimezone(zone).date()
        since = [_start(date.fromisoformat(self.day), zone)] if self.day else []
        until = [_start(date.fromisoformat(self.day) + timedelta(1), zone)] if self.day else []
        if self.when:
            first, after = _days(self.when, today)
            since.append(_start(first, zone))
            until.append(_start(after, zone))
        if self.since:
            since.append(datetime.fromisoformat(self.since).replace(tzinfo=zone))
        if self.until:
            until.append(datetime.fromisoformat(self.until).replace(tzinfo=zone))
        return max(since, default=None), min(until, default=None)


def zone_named(name: str) -> tzinfo:
    """A time zone by its name (`Asia/Shanghai`), UTC for names that are none."""
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, KeyError):
        return UTC


def _days(when: str, today: date) -> tuple[date, date]:
    if when in WEEKDAYS:
        back = (today.weekday() - WEEKDAYS.index(when)) % 7 or 7
        return today - timedelta(back), today - timedelta(back - 1)
    if when not in _SPANS:
        raise ValueError(f"{when} is no time")
    first, after = _SPANS[when]
    return today + timedelta(first), today + timedelta(after)


def _start(day: date, zone: tzinfo) -> datetime:
    return datetime.combine(day, time(), zone)
