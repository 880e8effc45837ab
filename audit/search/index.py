"""Writing the index: records that wait are opened, cut into tokens, and entered under keyed hashes.

An entry is inserted in the transaction that takes its record off the waiting list, so a process that dies halfway has
done nothing, and until it is committed searches find the record on the list.
"""

import logging
from collections.abc import Collection
from datetime import date
from typing import Any
from uuid import UUID

from django.db import Error, connection

from audit.record import Keeping
from audit.search import hashing, tokens
from audit.search.content import Content, contents
from audit.search.entries import SearchEntry
from audit.search.hashing import Hasher
from tenants import envelope
from tenants.models import Tenant
from tenants.scope import tenant_scope

logger = logging.getLogger(__name__)

BATCH = 500
# Hashes in an array: so many make a row longer than PostgreSQL's TOAST_TUPLE_THRESHOLD and fit into one piece of TOAST.
_FULL = 244
COLUMNS = [field.attname for field in SearchEntry._meta.local_concrete_fields]

# Closed ones only, and those whose record is gone, which wait for nothing any more.
_TAKE = """
    DELETE FROM audit_search_waiting WHERE (day, request_id) IN (
        SELECT waiting.day, waiting.request_id FROM audit_search_waiting AS waiting
        WHERE EXISTS (SELECT FROM audit_completion AS ended
                      WHERE ended.day = waiting.day AND ended.request_id = waiting.request_id)
           OR NOT EXISTS (SELECT FROM audit_record WHERE audit_record.day = waiting.day AND id = waiting.request_id)
        LIMIT %s
    ) RETURNING day, request_id
"""


def index_waiting(most: int | None = None) -> int:
    """Index what waits in every tenant, at most so many records; how many were taken.

    What cannot be done in one tenant, as while its keys cannot be had, is logged and left to the next run.
    """
    done = 0
    for tenant_id in Tenant.objects.values_list("id", flat=True):
        taken = BATCH
        while taken == BATCH and (most is None or done < most):
            try:
                taken = index_batch(tenant_id)
            except (Error, envelope.KeysUnavailable):
                logger.exception("records of tenant %s wait to be indexed until the next run", tenant_id)
                break
            done += taken
    return done


def index_batch(tenant_id: UUID, size: int = BATCH) -> int:
    """Index up to `size` records of one tenant, in one transaction; how many were taken."""
    with tenant_scope(tenant_id):
        with connection.cursor() as cursor:
            # Lost together with the removal from the list, so that nothing is.
            cursor.execute("SET LOCAL synchronous_commit = off")
            # One process at a time: another would wait for these rows, to find them gone.
            cursor.execute(
                "SELECT pg_try_advisory_xact_lock(hashtextextended(%s, 1))", [f"index {tenant_id}"]
            )
            if not cursor.fetchone()[0]:
                return 0
            cursor.execute(_TAKE, [size])
            taken = cursor.fetchall()
        found = list(contents(taken))
        for day in {content.record.day for content in found}:
            ensure_partition(day)
        _insert(_rows(tenant_id, found))
    return len(taken)


def ensure_partition(day: date) -> None:
    """Make the index of a day of which there are records."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT audit_search_ensure_partition(%s)", [day])


def forget(day: date) -> int:
    """Take entries whose records are gone out of the index of a day, inside the tenant's scope; how many."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT audit_search_forget(%s)", [day])
        return cursor.fetchone()[0]


def entry(content: Content, hasher: Hasher | None) -> tuple[Any, ...]:
    """The row of a record, in the order of COLUMNS; without a hasher, as when its key is gone, found by no word."""
    record, columns = content.record, content.columns
    values = {
        "day": record.day,
        "tenant_id": record.tenant_id,
        "request_id": record.id,
        "keeping": content.keeping.value,
        "kind": record.kind,
        "channel": record.channel,
        "user_id": record.user_id,
        "user_label": record.user_label,
        "group_ids": [UUID(each) for each in columns.group_ids],
        "model": record.model,
        "model_version": record.model_version,
        "status": columns.status,
        "tokens": columns.tokens,
        "rules": list(columns.rules),
        "risk": columns.risk,
        "confined_to": record.confined_to,
        "words": _array(_hashes(content, hasher) if hasher else ()),
    }
    return tuple(values[name] for name in COLUMNS)


def _hashes(content: Content, hasher: Hasher) -> set[int]:
    """All that a record is found by: words, names and values of columns, and the slices of its day."""
    words: set[str] = set()
    neighbours: set[str] = set()
    others = hashing.column_tokens(content.columns)
    others.add(hashing.quarter_token(hashing.quarter_of(content.record.id)))
    others.add(hashing.size_token(hashing.size_of(content.columns.tokens)))
    for text in content.texts:
        words |= tokens.words(text.normalised)
        neighbours |= tokens.neighbours(text.normalised)
    return hasher.of_words(words).union(map(hasher, others), map(hasher.once, neighbours))


def _array(hashes: Collection[int]) -> str:
    """As PostgreSQL reads it, at a fraction of the time that adapting each number takes. In the order of hashes.

    Short ones are filled up with their last, so that PostgreSQL moves every array out of its row: hits are then read
    from rows of 250 bytes instead of 2,000, and nobody sees how many words a short record has.
    """
    numbers = sorted(hashes)
    numbers += numbers[-1:] * (_FULL - len(numbers))
    return f"{{{','.join(map(str, numbers))}}}"


def _rows(tenant_id: UUID, found: list[Content]) -> list[tuple[Any, ...]]:
    hashers: dict[tuple[Keeping, date], Hasher | None] = {}
    rows = []
    for content in found:
        place = (content.keeping, content.record.day)
        if place not in hashers:
            hashers[place] = _hasher(tenant_id, *place)
        rows.append(entry(content, hashers[place]))
    return rows


def _hasher(tenant_id: UUID, keeping: Keeping, day: date) -> Hasher | None:
    try:
        return Hasher(tenant_id, keeping, day)
    except (envelope.KeyDestroyed, envelope.Tampered):
        logger.warning(
            "the %s key of %s does not open, so nothing of that day is found by words", keeping, day
        )
        return None


def _insert(rows: list[tuple[Any, ...]]) -> None:
    with connection.cursor() as cursor:
        cursor.executemany(
            f"INSERT INTO audit_search_entry ({', '.join(COLUMNS)}) VALUES ({', '.join(['%s'] * len(COLUMNS))}) "
            "ON CONFLICT DO NOTHING",
            rows,
        )
