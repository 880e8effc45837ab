"""Envelope encryption: a master key wraps a tenant's key, which wraps a data key per purpose and UTC day.

Content is AES-256-GCM with a random 96-bit nonce (NIST SP 800-38D); the associated data binds a ciphertext to the row
and field it belongs to, so that one moved elsewhere does not open. Destroying a day's data key destroys that day's
content. The key provider is the seam for a KMS or Vault.
"""

import base64
import json
import os
import time
from collections import OrderedDict
from collections.abc import Mapping
from datetime import date
from threading import Lock, local
from typing import Protocol
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from django.conf import settings
from django.db import transaction

from tenants.models import DataKey, Tenant, TenantKey
from tenants.scope import tenant_scope

FORMAT = b"\x01"
NONCE_BYTES = 12
KEY_BYTES = 32

# A destroyed key must stop working everywhere soon: no process keeps one longer than this.
CACHE_SECONDS = 60.0
CACHE_SIZE = 2048


class Tampered(Exception):
    """A ciphertext does not belong where it was found, or was altered."""


class KeyDestroyed(Exception):
    """The key of this content is gone, as under retention; the content cannot be read any more."""


class KeyProvider(Protocol):
    """Wraps and unwraps tenants' keys with a key that the database never holds."""

    name: str

    def wrap(self, tenant_id: UUID, key: bytes) -> bytes: ...

    def unwrap(self, tenant_id: UUID, wrapped: bytes) -> bytes: ...


class LocalFileProvider:
    """The master key in a file of mode 0600 (settings.MASTER_KEY, base64 of 32 bytes)."""

    name = "local"

    def __init__(self, master_key: str) -> None:
        self._key = base64.b64decode(master_key)
        if len(self._key) != KEY_BYTES:
            raise ValueError("the master key must be 32 bytes in base64")

    def wrap(self, tenant_id: UUID, key: bytes) -> bytes:
        return _encrypt(self._key, key, f"tenant-key:{tenant_id}".encode())

    def unwrap(self, tenant_id: UUID, wrapped: bytes) -> bytes:
        return _decrypt(self._key, wrapped, f"tenant-key:{tenant_id}".encode())


def provider() -> KeyProvider:
    """The configured key provider."""
    return LocalFileProvider(settings.MASTER_KEY)


def tenant_of_another_key() -> str:
    """The slug of a tenant whose key the key provider does not open, as with another master key; "" for none."""
    for tenant in Tenant.objects.order_by("slug"):
        with tenant_scope(tenant.pk):
            row = TenantKey.objects.first()
        try:
            if row is not None:
                provider().unwrap(tenant.pk, bytes(row.wrapped))
        except Tampered:
            return tenant.slug
    return ""


def seal(*, tenant_id: UUID, purpose: str, day: date, plaintext: bytes, aad: Mapping[str, object]) -> bytes:
    """Encrypt under the tenant's data key of the purpose and day, made on first use. Call inside the tenant's scope."""
    return _encrypt(
        _data_key(tenant_id, purpose, day, create=True), plaintext, _bind(tenant_id, purpose, aad)
    )


def open_sealed(
    *, tenant_id: UUID, purpose: str, day: date, sealed: bytes, aad: Mapping[str, object]
) -> bytes:
    """Decrypt what `seal` made with the same arguments. Call inside the tenant's scope.

    Raises Tampered when bytes or associated data differ, KeyDestroyed when the key is gone.
    """
    return _decrypt(
        _data_key(tenant_id, purpose, day, create=False), bytes(sealed), _bind(tenant_id, purpose, aad)
    )


def _bind(tenant_id: UUID, purpose: str, aad: Mapping[str, object]) -> bytes:
    bound = {
        "tenant": str(tenant_id),
        "purpose": purpose,
        **{name: str(value) for name, value in aad.items()},
    }
    return json.dumps(bound, sort_keys=True, separators=(",", ":")).encode()


def _encrypt(key: bytes, plaintext: bytes, aad: bytes) -> bytes:
    nonce = os.urandom(NONCE_BYTES)
    return FORMAT + nonce + AESGCM(key).encrypt(nonce, plaintext, aad)


def _decrypt(key: bytes, sealed: bytes, aad: bytes) -> bytes:
    if sealed[:1] != FORMAT:
        raise Tampered("unknown format of ciphertext")
    nonce, ciphertext = sealed[1 : 1 + NONCE_BYTES], sealed[1 + NONCE_BYTES :]
    try:
        return AESGCM(key).decrypt(nonce, ciphertext, aad)
    except (InvalidTag, ValueError) as error:
        raise Tampered("the ciphertext does not belong here or was altered") from error


class _Cache:
    """Recently used data keys, for at most CACHE_SECONDS."""

    def __init__(self) -> None:
        self._keys: OrderedDict[tuple[UUID, str, date], tuple[float, bytes]] = OrderedDict()
        self._lock = Lock()

    def get(self, place: tuple[UUID, str, date]) -> bytes | None:
        with self._lock:
            expires, key = self._keys.get(place, (0.0, b""))
            return key if expires > time.monotonic() else None

    def put(self, place: tuple[UUID, str, date], key: bytes) -> None:
        with self._lock:
            self._keys[place] = (time.monotonic() + CACHE_SECONDS, key)
            self._keys.move_to_end(place)
            while len(self._keys) > CACHE_SIZE:
                self._keys.popitem(last=False)

    def clear(self) -> None:
        with self._lock:
            self._keys.clear()


cache = _Cache()


class _Uncommitted(local):
    """Data keys that this thread's transaction made. A failed one leaves them here, which only keeps them uncached."""

    def __init__(self) -> None:
        self.places: set[tuple[UUID, str, date]] = set()

    def commit(self, place: tuple[UUID, str, date], key: bytes) -> None:
        self.places.discard(place)
        cache.put(place, key)


_uncommitted = _Uncommitted()


def _data_key(tenant_id: UUID, purpose: str, day: date, *, create: bool) -> bytes:
    place = (tenant_id, purpose, day)
    if cached := cache.get(place):
        return cached
    row = DataKey.objects.filter(purpose=purpose, day=day).first()
    if row is None:
        if not create:
            raise KeyDestroyed(f"the {purpose} key of {day} is gone")
        _uncommitted.places.add(place)
        row = _new_data_key(tenant_id, purpose, day)
    key = _decrypt(
        _tenant_key(tenant_id, create=create), bytes(row.wrapped), _data_key_aad(tenant_id, purpose, day)
    )
    if place in _uncommitted.places:
        # A key made in a transaction that fails must not be used again: remember it only once it is committed.
        transaction.on_commit(lambda: _uncommitted.commit(place, key))
    else:
        cache.put(place, key)
    return key


def _data_key_aad(tenant_id: UUID, purpose: str, day: date) -> bytes:
    return f"data-key:{tenant_id}:{purpose}:{day.isoformat()}".encode()


def _new_data_key(tenant_id: UUID, purpose: str, day: date) -> DataKey:
    tenant_key = _tenant_key(tenant_id, create=True)
    wrapped = _encrypt(tenant_key, os.urandom(KEY_BYTES), _data_key_aad(tenant_id, purpose, day))
    fresh = DataKey(tenant_id=tenant_id, purpose=purpose, day=day, wrapped=wrapped)
    # Another process may make the same key at this moment: the first to commit wins and both read that one.
    DataKey.objects.bulk_create([fresh], ignore_conflicts=True)
    return DataKey.objects.get(purpose=purpose, day=day)


def _tenant_key(tenant_id: UUID, *, create: bool) -> bytes:
    keys = provider()
    row = TenantKey.objects.first()
    if row is None:
        if not create:
            raise KeyDestroyed("the tenant's key is gone")
        wrapped = keys.wrap(tenant_id, os.urandom(KEY_BYTES))
        fresh = TenantKey(tenant_id=tenant_id, provider=keys.name, wrapped=wrapped)
        TenantKey.objects.bulk_create([fresh], ignore_conflicts=True)
        row = TenantKey.objects.get()
    return keys.unwrap(tenant_id, bytes(row.wrapped))
