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
    rows = _rows(purpose, day)
    if not rows:
        if not create:
            raise KeyDestroyed(f"the {purpose} key of {day} is gone")
        _uncommitted.places.add(place)
        rows = _made(place)
    key, shard = _unwrapped(place, rows)
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
    from tenants.scope import tenant_scope

    with tenant_scope(tenant_id):
        gone = set(DestroyedKey.objects.values_list("purpose", "day"))
    left = [place for place in shards.places(tenant_id) if place in gone]
    return sum(shards.remove(tenant_id, purpose, day) for purpose, day in left)


def wrap(place: Place, key: bytes, *, tenant_key: bytes, shard: bytes) -> bytes:
    """The wrapped form of a data key that needs the shard to open."""
    return ciphers.encrypt(ciphers.joined(tenant_key, shard), key, _aad(place), form=ciphers.OF_SHARD)


def _remove_shard(place: Place) -> None:
    cache.forget(place)
    shards.remove(*place)


def _rows(purpose: str, day: date) -> list[DataKey]:
    return list(DataKey.objects.filter(purpose=purpose, day=day).order_by("-version"))


def _made(place: Place) -> list[DataKey]:
    tenant_id, purpose, day = place
    if DestroyedKey.objects.filter(purpose=purpose, day=day).exists():
        raise KeyDestroyed(f"the {purpose} key of {day} was destroyed; no other takes its place")
    generation, tenant_key = tenant_keys.current(tenant_id)
    # The shard is on the disk before the row can be committed. One that is left over from a crash serves as well.
    shard = shards.make(*place)
    wrapped = wrap(place, os.urandom(ciphers.KEY_BYTES), tenant_key=tenant_key, shard=shard)
    fresh = DataKey(tenant_id=tenant_id, purpose=purpose, day=day, generation=generation, wrapped=wrapped)
    # Another process may make the same key at this moment: the first to commit wins and both read that one.
    DataKey.objects.bulk_create([fresh], ignore_conflicts=True)
    return _rows(purpose, day)


def _unwrapped(place: Place, rows: list[DataKey]) -> tuple[bytes, Path | None]:
    """(key, path of its shard) from the newest row that opens.

    Rows are only ever added: one that was smuggled in opens under no key of ours, and the one before it still counts.
    """
    altered: Tampered | None = None
    for row in rows:
        try:
            return open_row(place, row)
        except Tampered as error:
            altered = altered or error
    raise altered or KeyDestroyed("the data key is gone")


def open_row(place: Place, row: DataKey) -> tuple[bytes, Path | None]:
    """(key, path of its shard) of one row. Raises Tampered, KeyDestroyed, KeysUnavailable."""
    wrapped = bytes(row.wrapped)
    if wrapped[:1] != ciphers.OF_SHARD:
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
