"""Hints that something of a tenant's administration has changed, for whoever watches what depends on it.

A hint may be lost and says nothing of what changed: it only brings forward a look that is taken anyway.
"""

from collections.abc import Collection
from contextlib import suppress
from uuid import UUID

from tenants import valkey

_REMEMBERED_S = 3600


def changed(tenant_id: UUID) -> None:
    """Call when a change is committed. Never raises."""
    with suppress(*valkey.VALKEY_ERRORS):
        pipe = valkey.sync_client().pipeline(transaction=False)
        pipe.incr(_key(tenant_id))
        pipe.expire(_key(tenant_id), _REMEMBERED_S)
        pipe.execute()


async def counts(tenant_ids: Collection[UUID]) -> dict[UUID, bytes | str | None]:
    """Of each tenant something that differs after a change. Raises valkey.VALKEY_ERRORS."""
    found = await valkey.quick_client().mget([_key(each) for each in tenant_ids])
    return dict(zip(tenant_ids, found, strict=True))


def _key(tenant_id: UUID) -> str:
    return f"custos:{{{tenant_id}}}:changed"
