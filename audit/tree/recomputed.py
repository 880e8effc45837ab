"""Leaves computed anew from the rows, by the database and many at a time: a million of them takes seconds.

The SQL is made from the fields that `audit.leaf` covers. It only tells which rows differ; those are then looked at once
more by `audit.leaf` itself, whose word counts.
"""

from collections.abc import Iterator
from datetime import date
from functools import cache
from typing import NamedTuple
from uuid import UUID

from django.db import connection, models

from audit import leaf
from audit.models import AuditCompletion, AuditModel, AuditRecord


class Difference(NamedTuple):
    """A leaf whose rows are not what they were. is_there: whether there are rows at all."""

    seq: int
    request_id: UUID
    is_there: bool
    is_intact_but_content: bool  # The metadata and the stored digest still give the leaf.


def differences(day: date, start: int, end: int) -> Iterator[Difference]:
    """The records of a day with leaves from sequence `start` to before `end` that do not give their leaves.

    Inside the tenant's scope.
    """
    with connection.cursor() as cursor:
        cursor.execute(_query(), {"day": day, "start": start, "end": end})
        rows = cursor.fetchall()
    for seq, request_id, found_hash, is_there in rows:
        difference = _looked_at(seq, request_id, bytes(found_hash), day) if is_there else None
        if not is_there:
            yield Difference(seq, request_id, False, False)
        elif difference is not None:
            yield difference


def _looked_at(seq: int, request_id: UUID, wanted: bytes, day: date) -> Difference | None:
    record = AuditRecord.objects.get(day=day, id=request_id)
    completion = AuditCompletion.objects.get(day=day, request_id=request_id)
    chunk_count, output_bytes, digest = leaf.ciphertexts(day=day, request_id=request_id)
    metadata_is_intact = leaf.digest(record, completion) == wanted == bytes(completion.leaf_digest)
    same_content = (chunk_count, output_bytes, digest) == (
        completion.chunk_count,
        completion.output_bytes,
        bytes(completion.ciphertext_digest),
    )
    if metadata_is_intact and same_content:
        return None
    return Difference(seq, request_id, True, metadata_is_intact)


@cache
def _query() -> str:
    by_schema = " ".join(
        f"WHEN {schema} THEN {_metadata(schema, fields)}" for schema, fields in leaf.FIELDS.items()
    )
    content = (
        "coalesce(int8send(octet_length(r.context)) || r.context, ''::bytea) || int8send(octet_length(r.input)) || r.input "
        "|| int8send(octet_length(r.parameters)) || r.parameters || coalesce(p.sealed, ''::bytea)"
    )
    return f"""
        SELECT l.seq, l.request_id, l.hash, r.id IS NOT NULL AND c.request_id IS NOT NULL
        FROM audit_leaf AS l
        LEFT JOIN audit_record AS r ON r.day = %(day)s AND r.id = l.request_id
        LEFT JOIN audit_completion AS c ON c.day = %(day)s AND c.request_id = l.request_id
        LEFT JOIN LATERAL (
            SELECT count(*) AS pieces, coalesce(sum(size), 0) AS bytes,
                   string_agg(int8send(octet_length(sealed)) || sealed, ''::bytea ORDER BY seq) AS sealed
            FROM audit_chunk WHERE day = %(day)s AND request_id = l.request_id
        ) AS p ON true
        WHERE l.seq >= %(start)s AND l.seq < %(end)s AND l.day = %(day)s AND l.keeping <> 'statement'
          AND (
              l.hash = c.leaf_digest
              AND p.pieces = c.chunk_count AND p.bytes = c.output_bytes
              AND sha256({content}) = c.ciphertext_digest
              AND l.hash = sha256('\\x00'::bytea || convert_to(CASE r.schema {by_schema} END, 'UTF8') || c.ciphertext_digest)
          ) IS NOT TRUE
        ORDER BY l.seq
    """


def _metadata(schema: int, fields: tuple[str, ...]) -> str:
    """An SQL expression of a leaf's canonical metadata: sorted keys, no spaces."""
    completion = _object(AuditCompletion, "c", leaf.COMPLETION_FIELDS)
    return f"""'{{"completion":' || {completion} || ',"record":' || {_object(AuditRecord, "r", fields)} || ',"schema":{schema}}}'"""


def _object(model: type[AuditModel], alias: str, names: tuple[str, ...]) -> str:
    kinds = {field.attname: field for field in model._meta.concrete_fields}
    pairs = [f"""'"{name}":' || {_value(kinds[name], f"{alias}.{name}")}""" for name in sorted(names)]
    return "'{' || " + " || ',' || ".join(pairs) + " || '}'"


def _value(field: "models.Field[object, object]", column: str) -> str:
    """A column as Python's json module writes it."""
    match field:
        case models.DateTimeField():
            shown = (
                f"""'"' || to_char({column} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US') || '+00:00"'"""
            )
        case models.DateField():
            shown = f"""'"' || to_char({column}, 'YYYY-MM-DD') || '"'"""
        case models.UUIDField() | models.ForeignKey():
            shown = f"""'"' || {column}::text || '"'"""
        case models.FloatField():
            # Python ends a whole number with ".0"; where the two differ otherwise, `audit.leaf` decides.
            shown = (
                f"CASE WHEN {column} = trunc({column}) THEN {column}::text || '.0' ELSE {column}::text END"
            )
        case models.TextField():
            shown = f"to_json({column})::text"
        case _:
            shown = f"{column}::text"
    return f"coalesce({shown}, 'null')"
