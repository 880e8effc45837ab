"""The digest of a closed record: SHA-256(0x00 ‖ canonical metadata ‖ ciphertext digest), as an RFC 6962 leaf.

It is over ciphertext, so it can still be checked when a day's key and content are gone, and leaks nothing. The
canonical metadata is JSON with sorted keys, no spaces, UTF-8, times in UTC with microseconds.
"""

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID

from django.db import connection

from audit.models import AuditCompletion, AuditRecord

# A change to what a leaf covers is a new schema; leaves already written keep theirs.
SCHEMA = 2

_FIRST_FIELDS = (
    "tenant_id",
    "id",
    "day",
    "kind",
    "channel",
    "user_id",
    "user_label",
    "api_key_id",
    "session_ref",
    "model",
    "model_version",
    "route",
    "route_reason",
    "client_address",
    "conversation_id",
    "subject_id",
    "created",
)
RECORD_FIELDS = (*_FIRST_FIELDS, "adapter", "deployment", "confined_to", "schema")
FIELDS = {1: _FIRST_FIELDS, 2: RECORD_FIELDS[:-1]}  # By schema.
COMPLETION_FIELDS = (
    "status",
    "finish_reason",
    "error_code",
    "prompt_tokens",
    "completion_tokens",
    "cached_tokens",
    "queue_ms",
    "ttft_ms",
    "total_ms",
    "itl_p50_ms",
    "chunk_count",
    "output_bytes",
    "created",
)


_json = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode


def ciphertexts(*, day: date, request_id: UUID) -> tuple[int, int, bytes]:
    """(chunks, bytes of output text, SHA-256 over all ciphertexts in order) of a record, inside the tenant's scope."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM audit_ciphertexts(%s, %s)", [day, request_id])
        chunk_count, output_bytes, found = cursor.fetchone()
    return chunk_count, output_bytes, bytes(found)


def digest(record: AuditRecord, completion: AuditCompletion) -> bytes:
    """The leaf's SHA-256, 32 bytes; needs no content, only the two rows' plain columns and the ciphertext digest."""
    return _hash(metadata(record, completion), bytes(completion.ciphertext_digest))


def digest_of(record: Mapping[str, Any], completion: Mapping[str, Any]) -> bytes:
    """As `digest`, of rows as they are read and written: columns by name."""
    return _hash(_said(record, completion), completion["ciphertext_digest"])


def metadata(record: AuditRecord, completion: AuditCompletion) -> dict[str, Any]:
    """What a leaf says of a record beside its ciphertext, ready for JSON."""
    return _said(
        {name: getattr(record, name) for name in ("schema", *FIELDS[record.schema])},
        {name: getattr(completion, name) for name in COMPLETION_FIELDS},
    )


def _said(record: Mapping[str, Any], completion: Mapping[str, Any]) -> dict[str, Any]:
    schema = record["schema"]
    return {
        "schema": schema,
        "record": {name: _plain(record[name]) for name in FIELDS[schema]},
        "completion": {name: _plain(completion[name]) for name in COMPLETION_FIELDS},
    }


def _hash(said: Mapping[str, Any], ciphertext_digest: bytes) -> bytes:
    return hashlib.sha256(b"\x00" + canonical(said) + ciphertext_digest).digest()


def canonical(value: Any) -> bytes:
    """JSON as leaves have it: sorted keys, no spaces, UTF-8."""
    return _json(value).encode()


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, str | int | float):  # Most are.
        return value
    match value:
        case UUID():
            return str(value)
        case datetime():
            return value.astimezone(UTC).isoformat(timespec="microseconds")
        case date():
            return value.isoformat()
        case _:
            return value
