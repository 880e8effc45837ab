"""The records before and after one in what a search or a list shows, so that one goes through them without going back."""

from dataclasses import replace
from datetime import timedelta
from itertools import islice
from typing import NamedTuple
from uuid import UUID

from audit import selectors
from audit.search import engine
from audit.search.asked import Asked
from audit.search.engine import Search, Sort
from audit.search.query import BadQuery
from tenants.access import Actor
from tenants.ids import time_of
from tenants.roles import AUDIT_READ

_SAME_MOMENT = 50  # Records of one millisecond, which the bounds of a search do not tell apart.


class Neighbours(NamedTuple):
    """In the order of the list; None at its ends."""

    before: UUID | None
    after: UUID | None


def neighbours(actor: Actor, asked: Asked, request_id: UUID) -> Neighbours:
    """None for an order that is not one of time, and where the search cannot be run any more."""
    find = _searched if asked.is_search else _listed
    if asked.sort == Sort.TOKENS or (asked.is_search and not actor.can(AUDIT_READ)):
        return Neighbours(None, None)
    try:
        newer = find(actor, asked, request_id, oldest_first=True)
        older = find(actor, asked, request_id, oldest_first=False)
    except (ValueError, BadQuery, engine.SearchTooSlow):
        return Neighbours(None, None)
    return Neighbours(older, newer) if asked.sort == Sort.OLDEST else Neighbours(newer, older)


def _listed(actor: Actor, asked: Asked, request_id: UUID, *, oldest_first: bool) -> UUID | None:
    wanted, cursor = asked.filters(), str(request_id)
    page = selectors.list_records(actor, wanted, cursor, limit=1, oldest_first=oldest_first)
    return page.records[0].id if page.records else None


def _searched(actor: Actor, asked: Asked, request_id: UUID, *, oldest_first: bool) -> UUID | None:
    """The search was recorded when its first page was shown; this tells no more than its further pages would."""
    found = engine.iterate(actor, _from(asked.search(), request_id, oldest_first), batch=2)
    for each in islice(found, _SAME_MOMENT):
        if (each > request_id) if oldest_first else (each < request_id):
            return each
    return None


def _from(search: Search, request_id: UUID, oldest_first: bool) -> Search:
    moment = time_of(request_id)
    if oldest_first:
        return replace(search, since=max(search.since or moment, moment), sort=Sort.OLDEST)
    end = moment + timedelta(milliseconds=1)
    return replace(search, until=min(search.until or end, end), sort=Sort.NEWEST)
