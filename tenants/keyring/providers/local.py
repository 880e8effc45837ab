"""The master key in a file of mode 0600."""

import base64
from uuid import UUID

from django.conf import settings

from tenants.keyring.ciphers import KEY_BYTES, decrypt, encrypt


class LocalFileProvider:
    """The master key in a file of mode 0600 (settings.MASTER_KEY, base64 of 32 bytes)."""

    name = "local"

    def __init__(self) -> None:
        self._key = base64.b64decode(settings.MASTER_KEY)
        if len(self._key) != KEY_BYTES:
            raise ValueError("the master key must be 32 bytes in base64")

    def wrap(self, tenant_id: UUID, key: bytes) -> bytes:
        return encrypt(self._key, key, f"tenant-key:{tenant_id}".encode())

    def unwrap(self, tenant_id: UUID, wrapped: bytes) -> bytes:
        return decrypt(self._key, wrapped, f"tenant-key:{tenant_id}".encode())
