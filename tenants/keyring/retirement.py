"""Removes the rows that rotations left behind. Only whoever owns the database can, through `manage.py keys retire`.

The application adds rows and deletes none, so nobody who takes it over can destroy the audit by wrapping keys anew. An
old row goes only after it and the newer one were opened and gave the same key.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from tenants.keyring import data_keys, providers, rotation, tenant_keys
from tenants.keyring.errors import KeyDestroyed, KeysUnavailable, Tampered
from tenants.keyring.providers.local import LocalFileProvider
from tenants.models import DataKey, Tenant, TenantKey
from tenants.scope import tenant_scope


@dataclass(frozen=True, slots=True)
class Retired:
    """How many rows went, and how many stay because they do not open (altered, smuggled in, or a provider is away)."""

    data_keys: int
    tenant_keys: int
    unclear: int


def retire(tenant: Tenant, owner: BaseDatabaseWrapper) -> Retired:
    """Remove what is superseded of the tenant's keys. owner: a connection of the database's owner."""
    with tenant_scope(tenant.pk):
        old_data, unclear_data = _old_data_keys(tenant.pk)
        used = set(DataKey.objects.exclude(pk__in=old_data).values_list("generation", flat=True))
        old_keys, unclear_keys = _old_tenant_keys(used)
    _delete(owner, tenant.pk, DataKey._meta.db_table, old_data)
    _delete(owner, tenant.pk, TenantKey._meta.db_table, old_keys)
    return Retired(len(old_data), len(old_keys), unclear_data + unclear_keys)


def drop_previous_master_key() -> bool:
    """Remove the local master key of before when nothing needs it any more; whether it is gone."""
    keys = providers.provider()
    if not isinstance(keys, LocalFileProvider) or not keys.previous.exists():
        return not isinstance(keys, LocalFileProvider) or not keys.is_rotating
    key_id = keys.key_id()
    if keys.is_rotating or any(
        rotation.pending(tenant.pk, key_id=key_id).wrappings for tenant in rotation.tenants()
    ):
        return False
    keys.drop_previous()
    return True


def _old_data_keys(tenant_id: UUID) -> tuple[list[UUID], int]:
    """(rows that a newer one replaces, rows that open under nothing), of the tenant in scope."""
    old: list[UUID] = []
    unclear = 0
    found: dict[data_keys.Place, list[DataKey]] = {}
    for row in DataKey.objects.order_by("-version"):
        found.setdefault((tenant_id, row.purpose, row.day), []).append(row)
    for place, rows in found.items():
        key: bytes | None = None
        for row in rows if len(rows) > 1 else ():
            try:
                opened, _shard = data_keys.open_row(place, row)
            except (Tampered, KeyDestroyed, KeysUnavailable):
                unclear += 1
                continue
            if key is None:
                key = opened
            elif key == opened:
                old.append(row.pk)
            else:
                unclear += 1
    return old, unclear


def _old_tenant_keys(used: set[int]) -> tuple[list[UUID], int]:
    """As _old_data_keys; used: generations under which data keys lie that stay."""
    old: list[UUID] = []
    unclear = 0
    keys: dict[int, bytes] = {}
    for row in tenant_keys.rows():
        try:
            opened = providers.named(row.provider).unwrap(row.tenant_id, bytes(row.wrapped))
        except (Tampered, KeysUnavailable):
            unclear += 1
            continue
        newest = max(keys, default=row.generation)
        if row.generation not in keys:
            keys[row.generation] = opened
            if row.generation < newest and row.generation not in used:
                old.append(row.pk)
        elif keys[row.generation] == opened:
            old.append(row.pk)
        else:
            unclear += 1
    return old, unclear


def _delete(owner: BaseDatabaseWrapper, tenant_id: UUID, table: str, ids: Sequence[UUID]) -> None:
    if not ids:
        return
    with transaction.atomic(using=owner.alias), owner.cursor() as cursor:
        cursor.execute("SELECT set_config('custos.tenant', %s, true)", [str(tenant_id)])
        cursor.execute(f"DELETE FROM {table} WHERE tenant_id = %s AND id = ANY(%s)", [tenant_id, list(ids)])
