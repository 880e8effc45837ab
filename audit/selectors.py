"""Reading the audit record: lists from plain columns, and one record with its content.

Opening a record is itself a record, written before anything is decrypted; without it there is no content.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from enum import StrEnum
from typing import Any, Protocol
from uuid import UUID

from django.db.models import Exists, OuterRef, Q, QuerySet, Subquery, TextField, Value
from django.db.models.functions import Coalesce
from django.utils.translation import gettext as _

from audit import leaf, output, secrecy
from audit.models import AuditChunk, AuditCompletion, AuditRecord
from audit.output import Part
from audit.record import READINGS, REQUESTS, Handle, Opener, handle_of, open_json, record_event
from tenants import envelope, groups
from tenants.access import Actor, NotVisible, require
from tenants.ids import day_of
from tenants.roles import AUDIT_LIST, AUDIT_READ
from tenants.scope import tenant_scope

READ = "audit.read"
RUNNING = "running"
PAGE_SIZE = 50
COUNT_MOST = 10_000  # A person needs no exact number beyond this, and counting further costs time.

_CONTENT = ("input", "parameters", "context")
_FACETS = {
    "user": "user_label",
    "model": "model",
    "model_version": "model_version",
    "channel": "channel",
    "status": "ended",
    "event": "kind",
}
_LAST_ID_TIME = int(datetime(9999, 12, 31, tzinfo=UTC).timestamp()) * 1_000_000


class ReasonRequired(Exception):
    """A record is opened only with a stated reason."""


class State(StrEnum):
    """What became of a record's content."""

    INTACT = "intact"
    ALTERED = "altered"
    GONE = "gone"
    ERASED = "erased"


@dataclass(frozen=True, slots=True)
class RecordFilters:
    """Narrow a list; empty values do not. `user` is a label, `status` one of Status or "running".

    since, until: aware; from since on, before until. group: whoever is in it now, or in one below it. least, most:
    tokens read and written. kinds: none lists openings and other events as well; `but` leaves kinds out.
    """

    user: str = ""
    group: UUID | None = None
    model: str = ""
    model_version: str = ""
    since: datetime | None = None
    until: datetime | None = None
    status: str = ""
    channel: str = ""
    least: int | None = None
    most: int | None = None
    kinds: tuple[str, ...] = REQUESTS
    but: tuple[str, ...] = ()


CHANGES = RecordFilters(kinds=(), but=(*REQUESTS, *READINGS))
OPENINGS = RecordFilters(kinds=READINGS)


@dataclass(frozen=True, slots=True)
class Summary:
    """A record without content. `completion` is None while it is running; subject_id: what an event is about."""

    id: UUID
    created: datetime
    kind: str
    channel: str
    user_label: str
    user_id: UUID | None
    api_key_id: UUID | None
    session_ref: str
    model: str
    model_version: str
    adapter: str
    deployment: str
    route: str
    route_reason: str
    client_address: str
    conversation_id: UUID | None
    subject_id: UUID | None
    completion: AuditCompletion | None
    is_gone: bool = False

    @property
    def status(self) -> str:
        return self.completion.status if self.completion else RUNNING


@dataclass(frozen=True, slots=True)
class Page:
    """Newest first, or oldest. `next_cursor` continues from the last one, whatever was written meanwhile; "" at the end."""

    records: list[Summary]
    next_cursor: str


@dataclass(frozen=True, slots=True)
class Reading:
    """Who opened a record, when and why; the reason is "" when its key is gone."""

    user_label: str
    created: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class RecordView:
    """One record with its content, which is present only when `state` is intact.

    input: messages, a prompt or several, or an event's detail. output: answer by answer. history: who opened it before, newest first.
    """

    summary: Summary
    state: State
    input: Any = None
    parameters: dict[str, Any] = field(default_factory=dict)
    passages: list[dict[str, Any]] = field(default_factory=list)
    attachments: list[dict[str, Any]] = field(default_factory=list)
    output: list[Part] = field(default_factory=list)
    history: list[Reading] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Survey:
    """What the newest records of a list have in common, COUNT_MOST of them at most.

    total: how many there are, up to COUNT_MOST + 1. facets: by column ("user", "model", …), (value, count), most first.
    """

    total: int
    facets: dict[str, list[tuple[str, int]]]


class Departed(Protocol):
    """What knows of records that are not in their day any more, or have lost their content; in the tenant's scope."""

    def find(self, actor: Actor, request_id: UUID) -> Summary | None:
        """What this actor may know of it."""

    def open(self, actor: Actor, request_id: UUID) -> RecordView | None:
        """What is left of it for this actor, without history; None: nothing that is not in its day."""

    def is_erased(self, request_id: UUID) -> bool:
        """Whether its content was erased on request."""


_departed: Departed | None = None


def register(departed: Departed) -> None:
    """What is asked for records that are not found in their day. It lies above, with the log and the holds."""
    global _departed
    _departed = departed


def list_records(
    actor: Actor,
    filters: RecordFilters = RecordFilters(),
    cursor: str = "",
    limit: int = PAGE_SIZE,
    *,
    oldest_first: bool = False,
) -> Page:
    """A page of at most `limit` records. Raises NotVisible without audit.list or for a cursor that is none."""
    require(actor, AUDIT_LIST)
    order = ("day", "id") if oldest_first else ("-day", "-id")
    with tenant_scope(actor.tenant_id):
        records = _filtered(actor, filters)
        if cursor:
            last = _parse(cursor)
            after = (
                Q(day__gte=day_of(last), id__gt=last)
                if oldest_first
                else Q(day__lte=day_of(last), id__lt=last)
            )
            records = records.filter(after)
        found = summaries(records.order_by(*order)[: limit + 1])
    more = len(found) > limit
    return Page(records=found[:limit], next_cursor=str(found[limit - 1].id) if more else "")


def find_record(actor: Actor, request_id: UUID) -> Summary:
    """One record without its content, which opens nothing and so leaves no record. Raises NotVisible."""
    require(actor, AUDIT_LIST)
    day = _day(request_id)
    with tenant_scope(actor.tenant_id):
        found = summaries(secrecy.visible(actor, AuditRecord.objects.filter(day=day, id=request_id)))
        if found:
            return found[0]
        if _departed and (summary := _departed.find(actor, request_id)):
            return summary
    raise NotVisible(READ)


def survey(actor: Actor, filters: RecordFilters = RecordFilters()) -> Survey:
    """How many records match, and how they spread. Raises NotVisible without audit.list."""
    require(actor, AUDIT_LIST)
    with tenant_scope(actor.tenant_id):
        completion = AuditCompletion.objects.filter(day=OuterRef("day"), request_id=OuterRef("id"))
        ended = Coalesce(Subquery(completion.values("status")[:1]), Value(RUNNING, TextField()))
        found = _filtered(actor, filters).order_by("-day", "-id").annotate(ended=ended)
        columns = zip(*found.values_list(*_FACETS.values())[: COUNT_MOST + 1], strict=True)
    counts = {name: Counter(values) for name, values in zip(_FACETS, columns, strict=False)}
    return Survey(
        total=sum(counts["user"].values()) if counts else 0,
        facets={name: found.most_common() for name, found in counts.items()},
    )


def open_record(
    actor: Actor,
    request_id: UUID,
    *,
    reason: str,
    client_address: str = "",
    confined_to: UUID | None = None,
) -> RecordView:
    """A record with its content, after recording that this actor opened it and why.

    confined_to: the case or review for which it is opened; those outside of it do not see that it was.

    Raises NotVisible, ReasonRequired, or AuditUnavailable when the opening cannot be recorded. Inside an open scope
    the opening is part of that transaction: let nothing of the result out before it is committed.
    """
    require(actor, AUDIT_READ)
    reason = reason.strip()
    if not reason:
        raise ReasonRequired(_("State why you open this record."))
    find_record(actor, request_id)
    record_event(
        actor=actor,
        kind=READ,
        detail={"record": str(request_id), "reason": reason},
        subject_id=request_id,
        client_address=client_address,
        confined_to=confined_to,
    )
    with tenant_scope(actor.tenant_id):
        record = AuditRecord.objects.filter(day=day_of(request_id), id=request_id).first()
        kept = _departed.open(actor, request_id) if _departed and not (record and record.input) else None
        if kept is not None:
            return replace(kept, history=_history(actor, Handle(actor.tenant_id, request_id)))
        if record is None:  # It went between the two looks.
            raise NotVisible(READ)
        return _view(actor, record)


def ids(actor: Actor, filters: RecordFilters, *, oldest_first: bool = False) -> Iterator[UUID]:
    """Of every record that matches, in constant memory; inside the tenant's scope. Raises NotVisible without audit.list."""
    require(actor, AUDIT_LIST)
    order = ("day", "id") if oldest_first else ("-day", "-id")
    yield from _filtered(actor, filters).order_by(*order).values_list("id", flat=True).iterator(5000)


def views(actor: Actor, request_ids: Sequence[UUID]) -> list[RecordView]:
    """Records with their content and without history, in this order, in few queries.

    For code that has recorded the reading: an export. Those that are not there, or not for this actor, are left out.
    """
    require(actor, AUDIT_READ)
    days = {_day(request_id) for request_id in request_ids}
    with tenant_scope(actor.tenant_id):
        wanted = AuditRecord.objects.filter(day__in=days, id__in=request_ids)
        records = {record.id: record for record in secrecy.visible(actor, wanted)}
        ended = AuditCompletion.objects.filter(day__in=days, request_id__in=list(records))
        completions = {completion.request_id: completion for completion in ended}
        chunks: dict[UUID, list[AuditChunk]] = {request_id: [] for request_id in records}
        for chunk in AuditChunk.objects.filter(day__in=days, request_id__in=list(records)).order_by("seq"):
            chunks[chunk.request_id].append(chunk)
        found: list[RecordView] = []
        for each in request_ids:
            record = records.get(each)
            kept = _departed.open(actor, each) if _departed and not (record and record.input) else None
            if kept is not None:
                found.append(kept)
            elif record is not None:
                found.append(_content(record, completions.get(each), chunks[each], history=[]))
        return found


def summaries(records: QuerySet[AuditRecord]) -> list[Summary]:
    """A queryset of records, with their completions, in the queryset's order; inside the tenant's scope."""
    found = list(records.defer(*_CONTENT))
    days = {record.day for record in found}
    ended = AuditCompletion.objects.filter(day__in=days, request_id__in=[record.id for record in found])
    completions = {completion.request_id: completion for completion in ended}
    return [summary_of(record, completions.get(record.id)) for record in found]


def first_id_at(time: datetime) -> UUID:
    """The smallest version 7 id of a time: ids made before are smaller, ids made from then on are not."""
    # No id is older than 1970, and none has a day that no calendar holds.
    microseconds = min(max(int(time.timestamp() * 1_000_000), 0), _LAST_ID_TIME)
    milliseconds = -(-microseconds // 1000)
    return UUID(int=(milliseconds << 80) | (7 << 76) | (2 << 62))


def _of_kinds(actor: Actor, filters: RecordFilters) -> QuerySet[AuditRecord]:
    records = secrecy.visible(actor, AuditRecord.objects.all()).exclude(kind__in=filters.but)
    return records.filter(kind__in=filters.kinds) if filters.kinds else records


def _filtered(actor: Actor, filters: RecordFilters) -> QuerySet[AuditRecord]:
    plain = {
        "user_label": filters.user,
        "model": filters.model,
        "model_version": filters.model_version,
        "channel": filters.channel,
    }
    records = _of_kinds(actor, filters).filter(**{name: value for name, value in plain.items() if value})
    if filters.since:
        first = first_id_at(filters.since)
        records = records.filter(day__gte=day_of(first), id__gte=first)
    if filters.until:
        end = first_id_at(filters.until)
        records = records.filter(day__lte=day_of(end), id__lt=end)
    if filters.group:
        records = records.filter(user_id__in=groups.people_in(filters.group))
    bounds = {"tokens__gte": filters.least, "tokens__lte": filters.most}
    if wanted := {name: value for name, value in bounds.items() if value is not None}:
        tokens = Coalesce("prompt_tokens", 0) + Coalesce("completion_tokens", 0)
        completion = AuditCompletion.objects.filter(day=OuterRef("day"), request_id=OuterRef("id"))
        records = records.filter(Exists(completion.annotate(tokens=tokens).filter(**wanted)))
    if filters.status:
        completion = AuditCompletion.objects.filter(day=OuterRef("day"), request_id=OuterRef("id"))
        if filters.status == RUNNING:
            records = records.filter(~Exists(completion))
        else:
            records = records.filter(Exists(completion.filter(status=filters.status)))
    return records


def _parse(cursor: str) -> UUID:
    try:
        before = UUID(cursor)
    except ValueError as error:
        raise NotVisible(READ) from error
    _day(before)
    return before


def _day(request_id: UUID) -> date:
    """The day of an id that came from outside. Raises NotVisible for ids that no record can have."""
    try:
        return day_of(request_id)
    except (ValueError, OverflowError) as error:
        raise NotVisible(READ) from error


def _view(actor: Actor, record: AuditRecord) -> RecordView:
    handle = handle_of(record)
    chunks = list(AuditChunk.objects.filter(day=handle.day, request_id=handle.request_id).order_by("seq"))
    completion = AuditCompletion.objects.filter(day=handle.day, request_id=handle.request_id).first()
    return _content(record, completion, chunks, history=_history(actor, handle))


def _content(
    record: AuditRecord,
    completion: AuditCompletion | None,
    chunks: list[AuditChunk],
    *,
    history: list[Reading],
) -> RecordView:
    handle, summary = handle_of(record), summary_of(record, completion)
    if not record.input and _departed and _departed.is_erased(record.id):
        return RecordView(summary=summary, state=State.ERASED, history=history)
    try:
        if completion is not None and not _is_intact(record, completion):
            raise envelope.Tampered("the record is not what was recorded")
        opener = Opener(handle)
        context = opener.json("context", record.context) if record.context else {}
        return RecordView(
            summary=summary,
            state=State.INTACT,
            passages=context.get("passages", []),
            attachments=context.get("attachments", []),
            input=opener.json("input", record.input),
            parameters=opener.json("parameters", record.parameters),
            output=_output(opener, chunks),
            history=history,
        )
    except envelope.Tampered:
        return RecordView(summary=summary, state=State.ALTERED, history=history)
    except envelope.KeyDestroyed:
        return RecordView(summary=summary, state=State.GONE, history=history)


def _is_intact(record: AuditRecord, completion: AuditCompletion) -> bool:
    chunk_count, output_bytes, digest = leaf.ciphertexts(day=record.day, request_id=record.id)
    return (
        (chunk_count, output_bytes, digest)
        == (completion.chunk_count, completion.output_bytes, bytes(completion.ciphertext_digest))
    ) and leaf.digest(record, completion) == bytes(completion.leaf_digest)


def _output(opener: Opener, chunks: Iterable[AuditChunk]) -> list[Part]:
    pieces = (opener.output(chunk.seq, chunk.sealed) for chunk in chunks)
    return output.joined(part for piece in pieces for part in output.decode(piece))


def _history(actor: Actor, handle: Handle) -> list[Reading]:
    """The newest openings that this actor may know of; the one being made right now is among them."""
    openings = AuditRecord.objects.filter(kind=READ, subject_id=handle.request_id, day__gte=handle.day)
    openings = secrecy.visible(actor, openings)
    return [_reading(opening) for opening in openings.order_by("-day", "-id")[:PAGE_SIZE]]


def _reading(opening: AuditRecord) -> Reading:
    try:
        detail = open_json(handle_of(opening), field="input", sealed=opening.input)
        reason = detail["reason"]
    except (envelope.KeyDestroyed, envelope.Tampered):
        reason = ""
    return Reading(opening.user_label, opening.created.astimezone(UTC), reason)


def summary_of(record: AuditRecord, completion: AuditCompletion | None) -> Summary:
    """What a record tells without its content."""
    return Summary(
        id=record.id,
        created=record.created,
        kind=record.kind,
        channel=record.channel,
        user_label=record.user_label,
        user_id=record.user_id,
        api_key_id=record.api_key_id,
        session_ref=record.session_ref,
        model=record.model,
        model_version=record.model_version,
        adapter=record.adapter,
        deployment=record.deployment,
        route=record.route,
        route_reason=record.route_reason,
        client_address=record.client_address,
        conversation_id=record.conversation_id,
        subject_id=record.subject_id,
        completion=completion,
    )
