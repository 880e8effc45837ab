"""What records say, opened for indexing and for verifying hits; inside the tenant's scope."""

import logging
from collections import defaultdict
from collections.abc import Collection, Iterator
from datetime import date
from typing import NamedTuple
from uuid import UUID

from audit import output
from audit.models import AuditChunk, AuditCompletion, AuditRecord
from audit.output import Kind
from audit.record import REQUESTS, Keeping, Opener, handle_of
from audit.search import tokens
from audit.search.query import Columns, Text
from audit.selectors import RUNNING
from tenants import envelope
from tenants.places import groups_of_people

logger = logging.getLogger(__name__)

INPUT, DETAIL, PASSAGE, ATTACHMENT = "input", "detail", "passage", "attachment"
_FIELDS = {Kind.TEXT: "output", Kind.REASONING: "reasoning", Kind.TOOL_CALL: "tool_call"}


class Content(NamedTuple):
    """A record with what it says. is_closed: nothing will be added. texts: empty when it cannot be read any more."""

    record: AuditRecord
    keeping: Keeping
    is_closed: bool
    columns: Columns
    texts: list[Text]


def contents(ids: Collection[tuple[date, UUID]]) -> Iterator[Content]:
    """Those of the records that there are, in no order."""
    days = {day for day, _ in ids}
    request_ids = [request_id for _, request_id in ids]
    by_request = {"day__in": days, "request_id__in": request_ids}
    chunks: dict[UUID, list[tuple[int, bytes]]] = defaultdict(list)
    rows = AuditChunk.objects.filter(**by_request).values_list("request_id", "seq", "sealed")
    for request_id, seq, sealed in rows:
        chunks[request_id].append((seq, sealed))
    ended = AuditCompletion.objects.filter(**by_request)
    ends = {
        request_id: (status, written or 0)
        for request_id, status, written in ended.values_list("request_id", "status", "completion_tokens")
    }
    records = list(AuditRecord.objects.filter(day__in=days, id__in=request_ids))
    groups = _groups(records)
    for record in records:
        end = ends.get(record.id)
        columns = _columns(record, end, groups.get(record.user_id, []))
        keeping = handle_of(record).keeping
        yield Content(record, keeping, end is not None, columns, _texts(record, sorted(chunks[record.id])))


def _columns(record: AuditRecord, end: tuple[str, int] | None, group_ids: list[str]) -> Columns:
    status, written = end or (RUNNING, 0)
    return Columns(
        created=record.created,
        user_label=record.user_label,
        model=record.model,
        model_version=record.model_version,
        channel=record.channel,
        kind=record.kind,
        status=status,
        tokens=written,
        group_ids=group_ids,
        rules=(),
        risk="",
    )


def _texts(record: AuditRecord, chunks: list[tuple[int, bytes]]) -> list[Text]:
    try:
        return _read(record, Opener(handle_of(record)), chunks)
    except envelope.KeyDestroyed:
        return []
    except (envelope.Tampered, ValueError, TypeError, KeyError, AttributeError):
        # Not in the form in which records are written: one such must not hold up the others.
        logger.warning("record %s is not what was recorded, so nothing in it is found by a search", record.id)
        return []


def _read(record: AuditRecord, opener: Opener, chunks: list[tuple[int, bytes]]) -> list[Text]:
    said = opener.json("input", record.input)
    context = opener.json("context", record.context) if record.context else {}
    written = [opener.output(seq, sealed) for seq, sealed in chunks]
    field = INPUT if record.kind in REQUESTS else DETAIL
    found = [Text(field, piece) for piece in tokens.pieces(said)]
    for part in output.joined(part for piece in written for part in output.decode(piece)):
        found += [Text(_FIELDS[part.kind], piece) for piece in (part.name, part.text) if piece]
    for name, label in (("passages", PASSAGE), ("attachments", ATTACHMENT)):
        found += [Text(label, piece) for piece in tokens.pieces(context.get(name, []))]
    return found


def _groups(records: Collection[AuditRecord]) -> dict[UUID | None, list[str]]:
    """People's groups as they are now. Everyone's group tells nothing and is left out."""
    people = {record.user_id for record in records if record.user_id}
    if not people:
        return {}
    tenant_id = next(record.tenant_id for record in records)
    found = groups_of_people(tenant_id, people)
    return {user_id: sorted(map(str, found[user_id])) for user_id in people if user_id in found}
