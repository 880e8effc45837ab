"""Tenants' keys: each wraps the data keys of one tenant and is itself wrapped by the key provider."""

import os
from uuid import UUID

from tenants.keyring import providers
from tenants.keyring.ciphers import KEY_BYTES
from tenants.keyring.errors import KeyDestroyed
from tenants.models import TenantKey


def current(tenant_id: UUID) -> tuple[int, bytes]:
    """(generation, key) of the tenant's newest key, made if there is none. Inside the tenant's scope."""
    row = _rows().first()
    if row is None:
        keys = providers.provider()
        wrapped = keys.wrap(tenant_id, os.urandom(KEY_BYTES))
        fresh = TenantKey(tenant_id=tenant_id, provider=keys.name, wrapped=wrapped)
        # Another process may make it at this moment: the first to commit wins and both use that one.
        TenantKey.objects.bulk_create([fresh], ignore_conflicts=True)
        row = _rows()[0]
    return row.generation, _unwrapped(row)


def of_generation(tenant_id: UUID, generation: int) -> bytes:
    """The tenant's key of that generation. Raises KeyDestroyed. Inside the tenant's scope."""
    row = _rows().filter(generation=generation).first()
    if row is None:
        raise KeyDestroyed("the tenant's key is gone")
    return _unwrapped(row)


def _rows():  # type: ignore[no-untyped-def]
    return TenantKey.objects.order_by("-generation", "-wrapping")


def _unwrapped(row: TenantKey) -> bytes:
    return providers.provider().unwrap(row.tenant_id, bytes(row.wrapped))
