"""What people write in a review, sealed: reasons and comments may quote what was asked and name whom it is about.

Words about a record are kept as changes are, and their keys are destroyed with those. What stands until somebody changes
it, as a sampling plan's filters, has a purpose of its own.
"""

import json
from typing import Any
from uuid import UUID

from audit.record import Keeping
from tenants import envelope
from tenants.ids import day_of

WORDS = Keeping.CHANGES
SETTINGS = "review"


def seal(value: Any, *, tenant_id: UUID, row_id: UUID, field: str, purpose: str = WORDS) -> bytes:
    """Ciphertext of a value as JSON, bound to the row and field it is for. Inside the tenant's scope."""
    return envelope.seal(
        tenant_id=tenant_id,
        purpose=purpose,
        day=day_of(row_id),
        plaintext=json.dumps(value, ensure_ascii=False).encode(errors="surrogatepass"),
        aad={"row": row_id, "field": field},
    )


def unseal(
    sealed: bytes | memoryview, *, tenant_id: UUID, row_id: UUID, field: str, purpose: str = WORDS
) -> Any:
    """What `seal` was given; None when its key is gone. Raises envelope.Tampered. Inside the tenant's scope."""
    try:
        plaintext = envelope.open_sealed(
            tenant_id=tenant_id,
            purpose=purpose,
            day=day_of(row_id),
            sealed=bytes(sealed),
            aad={"row": row_id, "field": field},
        )
    except envelope.KeyDestroyed:
        return None
    return json.loads(plaintext.decode(errors="surrogatepass"))
