"""Statements: what is said for ever about records, each a leaf of the log: tombstones, holds, releases, erasures.

A statement is canonical JSON in plain columns and outlives what it speaks of, so it holds ids, counts and hashes:
never content, never a person's name. A leaf of a record ends in 32 bytes of a digest and one of a statement in a brace,
so neither is ever mistaken for the other.
"""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from django.db import connection
from django_scopes import get_scope

from audit import leaf
from audit.tree import merkle, signing
from audit.tree.models import Statement as Row
from audit.tree.notes import BadNote, Note, signed
from tenants import clock
from tenants.ids import uuid7

TOMBSTONE = "tombstone"  # Its body tells what is gone: as selectors.extent does, or with "sequences", "count", "root".
ERASURE = "erasure"  # With "sequences", "count", "root", and "metadata": "kept" unless that was changed, too.
TELLING = (TOMBSTONE, ERASURE)

_SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement as the log has it; `text` is what its leaf covers."""

    id: UUID
    kind: str
    body: dict[str, Any]
    created: datetime
    text: str

    @property
    def hash(self) -> bytes:
        return hash_of(self.text)


def state(kind: str, body: dict[str, Any]) -> Statement:
    """State something, as part of the deed's transaction in the tenant's scope: both are committed or neither is.

    kind: "tombstone", "hold", … body: ready for JSON.
    """
    if not connection.in_atomic_block or (tenant_id := get_scope().get("tenant")) is None:
        raise RuntimeError(
            "a statement belongs to a deed: make it inside the tenant's scope and its transaction"
        )
    statement_id, created = uuid7(), clock.now()
    said = {
        "schema": _SCHEMA,
        "statement": {
            "id": str(statement_id),
            "tenant_id": str(tenant_id),
            "kind": kind,
            "created": created.astimezone(UTC).isoformat(timespec="microseconds"),
            "body": body,
        },
    }
    text = leaf.canonical(said).decode()
    row = Row(tenant_id=tenant_id, id=statement_id, kind=kind, text=text, created=created)
    row.signature = signing.signer(tenant_id).line(signed_text(text))
    row.save(force_insert=True)
    return Statement(statement_id, kind, body, created, text)


def read(text: str) -> Statement | None:
    """A stored statement; None for what is none."""
    try:
        said = json.loads(text)["statement"]
        created = datetime.fromisoformat(said["created"])
        return Statement(UUID(said["id"]), said["kind"], dict(said["body"]), created, text)
    except (ValueError, KeyError, TypeError):
        return None


def is_signed(row: Row) -> bool:
    """Whether the application made this statement for this tenant."""
    try:
        note = Note.parse(signed(signed_text(row.text), [row.signature]))
    except BadNote:
        return False
    return note.signed_by(signing.verifier(row.tenant_id)) is not None


def signed_text(text: str) -> str:
    """What the signature of a statement is over. Its first line is no log's name, so it is never taken for a head."""
    return f"custos statement\n{text}\n"


def hash_of(text: str) -> bytes:
    """The leaf of a statement's text."""
    return merkle.leaf_hash(text.encode())
