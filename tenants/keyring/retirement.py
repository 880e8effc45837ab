"""Removes the rows that rotations left behind. Only whoever owns the database can, through `manage.py keys retire`.

The application adds rows and deletes none, so nobody who takes it over can destroy the audit by wrapping keys anew. An
old row goes only after it and the newer one were opened and gave the same key; one that opens under nothing, only where
another opens in its place.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from tenants.keyring import data_keys, providers, rotation, tenant_keys
from tenants.keyring.errors import KeyDestroyed, KeysUnavailable, Tampered
from tenants.keyring.providers.local import LocalFileProvider
from tenants.models import DataKey, Tenant, TenantKey
from tenants.scope import tenant_scope


@dataclass(frozen=True, slots=True)
class Retired:
    """How many rows went, and how many stay though they do not open: a provider is away, a shard is gone, or nothing else
    opens in their place."""

    data_keys: int
    tenant_keys: int
    unclear: int


def retire(tenant: Tenant, owner: BaseDatabaseWrapper) -> Retired:
    """Remove what is superseded of the tenant's keys. owner: a connection of the database's owner."""
    with tenant_scope(tenant.pk):
        tenant_keys.hold(tenant.pk, alone=True)
        old_data, unclear_data = _old_data_keys(tenant.pk)
        used = set(DataKey.objects.exclude(pk__in=old_data).values_list("generation", flat=True))
        old_keys, unclear_keys = _old_tenant_keys(used)
        # Over the owner's own connection, while ours holds the lock.
        _delete(owner, tenant.pk, DataKey._meta.db_table, old_data)
        _delete(owner, tenant.pk, TenantKey._meta.db_table, old_keys)
    return Retired(len(old_data), len(old_keys), unclear_data + unclear_keys)


def drop_previous_master_key() -> bool:
    """Remove the local master key of before when nothing needs it any more; whether none is left.

    What rows say of themselves does not count: every tenant's key is opened with the master key of now alone.
    """
    keys = LocalFileProvider(settings.MASTER_KEY_FILE)
    if not keys.previous.exists():
        return True
    if keys.is_rotating or not all(_opens_without_previous(tenant, keys) for tenant in rotation.tenants()):
        return False
    keys.drop_previous()
    return True


def _opens_without_previous(tenant: Tenant, keys: LocalFileProvider) -> bool:
    with tenant_scope(tenant.pk):
        rows = [row for row in tenant_keys.rows() if row.provider == keys.name]
    opening = {
        attempt: {row.generation for row in rows if _is_open(partial(attempt, tenant.pk, bytes(row.wrapped)))}
        for attempt in (keys.unwrap, keys.unwrap_by_newest)
    }
    return opening[keys.unwrap] == opening[keys.unwrap_by_newest]


def _is_open(attempt: Callable[[], bytes]) -> bool:
    return isinstance(_opened(attempt), bytes)


def _old_data_keys(tenant_id: UUID) -> tuple[list[UUID], int]:
    """(rows that can go, rows that are unclear), of the tenant in scope."""
    found: dict[data_keys.Place, list[DataKey]] = {}
    for row in DataKey.objects.order_by("-version"):
        found.setdefault((tenant_id, row.purpose, row.day), []).append(row)
    old: list[UUID] = []
    unclear = 0
    for place, rows in found.items():
        if len(rows) > 1:
            opened = [(row.pk, _opened(partial(_data_key, place, row))) for row in rows]
            gone, left = _superseded(opened)
            old += gone
            unclear += left
    return old, unclear


def _old_tenant_keys(used: set[int]) -> tuple[list[UUID], int]:
    """As _old_data_keys; used: generations under which data keys lie that stay."""
    found: dict[int, list[TenantKey]] = {}
    for row in tenant_keys.rows():
        found.setdefault(row.generation, []).append(row)
    old: list[UUID] = []
    unclear, newest = 0, 0
    for generation, rows in found.items():
        opened = [(row.pk, _opened(partial(_tenant_key, row))) for row in rows]
        gone, left = _superseded(opened)
        is_open = any(isinstance(key, bytes) for _pk, key in opened)
        newest = max(newest, generation if is_open else 0)
        if is_open and not left and generation < newest and generation not in used:
            gone = [row.pk for row in rows]
        old += gone
        unclear += left
    return old, unclear


class _Altered:
    """In the place of a key: the row opens under nothing, though everything that could open it was there."""


def _data_key(place: data_keys.Place, row: DataKey) -> bytes:
    return data_keys.open_row(place, row)[0]


def _tenant_key(row: TenantKey) -> bytes:
    return providers.named(row.provider).unwrap(row.tenant_id, bytes(row.wrapped))


def _opened(attempt: Callable[[], bytes]) -> bytes | type[_Altered] | None:
    """The key; _Altered; None when it cannot be told now."""
    try:
        return attempt()
    except Tampered:
        return _Altered
    except (KeyDestroyed, KeysUnavailable):
        return None


def _superseded(opened: Sequence[tuple[UUID, bytes | type[_Altered] | None]]) -> tuple[list[UUID], int]:
    """Of rows that stand for one key, the newest first: (those that can go, how many are unclear).

    Once one opens, the older ones with the same key can go, and so can those that open under nothing.
    """
    key = next((each for _pk, each in opened if isinstance(each, bytes)), None)
    if key is None:
        return [], len(opened)
    kept = next(pk for pk, each in opened if each == key)
    gone = [pk for pk, each in opened if pk != kept and (each == key or each is _Altered)]
    return gone, len(opened) - 1 - len(gone)


def _delete(owner: BaseDatabaseWrapper, tenant_id: UUID, table: str, ids: Sequence[UUID]) -> None:
    if not ids:
        return
    with transaction.atomic(using=owner.alias), owner.cursor() as cursor:
        cursor.execute("SELECT set_config('custos.tenant', %s, true)", [str(tenant_id)])
        cursor.execute(f"DELETE FROM {table} WHERE tenant_id = %s AND id = ANY(%s)", [tenant_id, list(ids)])
