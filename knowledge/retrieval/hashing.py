"""Terms as keyed hashes: what the index holds of words."""

import hashlib
import hmac
from uuid import UUID

from knowledge import sealing


class Hasher:
    """Hashes terms under a base's key, so that equal words of two bases have nothing in common; remembers them.

    Inside the tenant's scope. Raises envelope.KeyDestroyed.
    """

    def __init__(self, tenant_id: UUID, base_id: UUID) -> None:
        # The two padded blocks of HMAC are the same for every term.
        self._keyed = hmac.new(sealing.index_key(tenant_id, base_id), digestmod=hashlib.sha256)
        self._known: dict[str, int] = {}

    def __call__(self, term: str) -> int:
        """A signed 64-bit number."""
        found = self._known.get(term)
        if found is None:
            mac = self._keyed.copy()
            mac.update(term.encode(errors="surrogatepass"))
            found = self._known[term] = int.from_bytes(mac.digest()[:8], "big", signed=True)
        return found
