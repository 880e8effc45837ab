"""What people wrote and uploaded, sealed under the base's own key. Inside the tenant's scope.

The key has the purpose `knowledge:<id of the base>` and the day on which the base was made, so it lives as long as the
base. Each row's field is bound to its row: sealed bytes that are moved do not open.
"""

import hashlib
import hmac
import json
from typing import Any
from uuid import UUID

from knowledge.models import Base
from tenants import envelope
from tenants.ids import day_of


def purpose_of(base_id: UUID) -> str:
    return f"knowledge:{base_id}"


def seal(value: Any, *, tenant_id: UUID, base_id: UUID, row: UUID, field: str) -> bytes:
    """Ciphertext of a value as JSON, for a field of one row."""
    plaintext = json.dumps(value, ensure_ascii=False).encode(errors="surrogatepass")
    return seal_bytes(plaintext, tenant_id=tenant_id, base_id=base_id, row=row, field=field)


def unseal(sealed: bytes | memoryview, *, tenant_id: UUID, base_id: UUID, row: UUID, field: str) -> Any:
    """What `seal` was given; None for nothing. Raises envelope.Tampered or envelope.KeyDestroyed."""
    if not sealed:
        return None
    plaintext = unseal_bytes(sealed, tenant_id=tenant_id, base_id=base_id, row=row, field=field)
    return json.loads(plaintext.decode(errors="surrogatepass"))


def seal_bytes(plaintext: bytes, *, tenant_id: UUID, base_id: UUID, row: UUID, field: str) -> bytes:
    return envelope.seal(
        tenant_id=tenant_id,
        purpose=purpose_of(base_id),
        day=day_of(base_id),
        plaintext=plaintext,
        aad={"row": row, "field": field},
    )


def unseal_bytes(
    sealed: bytes | memoryview, *, tenant_id: UUID, base_id: UUID, row: UUID, field: str
) -> bytes:
    """Raises envelope.Tampered or envelope.KeyDestroyed."""
    return envelope.open_sealed(
        tenant_id=tenant_id,
        purpose=purpose_of(base_id),
        day=day_of(base_id),
        sealed=bytes(sealed),
        aad={"row": row, "field": field},
    )


def name_of(base: Base) -> str:
    return (
        unseal(base.sealed_name, tenant_id=base.tenant_id, base_id=base.pk, row=base.pk, field="name") or ""
    )


def digest_of(base: Base, content: bytes) -> bytes:
    """32 bytes that are equal for equal files of one base, and tell nobody without its key what the file is."""
    return digest_of_hash(base, hashlib.sha256(content).digest())


def digest_of_hash(base: Base, sha256: bytes) -> bytes:
    """As `digest_of`, of a file whose SHA-256 is known."""
    key = index_key(base.tenant_id, base.pk)
    return hmac.new(key, b"file" + sha256, hashlib.sha256).digest()


def index_key(tenant_id: UUID, base_id: UUID) -> bytes:
    """The 32 bytes under which words of the base become terms of its index; its sealed name has made the key."""
    return envelope.index_key(tenant_id, purpose_of(base_id), day_of(base_id))
