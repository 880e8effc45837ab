"""Searching a tenant's records by what they say.

    found = find(actor, Search("launder* -test", status="failed"), reason="case 7")
    for request_id in iterate(actor, search): …

The index narrows by hashed words and plain columns. What it cannot tell for sure (phrases, most beginnings of words) is
verified by opening the records. Records that wait to be indexed are opened and compared one by one, so that nothing is
ever missed. Raises NotVisible, ReasonRequired, BadQuery, SearchTooSlow.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from functools import cached_property, partial
from itertools import islice
from typing import Any, NamedTuple
from uuid import UUID

from django.core import signing
from django.db import OperationalError, connection
from django.utils.translation import gettext as _
from psycopg.errors import QueryCanceled

from audit import secrecy
from audit.models import AuditRecord
from audit.record import READINGS, REQUESTS, Keeping, keeping_of, record_event
from audit.search.content import Content, contents
from audit.search.entries import SearchWaiting
from audit.search.hashing import (
    QUARTERS,
    SIZES,
    Hasher,
    quarter_of,
    quarter_token,
    size_of,
    size_token,
    value_token,
)
from audit.search.needs import Needs, needs
from audit.search.query import And, Between, Columns, Equal, Query, answers, parse
from audit.search.snippets import Snippet, beginning, snippets
from audit.selectors import COUNT_MOST, PAGE_SIZE, ReasonRequired, Summary, first_id_at, summaries
from tenants import clock, envelope
from tenants.access import Actor, NotVisible, require
from tenants.ids import day_of, time_of
from tenants.models import Group
from tenants.roles import AUDIT_READ
from tenants.scope import tenant_scope

SEARCH = "audit.search"
FACETS = ("user", "group", "model_version", "channel", "status", "day", "rule", "risk")
FACET_VALUES = 50

# Seconds that one search may take, and records that it opens to tell an exact number where the index cannot.
TIME_LIMIT = 10.0
VERIFIED_MOST = 200
# Records that wait to be indexed and are opened for one page; there are more only when the worker was away.
WAITING_MOST = 5000

# Days of more entries are read by slices; so many of them are looked at first.
STRETCH = 20_000

_DAYS_AT_ONCE = 16
_OPENED_AT_ONCE = 100
_FIRST_ID = UUID(int=0)
_LAST_ID = UUID(int=(1 << 128) - 1)
_CURSOR_SALT = "audit.search.cursor"
_CURSOR_AGE = timedelta(hours=24)  # Since the first page.


class SearchTooSlow(Exception):
    """The search took longer than it may. The message says how to ask for less."""


class Sort(StrEnum):
    NEWEST = "newest"
    OLDEST = "oldest"
    TOKENS = "tokens"


@dataclass(frozen=True, slots=True)
class Search:
    """What is searched for. Empty values do not narrow.

    text: in the language of audit.search.query. user: a label. group: whoever was in it when the record was indexed.
    since, until: aware; from since on, before until. least, most: tokens that were written. kinds: none finds openings
    and other events as well; `but` leaves kinds out.
    """

    text: str = ""
    user: str = ""
    group: UUID | None = None
    model: str = ""
    model_version: str = ""
    channel: str = ""
    since: datetime | None = None
    until: datetime | None = None
    status: str = ""
    rule: str = ""
    risk: str = ""
    least: int | None = None
    most: int | None = None
    kinds: tuple[str, ...] = REQUESTS
    but: tuple[str, ...] = ()
    sort: Sort = Sort.NEWEST

    def __post_init__(self) -> None:
        # Filters come from addresses and forms: what the database cannot hold equals nothing in it.
        for column in ("user", "model", "model_version", "channel", "status", "rule", "risk"):
            object.__setattr__(self, column, _storable(getattr(self, column)))

    def told(self) -> dict[str, Any]:
        """What narrows, ready for JSON."""
        values = {name: value for name, value in asdict(self).items() if value not in ("", None, ())}
        return json.loads(json.dumps(values, default=str))


@dataclass(frozen=True, slots=True)
class Hit:
    """A record that answers, with pieces of its text; those are for whoever may read it alone."""

    summary: Summary
    snippets: list[Snippet]


@dataclass(frozen=True, slots=True)
class FacetValue:
    """How many of the counted hits have a value. label: as people read it (a group's name); value: to narrow by."""

    value: str
    label: str
    count: int


@dataclass(frozen=True, slots=True)
class Found:
    """A page of hits.

    total: how many there are; when not exact, at least so many. facets: of the hits that `total` counts, by FACETS,
    most frequent first (days: newest first). waiting: records that are not indexed yet and were not looked at either,
    as there are too many: hits may be among them.
    """

    hits: list[Hit]
    next_cursor: str
    total: int
    total_is_exact: bool
    facets: dict[str, list[FacetValue]] = field(default_factory=dict)
    waiting: int = 0


def find(
    actor: Actor,
    search: Search,
    *,
    reason: str,
    cursor: str = "",
    limit: int = PAGE_SIZE,
    client_address: str = "",
) -> Found:
    """A page of hits. Without a cursor, that this actor searched, for what and why is recorded before anything is opened.

    Inside an open scope that record is part of its transaction: let nothing of the result out before it is committed.
    Also raises AuditUnavailable when the search cannot be recorded.
    """
    require(actor, AUDIT_READ)
    reason = reason.strip()
    if not reason:
        raise ReasonRequired(_("State why you search."))
    with tenant_scope(actor.tenant_id):
        query = _parsed(search)
    if cursor:
        after, begun = _read_cursor(cursor, actor, search)
        # What came later was not there to be found by the search that was recorded.
        before = begun
    else:
        after, begun, before = None, first_id_at(clock.now()), _LAST_ID
        record_search(actor, search, reason=reason, client_address=client_address)
    with _limited(actor):
        return _Run(actor, search, query, before=before).page(after, limit, begun)


def record_search(actor: Actor, search: Search, *, reason: str, client_address: str = "") -> None:
    """Record that this actor searches, for what and why. Raises AuditUnavailable: then look for nothing."""
    record_event(
        actor=actor,
        kind=SEARCH,
        detail={"search": search.told(), "reason": reason},
        client_address=client_address,
    )


def iterate(actor: Actor, search: Search, *, batch: int = 500) -> Iterator[UUID]:
    """The ids of all hits, in the search's order. Whoever calls records first that they are read, and why.

    Each batch is a transaction of its own: nothing is held open between them.
    """
    require(actor, AUDIT_READ)
    with tenant_scope(actor.tenant_id):
        query = _parsed(search)
    after: _Place | None = None
    while True:
        with _limited(actor):
            found = _Run(actor, search, query, scan_all=True).ids(after, batch)
        yield from (each.request_id for each in found)
        if len(found) < batch:
            return
        after = found[-1]


class _Place(NamedTuple):
    """A hit's place in the order, and what the index knew when the record was indexed."""

    request_id: UUID
    tokens: int
    group_ids: tuple[UUID, ...] = ()
    rules: tuple[str, ...] = ()
    risk: str = ""

    def written(self, actor: Actor, search: Search, begun: UUID) -> str:
        """As a cursor, which only the same person goes on with, in the same search: its first page was recorded.

        begun: the first id of after that page.
        """
        place = [str(self.request_id), self.tokens, str(begun), _fingerprint(actor, search)]
        return signing.dumps(place, salt=_CURSOR_SALT)


def _read_cursor(cursor: str, actor: Actor, search: Search) -> tuple[_Place, UUID]:
    """(the place to go on from, the first id of after the first page)."""
    try:
        request_id, written, begun, of = signing.loads(cursor, salt=_CURSOR_SALT)
    except (signing.BadSignature, ValueError) as error:
        raise NotVisible(SEARCH) from error
    if of != _fingerprint(actor, search) or clock.now() - time_of(UUID(begun)) > _CURSOR_AGE:
        raise NotVisible(SEARCH)
    return _Place(UUID(request_id), written), UUID(begun)


class _Unit(NamedTuple):
    """A part of the index under one key, of a day of about so many entries."""

    day: date
    keeping: Keeping
    rows: int


class _Counted(NamedTuple):
    total: int
    is_exact: bool
    facets: dict[str, Counter[str]]
    page: list[_Place] | None


class _Run:
    """One search by one actor, inside the tenant's scope."""

    def __init__(
        self,
        actor: Actor,
        search: Search,
        query: Query,
        *,
        scan_all: bool = False,
        before: UUID = _LAST_ID,
    ) -> None:
        self._actor = actor
        self._search = search
        self._query = query
        self._scan_all = scan_all
        self._deadline = time.monotonic() + TIME_LIMIT
        self._inside = [str(each) for each in secrecy.inside(actor)]
        self._low, high = _bounds(search, query)
        self._high = min(high, before)
        self._needs = _needs(search, query)
        self._hashers: dict[tuple[Keeping, date], Hasher | None] = {}
        self._opened: dict[UUID, Content] = {}
        self._answered: dict[UUID, bool] = {}
        self._waiting, self._not_looked_at = self._of_waiting()
        self._offered: dict[UUID | None, list[_Place]] = {}

    def page(self, after: _Place | None, limit: int, begun: UUID) -> Found:
        counted = self._counted(after, limit + 1)
        # Most often what was counted tells the page as well.
        places = (
            self.ids(after, limit + 1)
            if counted.page is None
            else self._merged(counted.page, after, limit + 1)
        )
        more = len(places) > limit
        places = places[:limit]
        return Found(
            hits=self._hits(places),
            next_cursor=places[-1].written(self._actor, self._search, begun) if more else "",
            total=counted.total,
            total_is_exact=counted.is_exact and not self._not_looked_at,
            facets=_labelled(counted.facets),
            waiting=self._not_looked_at,
        )

    def ids(self, after: _Place | None, limit: int) -> list[_Place]:
        """The first hits beyond a place, in order."""
        if self._needs.is_exact:
            found = self._rows(after, limit)
        else:
            found = list(islice(self._verified(after), limit))
        return self._merged(found, after, limit)

    def _merged(self, found: list[_Place], after: _Place | None, limit: int) -> list[_Place]:
        """With those that wait to be indexed, in order."""
        waiting = [self._place(content) for content in self._waiting]
        waiting = [place for place in waiting if after is None or self._key(place) > self._key(after)]
        return sorted([*waiting, *found], key=self._key)[:limit]

    # Records that wait to be indexed

    def _of_waiting(self) -> tuple[list[Content], int]:
        """(Those that answer, how many were not looked at)."""
        waiting = SearchWaiting.objects.filter(request_id__gte=self._low, request_id__lt=self._high)
        ids = list(
            waiting.order_by("-day", "-request_id").values_list("day", "request_id")[: WAITING_MOST + 1]
        )
        left = 0
        if len(ids) > WAITING_MOST:
            if self._scan_all:
                ids = list(waiting.values_list("day", "request_id"))
            else:
                left = waiting.count() - WAITING_MOST
                ids = ids[:WAITING_MOST]
        found = [content for content in self._open(self._visible(ids)) if self._answers(content)]
        self._opened |= {content.record.id: content for content in found}
        return found, left

    def _visible(self, ids: Sequence[tuple[date, UUID]]) -> list[tuple[date, UUID]]:
        """Those that exist for the actor and are of the kinds asked for."""
        if not ids:
            return []
        records = AuditRecord.objects.filter(
            day__in={day for day, _ in ids}, id__in=[each for _, each in ids]
        )
        records = secrecy.visible(self._actor, records).exclude(kind__in=self._search.but)
        if self._search.kinds:
            records = records.filter(kind__in=self._search.kinds)
        if self._search.user:
            records = records.filter(user_label=self._search.user)
        return list(records.values_list("day", "id"))

    def _open(self, ids: Sequence[tuple[date, UUID]]) -> Iterator[Content]:
        for start in range(0, len(ids), _OPENED_AT_ONCE):
            if time.monotonic() > self._deadline:
                raise _too_slow()
            yield from contents(ids[start : start + _OPENED_AT_ONCE])

    def _answers(self, content: Content) -> bool:
        record_id = content.record.id
        if record_id not in self._answered:
            self._answered[record_id] = _passes(self._search, content.columns) and answers(
                self._query.root, content.columns, content.texts
            )
        return self._answered[record_id]

    # The index

    def _rows(self, after: _Place | None, limit: int) -> list[_Place]:
        """The first hits of the index beyond a place."""
        found: list[_Place] = []
        for units in self._batches():
            rows = self._ask(units, after, limit, _PLACES)
            found += [_Place(*row) for row in rows]
            if self._search.sort != Sort.TOKENS and len(found) >= limit:
                break
        return sorted(found, key=self._key)[:limit]

    def _verified(self, after: _Place | None) -> Iterator[_Place]:
        """The hits among what the index offers beyond a place, each record opened to see."""
        for batch in self._candidates(after):
            for place, _content in self._hits_among(batch):
                yield place

    def _candidates(self, after: _Place | None) -> Iterator[list[_Place]]:
        while True:
            # What a page looked through is counted next.
            begun = after.request_id if after else None
            if begun not in self._offered:
                self._offered[begun] = self._rows(after, _OPENED_AT_ONCE)
            batch = self._offered[begun]
            if batch:
                yield batch
            if len(batch) < _OPENED_AT_ONCE:
                return
            after = batch[-1]

    def _hits_among(self, places: Sequence[_Place]) -> list[tuple[_Place, Content]]:
        """Those that answer, in order."""
        unknown = [each for each in places if each.request_id not in self._opened]
        for content in self._open([(day_of(each.request_id), each.request_id) for each in unknown]):
            self._opened[content.record.id] = content
        for place in unknown:
            if known := self._opened.get(place.request_id):
                self._opened[place.request_id] = known._replace(columns=_as_indexed(known.columns, place))
        found = [
            (place, self._opened[place.request_id]) for place in places if place.request_id in self._opened
        ]
        return [(place, content) for place, content in found if self._answers(content)]

    def _counted(self, after: _Place | None, limit: int) -> _Counted:
        """How many there are, and the page beyond a place if what is counted tells it."""
        page = None
        if self._needs.is_exact:
            total, facets, page = self._counted_in_index(after, limit)
            is_exact = total <= COUNT_MOST
        else:
            total, is_exact, facets = self._counted_by_opening()
        for content in self._waiting:
            total += 1
            _count(facets, content.record.day, content.columns)
        return _Counted(total if is_exact else max(total - 1, 0), is_exact, facets, page)

    def _counted_in_index(
        self, after: _Place | None, limit: int
    ) -> tuple[int, dict[str, Counter[str]], list[_Place] | None]:
        facets: dict[str, Counter[str]] = {name: Counter() for name in FACETS}
        total = 0
        page: list[_Place] = []
        by_time = self._search.sort != Sort.TOKENS
        beyond, place = _BEYOND[self._search.sort], after or _Place(_FIRST_ID, 0)
        select = _COUNTS.format(beyond=beyond if after else "true", order=_ORDERS[self._search.sort])
        for units in self._batches():
            for name, value, count in self._ask(
                units,
                None,
                COUNT_MOST + 1 - total,
                select,
                {"after": place.request_id, "after_tokens": place.tokens, "limit": limit},
                sort=self._search.sort if by_time else Sort.NEWEST,
            ):
                if name == "total":
                    total += count
                elif name == "page":
                    page.append(_read_place(value))
                else:
                    facets[name][value] += count
            if total > COUNT_MOST:
                break
        # All hits were seen, or those that are first.
        if total > COUNT_MOST and (after or not by_time or len(page) < limit):
            return total, facets, None
        return total, facets, sorted(page, key=self._key)[:limit]

    def _counted_by_opening(self) -> tuple[int, bool, dict[str, Counter[str]]]:
        facets: dict[str, Counter[str]] = {name: Counter() for name in FACETS}
        total = opened = 0
        for batch in self._candidates(None):
            opened += len(batch)
            for _place, content in self._hits_among(batch):
                total += 1
                _count(facets, content.record.day, content.columns)
            if opened >= VERIFIED_MOST and len(batch) == _OPENED_AT_ONCE:
                return total + 1, False, facets
        return total, True, facets

    def _ask(
        self,
        units: Sequence[_Unit],
        after: _Place | None,
        most: int,
        select: str,
        more: dict[str, Any] | None = None,
        sort: Sort | None = None,
    ) -> list[tuple[Any, ...]]:
        sort = sort or self._search.sort
        plans = [(unit.day, plan) for unit in units if (plan := self._plan(unit, after, sort))]
        if not plans:
            return []
        with connection.cursor() as cursor:
            cursor.execute(
                "WITH hits AS MATERIALIZED (SELECT * FROM audit_search_hits("
                f"%(days)s::date[], %(plans)s::text[]::jsonb[], %(sort)s, %(most)s)) {select}",
                {
                    "days": [day for day, _ in plans],
                    "plans": [json.dumps(plan) for _, plan in plans],
                    "sort": sort,
                    "most": most,
                    **(more or {}),
                },
            )
            return cursor.fetchall()

    @cached_property
    def _days(self) -> list[tuple[date, int]]:
        """Days of the index that are searched, newest first, and about how many entries each has."""
        with connection.cursor() as cursor:
            cursor.execute("SELECT day, rows FROM audit_search_days()")
            return [
                (day, rows)
                for day, rows in cursor.fetchall()
                if _first_day(self._low) <= day <= _last_day(self._high)
            ]

    def _batches(self) -> Iterator[list[_Unit]]:
        """What there is of the index in the search's order, some days at a time; a day is never divided."""
        days = self._days
        if self._search.sort == Sort.OLDEST:
            days = days[::-1]
        keepings = _keepings(self._search)
        for start in range(0, len(days), _DAYS_AT_ONCE):
            yield [
                _Unit(day, keeping, rows)
                for day, rows in days[start : start + _DAYS_AT_ONCE]
                for keeping in keepings
            ]

    def _plan(self, unit: _Unit, after: _Place | None, sort: Sort) -> dict[str, Any] | None:
        """What one day is asked; None when its key is gone, and with it all that could be found."""
        day, keeping, rows = unit
        place = (keeping, day)
        if place not in self._hashers:
            try:
                self._hashers[place] = Hasher(self._actor.tenant_id, keeping, day)
            except (envelope.KeyDestroyed, envelope.Tampered):
                self._hashers[place] = None
        hasher = self._hashers[place]
        if hasher is None:
            return None
        plan: dict[str, Any] = {
            **self._needs.hashed(hasher),
            **_columns(self._search, self._query),
            "keeping": keeping.value,
            "low": str(self._low),
            "high": str(self._high),
            "inside": self._inside,
            "rows": rows,
        }
        if rows > STRETCH and any(plan[name] for name in ("must", "any", "none")):
            plan |= self._slices(day, hasher, after, sort)
        if self._waiting:
            # One that was indexed a moment ago would be there twice.
            plan["without"] = [str(content.record.id) for content in self._waiting]
        if after:
            plan |= {"after": str(after.request_id), "after_tokens": after.tokens}
        return plan

    def _slices(self, day: date, hasher: Hasher, after: _Place | None, sort: Sort) -> dict[str, Any]:
        """The slices of a day in order, as far as the search goes: hashes, and each slice's quarter or least tokens."""
        if sort == Sort.TOKENS:
            plain = _columns(self._search, self._query)
            ends = [plain.get("end", SIZES[-1] + 1) - 1] + ([after.tokens] if after else [])
            numbers = range(size_of(min(ends)), size_of(plain.get("least", 0)) - 1, -1)
            tokens, bounds = map(size_token, numbers), [SIZES[number] for number in numbers]
        else:
            first, last = 0, QUARTERS - 1
            low = max(self._low, after.request_id) if after and sort == Sort.OLDEST else self._low
            high = min(self._high, after.request_id) if after and sort == Sort.NEWEST else self._high
            if _first_day(low) >= day:
                first = quarter_of(low) if _first_day(low) == day else QUARTERS
            if high != _LAST_ID and day_of(high) <= day:
                last = quarter_of(high) if day_of(high) == day else -1
            bounds = list(range(first, last + 1))
            if sort == Sort.NEWEST:
                bounds.reverse()
            tokens = map(quarter_token, bounds)
        return {"slices": list(map(hasher, tokens)), "bounds": bounds, "stretch": STRETCH}

    # Order, and what is shown

    def _place(self, content: Content) -> _Place:
        return _Place(content.record.id, content.columns.tokens)

    def _key(self, place: _Place) -> tuple[int, int]:
        match self._search.sort:
            case Sort.NEWEST:
                return (0, -place.request_id.int)
            case Sort.OLDEST:
                return (0, place.request_id.int)
            case Sort.TOKENS:
                return (-place.tokens, -place.request_id.int)

    def _hits(self, places: Sequence[_Place]) -> list[Hit]:
        ids = [place.request_id for place in places]
        if not ids:
            return []
        records = AuditRecord.objects.filter(day__in={day_of(each) for each in ids}, id__in=ids)
        shown = {each.id: each for each in summaries(secrecy.visible(self._actor, records))}
        missing = [(day_of(each), each) for each in ids if each not in self._opened]
        self._opened |= {content.record.id: content for content in self._open(missing)}
        terms = self._query.terms()
        hits = []
        for each in ids:
            if each in shown and each in self._opened:
                texts = self._opened[each].texts
                hits.append(Hit(shown[each], snippets(texts, terms) if terms else beginning(texts)))
        return hits


_PLACES = "SELECT request_id, tokens, group_ids, rules, risk FROM hits"
_ORDERS = {
    Sort.NEWEST: "request_id DESC",
    Sort.OLDEST: "request_id",
    Sort.TOKENS: "tokens DESC, request_id DESC",
}
_BEYOND = {
    Sort.NEWEST: "request_id < %(after)s",
    Sort.OLDEST: "request_id > %(after)s",
    Sort.TOKENS: "(tokens, request_id) < (%(after_tokens)s, %(after)s)",
}
_COUNTS = """
    SELECT 'page', jsonb_build_array(request_id, tokens, group_ids, rules, risk)::text, 0
        FROM (SELECT * FROM hits WHERE {beyond} ORDER BY {order} LIMIT %(limit)s) AS page
    UNION ALL SELECT 'total', '', count(*) FROM hits
    UNION ALL SELECT 'user', user_label, count(*) FROM hits GROUP BY 2
    UNION ALL SELECT 'group', of::text, count(*) FROM hits, unnest(group_ids) AS of GROUP BY 2
    UNION ALL SELECT 'model_version', model_version, count(*) FROM hits GROUP BY 2
    UNION ALL SELECT 'channel', channel, count(*) FROM hits GROUP BY 2
    UNION ALL SELECT 'status', status, count(*) FROM hits GROUP BY 2
    UNION ALL SELECT 'day', day::text, count(*) FROM hits GROUP BY 2
    UNION ALL SELECT 'rule', of, count(*) FROM hits, unnest(rules) AS of GROUP BY 2
    UNION ALL SELECT 'risk', risk, count(*) FROM hits WHERE risk <> '' GROUP BY 2
"""


def _read_place(told: str) -> _Place:
    request_id, written, group_ids, rules, risk = json.loads(told)
    return _Place(UUID(request_id), written, tuple(map(UUID, group_ids)), tuple(rules), risk)


def _storable(text: str) -> str:
    return text.encode(errors="replace").decode().replace("\x00", "\ufffd")


def _parsed(search: Search) -> Query:
    def groups(name: str) -> Iterable[UUID]:
        return Group.objects.filter(name__iexact=name, is_everyone=False).values_list("pk", flat=True)

    return parse(search.text, groups=groups)


@contextmanager
def _limited(actor: Actor) -> Iterator[None]:
    """The tenant's scope, in which no statement takes longer than a search may."""
    try:
        with tenant_scope(actor.tenant_id), connection.cursor() as cursor:
            cursor.execute("SELECT current_setting('statement_timeout')")
            before = cursor.fetchone()[0]
            set_limit = partial(cursor.execute, "SELECT set_config('statement_timeout', %s, true)")
            set_limit([str(int(TIME_LIMIT * 1000))])
            yield
            set_limit([before])
    except OperationalError as error:
        if isinstance(error.__cause__, QueryCanceled):
            raise _too_slow() from error
        raise


def _too_slow() -> SearchTooSlow:
    message = _(
        "This search took longer than %(seconds)d seconds and was ended. Add a rarer word, or narrow it by time or person."
    )
    return SearchTooSlow(message % {"seconds": TIME_LIMIT})


def _fingerprint(actor: Actor, search: Search) -> str:
    """Tells searches by different people apart, and different searches by one."""
    of = json.dumps([str(actor.tenant_id), str(actor.user_id), actor.label, search.told()], sort_keys=True)
    return hashlib.sha256(of.encode(errors="surrogatepass")).hexdigest()[:32]


def _bounds(search: Search, query: Query) -> tuple[UUID, UUID]:
    """The smallest id that is asked for, and the first that is not any more."""
    since, until = [search.since], [search.until]
    for node in query.conditions:
        if isinstance(node, Between) and node.column == "created":
            since.append(node.least)  # type: ignore[arg-type]
            until.append(node.end)  # type: ignore[arg-type]
    low = max((first_id_at(each) for each in since if each), default=_FIRST_ID)
    high = min((first_id_at(each) for each in until if each), default=_LAST_ID)
    return low, high


def _first_day(low: UUID) -> date:
    return date.min if low == _FIRST_ID else day_of(low)


def _last_day(high: UUID) -> date:
    if high == _LAST_ID:
        return date.max
    day = day_of(high)
    begins = first_id_at(datetime.combine(day, datetime.min.time(), UTC))
    return day if high > begins else day - timedelta(days=1)


def _is_plain(node: object) -> bool:
    """Whether a condition is told by plain columns and bounds alone."""
    return isinstance(node, Between) or (isinstance(node, Equal) and node.column in ("rule", "risk"))


def _needs(search: Search, query: Query) -> Needs:
    found = needs(And(tuple(node for node in query.conditions if not _is_plain(node))))
    for column, value in (
        ("user", search.user),
        ("model", search.model),
        ("version", search.model_version),
        ("channel", search.channel),
        ("status", search.status),
        ("group", str(search.group or "")),
    ):
        if value:
            found.must.add(value_token(column, value))
    if len(search.kinds) == 1:
        found.must.add(value_token("kind", search.kinds[0]))
    return found


def _columns(search: Search, query: Query) -> dict[str, Any]:
    """The conditions on plain columns, as the index's functions read them."""
    plan: dict[str, Any] = {}
    plain = {"rule": {search.rule} - {""}, "risk": {search.risk} - {""}}
    least, ends = [search.least], [None if search.most is None else search.most + 1]
    for node in query.conditions:
        if isinstance(node, Between) and node.column == "tokens":
            least.append(node.least)  # type: ignore[arg-type]
            ends.append(node.end)  # type: ignore[arg-type]
        elif isinstance(node, Equal) and node.column in plain:
            plain[node.column].update(node.values)
    if numbers := [each for each in least if each is not None]:
        plan["least"] = max(numbers)
    if numbers := [each for each in ends if each is not None]:
        plan["end"] = min(numbers)
    plan |= {name: sorted(values) for name, values in plain.items() if values}
    if search.kinds:
        plan["kinds"] = list(search.kinds)
    if search.but:
        plan["but"] = list(search.but)
    return plan


def _passes(search: Search, columns: Columns) -> bool:
    """Whether a record passes the filters beside the query; kinds and visibility are seen to where it is fetched."""
    wanted = (
        (search.user, columns.user_label),
        (search.model, columns.model),
        (search.model_version, columns.model_version),
        (search.channel, columns.channel),
        (search.status, columns.status),
        (search.risk, columns.risk),
    )
    return (
        all(not value or value == found for value, found in wanted)
        and (search.group is None or str(search.group) in columns.group_ids)
        and (not search.rule or search.rule in columns.rules)
        and (search.least is None or columns.tokens >= search.least)
        and (search.most is None or columns.tokens <= search.most)
    )


def _as_indexed(columns: Columns, place: _Place) -> Columns:
    """With what the index knows of a record and the record does not, or not any more."""
    return replace(
        columns, group_ids=[str(each) for each in place.group_ids], rules=place.rules, risk=place.risk
    )


def _keepings(search: Search) -> list[Keeping]:
    """Under which keys there can be what is asked for."""
    if search.kinds:
        # Events of the first schema were sealed as requests are.
        return sorted({Keeping.REQUESTS, *(keeping_of(kind) for kind in search.kinds)})
    if set(READINGS) <= set(search.but):
        return [Keeping.REQUESTS, Keeping.CHANGES]
    return list(Keeping)


def _count(facets: dict[str, Counter[str]], day: date, columns: Columns) -> None:
    facets["user"][columns.user_label] += 1
    facets["group"].update(columns.group_ids)
    facets["model_version"][columns.model_version] += 1
    facets["channel"][columns.channel] += 1
    facets["status"][columns.status] += 1
    facets["day"][day.isoformat()] += 1
    facets["rule"].update(columns.rules)
    if columns.risk:
        facets["risk"][columns.risk] += 1


def _labelled(facets: dict[str, Counter[str]]) -> dict[str, list[FacetValue]]:
    names = {str(pk): name for pk, name in Group.objects.values_list("pk", "name")} if facets["group"] else {}
    found = {}
    for name, counts in facets.items():
        order = sorted(counts.items(), reverse=True) if name == "day" else counts.most_common()
        # A group that is no more has no name to show.
        shown = [(value, names.get(value, "") if name == "group" else value, count) for value, count in order]
        found[name] = [FacetValue(*each) for each in shown if each[1]][:FACET_VALUES]
    return found
