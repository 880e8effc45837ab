"""Tenants' keys: each wraps the data keys of one tenant and is itself wrapped by a key provider.

A provider elsewhere is not asked for every day's key: an unwrapped tenant's key is remembered for a minute, and for ten
minutes when the provider does not answer meanwhile, so that a short failure stops nobody. After that nothing is sealed or
opened until it answers. The row is always looked at: a tenant's key that is destroyed opens nothing more.
"""

import os
import time
from dataclasses import dataclass
from threading import Lock
from uuid import UUID

from django.db import connection
from django.db.models import QuerySet

from tenants.keyring import providers
from tenants.keyring.ciphers import KEY_BYTES
from tenants.keyring.errors import KeyDestroyed, KeysUnavailable, Tampered
from tenants.models import TenantKey

FRESH_SECONDS = 60.0
STALE_SECONDS = 600.0
# After a failure the provider is not asked again for so long, where there is still a key to go on with.
PAUSE_SECONDS = 5.0
CACHE_SIZE = 1024


@dataclass(slots=True)
class _Remembered:
    key: bytes
    asked: float
    failed: float = float("-inf")


class _Cache:
    """Unwrapped tenants' keys, by tenant and wrapped form."""

    def __init__(self) -> None:
        self._keys: dict[tuple[UUID, bytes], _Remembered] = {}
        self._lock = Lock()

    def unwrapped(self, row: TenantKey) -> bytes:
        place, now = (row.tenant_id, bytes(row.wrapped)), time.monotonic()
        with self._lock:
            found = self._keys.get(place)
        if found and (now < found.asked + FRESH_SECONDS or now < found.failed + PAUSE_SECONDS):
            return found.key
        try:
            key = providers.named(row.provider).unwrap(*place)
        except KeysUnavailable:
            if found is None or now >= found.asked + STALE_SECONDS:
                self._forget(place)
                raise
            found.failed = time.monotonic()
            return found.key
        with self._lock:
            self._keys[place] = _Remembered(key, time.monotonic())
            while len(self._keys) > CACHE_SIZE:
                del self._keys[next(iter(self._keys))]
        return key

    def clear(self) -> None:
        with self._lock:
            self._keys.clear()

    def _forget(self, place: tuple[UUID, bytes]) -> None:
        with self._lock:
            self._keys.pop(place, None)


cache = _Cache()


def current(tenant_id: UUID) -> tuple[int, bytes]:
    """(generation, key) of the tenant's newest key, made if there is none. Inside the tenant's scope."""
    found = list(rows())
    if not found:
        add(tenant_id, os.urandom(KEY_BYTES), generation=1, wrapping=1)
        found = list(rows())
    altered: Tampered | None = None
    for generation in sorted({row.generation for row in found}, reverse=True):
        try:
            return generation, _opened(found, generation)
        except Tampered as error:
            altered = altered or error
    raise altered or KeyDestroyed("the tenant's key is gone")


def of_generation(tenant_id: UUID, generation: int) -> bytes:
    """The tenant's key of that generation. Raises KeyDestroyed. Inside the tenant's scope."""
    return _opened(list(rows()), generation)


def rows() -> QuerySet[TenantKey]:
    """The tenant's keys in every form they have, the newest first. Inside the tenant's scope."""
    return TenantKey.objects.order_by("-generation", "-wrapping")


def hold(tenant_id: UUID, *, alone: bool = False) -> None:
    """Until the end of the transaction no key of the tenant is retired. Call before a data key is wrapped by `current`.

    alone: wait for all who hold them so, and keep others from it: to retire. Else a data key could be committed under a
    key that has just gone.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT pg_advisory_xact_lock{'' if alone else '_shared'}(hashtextextended('tenant key ' || %s, 0))",
            [str(tenant_id)],
        )


def add(tenant_id: UUID, key: bytes, *, generation: int, wrapping: int) -> None:
    """Store the key as the configured provider wraps it; where another process was first, that one's counts."""
    keys = providers.provider()
    fresh = TenantKey(
        tenant_id=tenant_id,
        generation=generation,
        wrapping=wrapping,
        provider=keys.name,
        # Asked first: when the master key is rotated at this moment, the row is found to be old and wrapped once more.
        provider_key=keys.key_id(),
        wrapped=keys.wrap(tenant_id, key),
    )
    TenantKey.objects.bulk_create([fresh], ignore_conflicts=True)


def _opened(found: list[TenantKey], generation: int) -> bytes:
    """The key of a generation, from its newest row that opens: one that was smuggled in opens under no master key."""
    altered: Tampered | None = None
    for row in found:
        if row.generation == generation:
            try:
                return cache.unwrapped(row)
            except Tampered as error:
                altered = altered or error
    raise altered or KeyDestroyed("the tenant's key is gone")
