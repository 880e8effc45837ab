"""New master keys, new tenants' keys, another provider: what was wrapped is wrapped anew, while everything is in use.

Nothing is ever changed in place: rows are added, the newest that opens counts, and both old and new open until somebody
who owns the database retires the old ones (`tenants.keyring.retirement`). So reading never waits and never fails for it,
and a rotation that was cut off goes on where it was: what is still to do is seen from the rows alone.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from uuid import UUID

from django.db.models import Max

from tenants.actors import Actor
from tenants.changes import changing, record_change
from tenants.keyring import data_keys, providers, shards, tenant_keys
from tenants.keyring.ciphers import KEY_BYTES
from tenants.keyring.data_keys import Place
from tenants.keyring.errors import KeyDestroyed, KeysUnavailable, Tampered
from tenants.models import DataKey, Tenant, TenantKey
from tenants.scope import tenant_scope

# Data keys wrapped in one transaction, in which nothing else of the tenant is changed.
BATCH = 50


@dataclass(frozen=True, slots=True)
class Pending:
    """What of a tenant is still to be wrapped anew.

    wrappings: its own keys that are not wrapped by the present provider under its present master key.
    data_keys: data keys below an older key of the tenant than the newest. is_elsewhere: another provider has some.
    """

    wrappings: int
    data_keys: int
    is_elsewhere: bool


def pending(tenant_id: UUID, *, key_id: str) -> Pending:
    """What is left to do for the tenant; key_id: of the present provider. Opens the tenant's scope."""
    with tenant_scope(tenant_id):
        # By what the rows say: to open them all would ask a provider elsewhere for every tenant, again and again.
        newest = {row.generation: row for row in reversed(tenant_keys.rows())}.values()
        old = [row for row in newest if not _is_current(row, key_id) and _opens(row)]
        name = providers.provider().name
        return Pending(
            wrappings=len(old),
            data_keys=len(_old_data_keys(max((row.generation for row in newest), default=0))),
            is_elsewhere=any(row.provider != name for row in old),
        )


def rewrap_tenant(actor: Actor) -> int:
    """Wrap the tenant's own keys anew by the present provider, under its master key of now; how many it were.

    Raises KeysUnavailable, and Tampered where what comes back is not the same key.
    """
    key_id = providers.provider().key_id()
    with changing(actor.tenant_id):
        old = [row for row in _newest_wrappings() if not _is_current(row, key_id)]
        for row in old:
            _rewrap(row)
        if old:
            record_change(
                actor,
                "keys.rewrapped",
                subject_id=actor.tenant_id,
                before={"provider": old[0].provider, "key": old[0].provider_key},
                after={"provider": providers.provider().name, "key": key_id},
            )
    return len(old)


def rotate_tenant(actor: Actor) -> int:
    """Give the tenant a new key, which wraps data keys from now on; its generation. `rewrap_data_keys` does the rest."""
    with changing(actor.tenant_id):
        generation, _key = tenant_keys.current(actor.tenant_id)
        newest = max(row.generation for row in tenant_keys.rows())
        tenant_keys.add(actor.tenant_id, os.urandom(KEY_BYTES), generation=newest + 1, wrapping=1)
        record_change(
            actor,
            "keys.rotated",
            subject_id=actor.tenant_id,
            before={"generation": generation},
            after={"generation": newest + 1},
        )
    return newest + 1


def rewrap_data_keys(tenant_id: UUID) -> Iterator[tuple[int, int]]:
    """Wrap the tenant's data keys under its newest key; after each batch (done, of how many)."""
    with tenant_scope(tenant_id):
        if not tenant_keys.rows().exists():
            return
        generation, _key = tenant_keys.current(tenant_id)
        left = _old_data_keys(generation)
    for start in range(0, len(left), BATCH):
        # `changing`: two that do the same do not do it twice.
        with changing(tenant_id):
            tenant_keys.hold(tenant_id)
            generation, tenant_key = tenant_keys.current(tenant_id)
            for purpose, day in left[start : start + BATCH]:
                _rewrap_data_key((tenant_id, purpose, day), generation, tenant_key)
        yield min(start + BATCH, len(left)), len(left)


def finish_master() -> bool:
    """End a rotation of the master key when no tenant's key is left to wrap; whether nothing is left."""
    keys = providers.provider()
    key_id = keys.key_id()
    if any(pending(tenant.pk, key_id=key_id).wrappings for tenant in tenants()):
        return False
    keys.finish_rotation()
    return True


def go_on(actor: Actor, *, moves: bool) -> None:
    """Do what is pending for the tenant. moves: also what another provider than the present one has wrapped."""
    key_id = providers.provider().key_id()
    found = pending(actor.tenant_id, key_id=key_id)
    if found.wrappings and (moves or not found.is_elsewhere):
        rewrap_tenant(actor)
    if found.data_keys:
        for _progress in rewrap_data_keys(actor.tenant_id):
            pass


def tenants() -> list[Tenant]:
    """Those whose keys are there still."""
    return list(Tenant.objects.exclude(status=Tenant.Status.DELETED).order_by("slug"))


def _newest_wrappings() -> list[TenantKey]:
    """The newest row of each generation of the tenant in scope that opens; none of one that nothing opens of."""
    found: dict[int, list[TenantKey]] = {}
    for row in tenant_keys.rows():
        found.setdefault(row.generation, []).append(row)
    opening = (next((row for row in rows if _opens(row)), None) for rows in found.values())
    return [row for row in opening if row is not None]


def _opens(row: TenantKey) -> bool:
    try:
        tenant_keys.cache.unwrapped(row)
    except Tampered:
        return False
    except KeysUnavailable:
        return True  # Not known to be none of ours.
    return True


def _is_current(row: TenantKey, key_id: str) -> bool:
    return (row.provider, row.provider_key) == (providers.provider().name, key_id)


def _rewrap(row: TenantKey) -> None:
    """Add a row with the same key, wrapped anew and opened once to see that it is the same."""
    new, old = providers.provider(), providers.named(row.provider)
    key = old.unwrap(row.tenant_id, bytes(row.wrapped))
    key_id = new.key_id()
    if new.name == old.name:
        wrapped = new.rewrap(row.tenant_id, bytes(row.wrapped))
    else:
        wrapped = new.wrap(row.tenant_id, key)
    if new.unwrap(row.tenant_id, wrapped) != key:
        raise Tampered("the provider gives back another key than it was given")
    last = TenantKey.objects.filter(generation=row.generation).order_by("-wrapping")[0]
    TenantKey.objects.create(
        tenant_id=row.tenant_id,
        generation=row.generation,
        wrapping=last.wrapping + 1,
        provider=new.name,
        provider_key=key_id,
        wrapped=wrapped,
    )


def _old_data_keys(generation: int) -> list[tuple[str, date]]:
    """(purpose, day) of those that lie below an older key of the tenant in scope.

    Not of those whose shard is gone: they open no more, so nothing is left to wrap.
    """
    newest = DataKey.objects.values("purpose", "day").annotate(newest=Max("generation"))
    old = newest.filter(newest__lt=generation).order_by("purpose", "day")
    return [(each["purpose"], each["day"]) for each in old if not _is_gone(each["purpose"], each["day"])]


def _is_gone(purpose: str, day: date) -> bool:
    row = DataKey.objects.filter(purpose=purpose, day=day).order_by("-version").first()
    return row is None or (data_keys.needs_shard(row) and shards.read(row.tenant_id, purpose, day) is None)


def _rewrap_data_key(place: Place, generation: int, tenant_key: bytes) -> None:
    data_keys.lock(place)
    rows = data_keys.rows(place)
    if not rows or rows[0].generation >= generation:
        return
    try:
        key, _shard = data_keys.unwrapped(place, rows)
    except KeyDestroyed:
        return
    data_keys.add_version(
        place, key, version=rows[0].version + 1, generation=generation, tenant_key=tenant_key
    )
