"""What people write in a case and what they attach, sealed under the case's own key. Inside the tenant's scope.

The key has the purpose `case:<id>` and the day the case was opened on, and lives as long as the case, whatever becomes
of the days of its records.
"""

import json
from typing import Any
from uuid import UUID

from django.utils.translation import gettext as _

from audit.cases.models import Lost
from tenants import envelope
from tenants.errors import Refused
from tenants.ids import day_of


def purpose_of(case_id: UUID) -> str:
    return f"case:{case_id}"


def seal(value: Any, *, tenant_id: UUID, case_id: UUID, row: UUID, field: str = "sealed") -> bytes:
    """Ciphertext of a value as JSON, for a field of one row."""
    plaintext = json.dumps(value, ensure_ascii=False).encode(errors="surrogatepass")
    return seal_bytes(plaintext, tenant_id=tenant_id, case_id=case_id, row=row, field=field)


def unseal(
    sealed: bytes | memoryview, *, tenant_id: UUID, case_id: UUID, row: UUID, field: str = "sealed"
) -> Any:
    """What `seal` was given. Raises envelope.Tampered or envelope.KeyDestroyed."""
    plaintext = unseal_bytes(sealed, tenant_id=tenant_id, case_id=case_id, row=row, field=field)
    return json.loads(plaintext.decode(errors="surrogatepass"))


def shown(sealed: bytes | memoryview, **place: Any) -> dict[str, Any]:
    """As `unseal`, to be shown: {"lost": why} where it cannot be read, so that all around it can."""
    try:
        found: dict[str, Any] = unseal(sealed, **place)
    except envelope.Tampered:
        return {"lost": Lost.ALTERED}
    except envelope.KeyDestroyed:
        return {"lost": Lost.DESTROYED}
    return found


def seal_bytes(plaintext: bytes, *, tenant_id: UUID, case_id: UUID, row: UUID, field: str) -> bytes:
    """Raises Refused once the case's key is destroyed."""
    try:
        return envelope.seal(
            tenant_id=tenant_id,
            purpose=purpose_of(case_id),
            day=day_of(case_id),
            plaintext=plaintext,
            aad={"row": row, "field": field},
        )
    except envelope.KeyDestroyed as error:
        message = _("The key of this case was destroyed, so nothing can be written into it any more.")
        raise Refused("key_destroyed", message) from error


def unseal_bytes(
    sealed: bytes | memoryview, *, tenant_id: UUID, case_id: UUID, row: UUID, field: str
) -> bytes:
    return envelope.open_sealed(
        tenant_id=tenant_id,
        purpose=purpose_of(case_id),
        day=day_of(case_id),
        sealed=bytes(sealed),
        aad={"row": row, "field": field},
    )
