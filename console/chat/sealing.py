"""Text in, sealed bytes out. Every seal is bound to its tenant, conversation, message and field, so sealed
bytes moved to another row do not open."""

from __future__ import annotations

import datetime
from uuid import UUID

from django.utils.translation import gettext as _

from tenants import envelope

_PURPOSE = "chat"


def seal_title(*, tenant_id: UUID, conversation_id: UUID, day: datetime.date, title: str) -> bytes:
    """Needs the tenant's scope."""
    return _seal(tenant_id, day, title, _place(tenant_id, conversation_id, None, "title"))


def seal_content(
    *,
    tenant_id: UUID,
    conversation_id: UUID,
    message_id: UUID,
    day: datetime.date,
    text: str,
    field: str = "content",
) -> bytes:
    """field: "content" or "sources". Needs the tenant's scope."""
    return _seal(tenant_id, day, text, _place(tenant_id, conversation_id, message_id, field))


def open_title(*, tenant_id: UUID, conversation_id: UUID, day: datetime.date, sealed: bytes) -> str:
    """Needs the tenant's scope. Raises envelope.Tampered."""
    return _open(tenant_id, day, sealed, _place(tenant_id, conversation_id, None, "title"))


def open_content(
    *,
    tenant_id: UUID,
    conversation_id: UUID,
    message_id: UUID,
    day: datetime.date,
    sealed: bytes,
    field: str = "content",
) -> str:
    """As `seal_content`. Raises envelope.Tampered."""
    return _open(tenant_id, day, sealed, _place(tenant_id, conversation_id, message_id, field))


def _place(tenant_id: UUID, conversation_id: UUID, message_id: UUID | None, field: str) -> dict[str, str]:
    return {
        "tenant": str(tenant_id),
        "conversation": str(conversation_id),
        "message": str(message_id or ""),
        "field": field,
    }


def _seal(tenant_id: UUID, day: datetime.date, text: str, aad: dict[str, str]) -> bytes:
    return envelope.seal(
        tenant_id=tenant_id, purpose=_PURPOSE, day=day, plaintext=text.encode("utf-8"), aad=aad
    )


def _open(tenant_id: UUID, day: datetime.date, sealed: bytes, aad: dict[str, str]) -> str:
    try:
        plain = envelope.open_sealed(
            tenant_id=tenant_id, purpose=_PURPOSE, day=day, sealed=bytes(sealed), aad=aad
        )
    except envelope.KeyDestroyed:
        return _("[gone under the retention policy]")
    return plain.decode("utf-8")
