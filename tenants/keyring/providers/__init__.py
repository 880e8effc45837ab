"""Key providers: each wraps and unwraps tenants' keys with a master key that the database never holds.

local.py  the master key in a file of mode 0600; the default
"""

from typing import Protocol
from uuid import UUID

from tenants.keyring.providers.local import LocalFileProvider


class KeyProvider(Protocol):
    """Wraps and unwraps tenants' keys with a key that the database never holds."""

    name: str

    def wrap(self, tenant_id: UUID, key: bytes) -> bytes: ...

    def unwrap(self, tenant_id: UUID, wrapped: bytes) -> bytes: ...


def provider() -> KeyProvider:
    """The configured key provider."""
    return LocalFileProvider()
