"""Terms as keyed hashes: what the index holds of words."""

from uuid import UUID

from audit.search.hashing import KeyedHasher
from knowledge import sealing


class Hasher(KeyedHasher):
    """Hashes terms under a base's key, so that equal words of two bases have nothing in common.

    Inside the tenant's scope. Raises envelope.KeyDestroyed.
    """

    def __init__(self, tenant_id: UUID, base_id: UUID) -> None:
        super().__init__(sealing.index_key(tenant_id, base_id))
