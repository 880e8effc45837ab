"""Data keys: one a tenant, purpose and UTC day. Destroying it destroys that day's content of that purpose.

A data key is random, wrapped by a key that is derived from the tenant's key and the day's shard together. Keys of before
there were shards are wrapped by the tenant's key alone.
"""

import os
import time
from collections import OrderedDict
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from threading import Lock, local
from uuid import UUID

from django.db import connection, transaction

from tenants.keyring import ciphers, shards, tenant_keys
from tenants.keyring.errors import KeyDestroyed, Tampered
from tenants.models import DataKey, DestroyedKey
from tenants.scope import tenant_scope

# A destroyed key must stop working everywhere soon: no process keeps one longer than this. One with a shard stops at
# once, wherever that folder is seen.
CACHE_SECONDS = 60.0
CACHE_SIZE = 2048

Place = tuple[UUID, str, date]


@dataclass(frozen=True, slots=True)
class _Remembered:
    key: bytes
    expires: float
    shard: Path | None


class _Cache:
    """Recently used data keys, for at most CACHE_SECONDS and no longer than their shards exist."""

    def __init__(self) -> None:
        self._keys: OrderedDict[Place, _Remembered] = OrderedDict()
        self._lock = Lock()

    def get(self, place: Place) -> bytes | None:
        with self._lock:
            found = self._keys.get(place)
        if found is None or found.expires <= time.monotonic():
            return None
        if found.shard is not None and not shards.exists(found.shard):
            self.forget(place)
            return None
        return found.key

    def put(self, place: Place, key: bytes, shard: Path | None) -> None:
        with self._lock:
            self._keys[place] = _Remembered(key, time.monotonic() + CACHE_SECONDS, shard)
            self._keys.move_to_end(place)
            while len(self._keys) > CACHE_SIZE:
                self._keys.popitem(last=False)

    def forget(self, place: Place) -> None:
        with self._lock:
            self._keys.pop(place, None)

    def clear(self) -> None:
        with self._lock:
            self._keys.clear()


cache = _Cache()


class _Uncommitted(local):
    """Data keys that this thread's transaction made. A failed one leaves them here, which only keeps them uncached."""

    def __init__(self) -> None:
        self.places: set[Place] = set()

    def commit(self, place: Place, key: bytes, shard: Path | None) -> None:
        self.places.discard(place)
        cache.put(place, key, shard)


_uncommitted = _Uncommitted()


def data_key(tenant_id: UUID, purpose: str, day: date, *, create: bool) -> bytes:
    """The key, made on first use with `create`. Inside the tenant's scope.

    Raises KeyDestroyed, KeysUnavailable, and Tampered when the row was altered.
    """
    place = (tenant_id, purpose, day)
    if cached := cache.get(place):
        return cached
    found = rows(place)
    if not found:
        if not create:
            raise KeyDestroyed(f"the {purpose} key of {day} is gone")
        _uncommitted.places.add(place)
        found = _made(place)
    key, shard = unwrapped(place, found)
    if place in _uncommitted.places:
        # A key made in a transaction that fails must not be used again: remember it only once it is committed.
        transaction.on_commit(partial(_uncommitted.commit, place, key, shard))
    else:
        cache.put(place, key, shard)
    return key


def destroy(tenant_id: UUID, purpose: str, day: date, *, reason: str) -> None:
    """Destroy the day's key: its rows as part of the open transaction, its shard once that is committed.

    The database refuses today, days to come and purposes that are no audit's. A second call mends what a crash left
    behind. reason: one of DestroyedKey.Reason. Inside the tenant's scope.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT tenants_destroy_key(%s, %s, %s)", [purpose, day, DestroyedKey.Reason(reason)])
    place = (tenant_id, purpose, day)
    cache.forget(place)
    transaction.on_commit(partial(_remove_shard, place))


def sweep(tenant_id: UUID) -> int:
    """Remove shards that a crash left beside keys that are destroyed; how many. Opens the tenant's scope."""
    with tenant_scope(tenant_id):
        gone = set(DestroyedKey.objects.values_list("purpose", "day"))
    left = [place for place in shards.places(tenant_id) if place in gone]
    return sum(shards.remove(tenant_id, purpose, day) for purpose, day in left)


def rows(place: Place) -> list[DataKey]:
    """The key in every form it has, the newest first. Inside the tenant's scope."""
    return list(DataKey.objects.filter(purpose=place[1], day=place[2]).order_by("-version"))


def lock(place: Place) -> None:
    """Until the end of the transaction nobody else makes, wraps or destroys this key.

    So a key that is being wrapped anew is not destroyed meanwhile and then comes back.
    """
    tenant_id, purpose, day = place
    tenant_keys.hold(tenant_id)
    with connection.cursor() as cursor:
        cursor.execute("SELECT tenants_lock_key(%s, %s, %s)", [tenant_id, purpose, day])


def add_version(place: Place, key: bytes, *, version: int, generation: int, tenant_key: bytes) -> None:
    """Store the key as the tenant's key of that generation wraps it, with its shard; one of before gets a shard now.

    Where another process was first, that one's counts.
    """
    tenant_id, purpose, day = place
    # On the disk before the row can be committed. One that is left over from a crash serves as well.
    shard = shards.make(*place)
    wrapped = ciphers.encrypt(ciphers.joined(tenant_key, shard), key, _aad(place), form=ciphers.OF_SHARD)
    fresh = DataKey(
        tenant_id=tenant_id, purpose=purpose, day=day, version=version, generation=generation, wrapped=wrapped
    )
    DataKey.objects.bulk_create([fresh], ignore_conflicts=True)


def needs_shard(row: DataKey) -> bool:
    return bytes(row.wrapped)[:1] == ciphers.OF_SHARD


def _remove_shard(place: Place) -> None:
    cache.forget(place)
    shards.remove(*place)


def _made(place: Place) -> list[DataKey]:
    tenant_id, purpose, day = place
    lock(place)
    if found := rows(place):
        return found
    if DestroyedKey.objects.filter(purpose=purpose, day=day).exists():
        raise KeyDestroyed(f"the {purpose} key of {day} was destroyed; no other takes its place")
    generation, tenant_key = tenant_keys.current(tenant_id)
    # Another process may make the same key at this moment: the first to commit wins and both read that one.
    add_version(place, os.urandom(ciphers.KEY_BYTES), version=1, generation=generation, tenant_key=tenant_key)
    return rows(place)


def unwrapped(place: Place, found: list[DataKey]) -> tuple[bytes, Path | None]:
    """(key, path of its shard) from the newest row that opens.

    Rows are only ever added: one that was smuggled in opens under no key of ours, and the one before it still counts.
    """
    altered: Tampered | None = None
    for row in found:
        try:
            return open_row(place, row)
        except Tampered as error:
            altered = altered or error
    raise altered or KeyDestroyed("the data key is gone")


def open_row(place: Place, row: DataKey) -> tuple[bytes, Path | None]:
    """(key, path of its shard) of one row. Raises Tampered, KeyDestroyed, KeysUnavailable."""
    wrapped = bytes(row.wrapped)
    if not needs_shard(row):
        tenant_key = tenant_keys.of_generation(place[0], row.generation)
        return ciphers.decrypt(tenant_key, wrapped, _aad(place)), None
    shard = shards.read(*place)
    if shard is None:
        raise KeyDestroyed(f"the shard of the {place[1]} key of {place[2]} is gone")
    tenant_key = tenant_keys.of_generation(place[0], row.generation)
    key = ciphers.decrypt(ciphers.joined(tenant_key, shard), wrapped, _aad(place), form=ciphers.OF_SHARD)
    return key, shards.path_of(*place)


def _aad(place: Place) -> bytes:
    tenant_id, purpose, day = place
    return f"data-key:{tenant_id}:{purpose}:{day.isoformat()}".encode()
