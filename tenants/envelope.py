"""Envelope encryption: a master key wraps a tenant's key, which wraps a data key per purpose and UTC day.

Content is AES-256-GCM; the associated data binds a ciphertext to the row and field it belongs to, so that one moved
elsewhere does not open. What belongs to one record is sealed under that record's own key, derived from the data key, so
that it can be disclosed alone. Destroying a day's data key destroys that day's content. How keys are kept stands in
`tenants.keyring`.
"""

import json
from collections.abc import Mapping
from datetime import date
from uuid import UUID

from tenants.keyring import ciphers, data_keys, tenant_keys
from tenants.keyring.data_keys import CACHE_SECONDS, cache
from tenants.keyring.errors import KeyDestroyed, KeysUnavailable, Tampered
from tenants.keyring.providers import named, provider
from tenants.models import Tenant
from tenants.scope import tenant_scope

__all__ = [
    "CACHE_SECONDS",
    "KeyDestroyed",
    "KeysUnavailable",
    "RecordCipher",
    "Tampered",
    "associated_data",
    "cache",
    "destroy",
    "index_key",
    "open_sealed",
    "provider",
    "record_cipher",
    "record_key",
    "seal",
    "tenant_of_another_key",
]


_canonical = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode


class RecordCipher:
    """Seals and opens the content of one record, whose own key is derived once."""

    __slots__ = ("_day_key", "_key", "_purpose", "_tenant_id")

    def __init__(self, tenant_id: UUID, purpose: str, day_key: bytes, record: UUID) -> None:
        self._tenant_id, self._purpose, self._day_key = tenant_id, purpose, day_key
        self._key = _key_of_record(day_key, record)

    def seal(self, plaintext: bytes, aad: Mapping[str, object]) -> bytes:
        bound = associated_data(self._tenant_id, self._purpose, aad)
        return ciphers.encrypt(self._key, plaintext, bound, form=ciphers.OF_RECORD)

    def open(self, sealed: bytes, aad: Mapping[str, object]) -> bytes:
        """Also what is of before records had keys of their own. Raises Tampered."""
        bound = associated_data(self._tenant_id, self._purpose, aad)
        if sealed[:1] == ciphers.OF_RECORD:
            return ciphers.decrypt(self._key, sealed, bound, form=ciphers.OF_RECORD)
        return ciphers.decrypt(self._day_key, sealed, bound)


def record_cipher(
    tenant_id: UUID, purpose: str, day: date, record: UUID, *, create: bool = False
) -> RecordCipher:
    """The cipher of one record. With `create` the day's key is made on first use.

    Opens the tenant's scope where the key is not at hand, and then has committed it. Raises as `open_sealed`.
    """
    key = cache.get((tenant_id, purpose, day))
    if key is None:
        with tenant_scope(tenant_id):
            key = data_keys.data_key(tenant_id, purpose, day, create=create)
    return RecordCipher(tenant_id, purpose, key, record)


def tenant_of_another_key() -> str:
    """The slug of a tenant whose key the local master key does not open, as with another file; "" for none.

    Providers elsewhere are not asked: one that is away must not keep a process from starting.
    """
    for tenant in Tenant.objects.order_by("slug"):
        with tenant_scope(tenant.pk):
            row = tenant_keys.rows().first()
        try:
            if row is not None and row.provider == "local":
                named(row.provider).unwrap(tenant.pk, bytes(row.wrapped))
        except (Tampered, KeysUnavailable):
            return tenant.slug
    return ""


def seal(
    *,
    tenant_id: UUID,
    purpose: str,
    day: date,
    plaintext: bytes,
    aad: Mapping[str, object],
    record: UUID | None = None,
) -> bytes:
    """Encrypt under the tenant's data key of the purpose and day, made on first use; under that record's key, if named.

    Call inside the tenant's scope.
    """
    key = data_keys.data_key(tenant_id, purpose, day, create=True)
    if record is not None:
        return RecordCipher(tenant_id, purpose, key, record).seal(plaintext, aad)
    return ciphers.encrypt(key, plaintext, associated_data(tenant_id, purpose, aad))


def open_sealed(
    *,
    tenant_id: UUID,
    purpose: str,
    day: date,
    sealed: bytes,
    aad: Mapping[str, object],
    record: UUID | None = None,
) -> bytes:
    """Decrypt what `seal` made with the same arguments; a record's content of before it had a key of its own, too.

    Call inside the tenant's scope. Raises Tampered when bytes or associated data differ, KeyDestroyed when the key is
    gone, KeysUnavailable when it cannot be had now.
    """
    key = data_keys.data_key(tenant_id, purpose, day, create=False)
    if record is not None:
        return RecordCipher(tenant_id, purpose, key, record).open(bytes(sealed), aad)
    return ciphers.decrypt(key, bytes(sealed), associated_data(tenant_id, purpose, aad))


def record_key(tenant_id: UUID, purpose: str, day: date, name: UUID) -> bytes:
    """The 32 bytes that open the content of one record and nothing else. Inside the tenant's scope.

    They open what begins with the byte 2; content of before (1) is sealed under the whole day's key, which is never
    given away. Raises as `open_sealed`.
    """
    return _key_of_record(data_keys.data_key(tenant_id, purpose, day, create=False), name)


def index_key(tenant_id: UUID, purpose: str, day: date) -> bytes:
    """The 32 bytes under which words of that day's content become search tokens. Inside the tenant's scope.

    Gone with the day's content. Raises as `open_sealed`.
    """
    return ciphers.derived(data_keys.data_key(tenant_id, purpose, day, create=False), "index")


def destroy(tenant_id: UUID, purpose: str, day: date, *, reason: str = "retention") -> None:
    """Destroy the day's key for good: its rows with the open transaction, its shard when that is committed.

    Call inside the tenant's scope; again after a crash, which mends what is left. The database refuses today, days to
    come, and purposes other than the audit's. reason: one of DestroyedKey.Reason.
    """
    data_keys.destroy(tenant_id, purpose, day, reason=reason)


def associated_data(tenant_id: UUID, purpose: str, aad: Mapping[str, object]) -> bytes:
    """The bytes to which a ciphertext is bound: JSON with sorted keys and no spaces."""
    bound = {
        "tenant": str(tenant_id),
        "purpose": purpose,
        **{name: str(value) for name, value in aad.items()},
    }
    return _canonical(bound).encode()


def _key_of_record(key: bytes, record: UUID) -> bytes:
    return ciphers.derived(key, f"record {record}")
