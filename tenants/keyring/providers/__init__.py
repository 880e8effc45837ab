"""Key providers: each wraps and unwraps tenants' keys with a master key that the database never holds.

    local.py    the master key in a file of mode 0600; the default
    aws_kms.py  a key of AWS KMS, or of what speaks its protocol
    vault.py    a key of HashiCorp Vault's or OpenBao's transit engine

Which one new keys are wrapped by is settings.KEYS.provider. Each tenant's key says who wrapped it, so another provider
goes on opening what it wrapped for as long as its own settings are there.
"""

import hmac
import os
import time
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol
from uuid import UUID

from django.conf import settings

from tenants.keyring.ciphers import KEY_BYTES
from tenants.keyring.errors import KeysUnavailable, Tampered
from tenants.keyring.providers.local import LocalFileProvider


class KeyProvider(Protocol):
    """Wraps and unwraps tenants' keys with a key that the database never holds.

    Every call ends within a few seconds; each raises KeysUnavailable when the provider is away or refuses.
    """

    name: str

    def key_id(self) -> str:
        """The master key, in its version, under which keys are wrapped now. Differs after a rotation."""

    def wrap(self, tenant_id: UUID, key: bytes) -> bytes: ...

    def unwrap(self, tenant_id: UUID, wrapped: bytes) -> bytes:
        """Raises Tampered for what it did not wrap for this tenant."""

    def rewrap(self, tenant_id: UUID, wrapped: bytes) -> bytes:
        """The same key under the master key of now."""

    def rotate(self) -> None:
        """Begin with a new master key, or version of it. What was wrapped before still opens. Raises Refused."""

    def finish_rotation(self) -> None:
        """All keys are wrapped anew: what was begun is done. Nothing, where there is nothing to do."""


def provider() -> KeyProvider:
    """The one by which keys are wrapped from now on."""
    return named(settings.KEYS.provider)


def named(name: str) -> KeyProvider:
    """The provider of that name, as the settings describe it. Raises KeysUnavailable."""
    if name == "local":
        return LocalFileProvider(settings.MASTER_KEY_FILE)
    return _remote(name, settings.KEYS)


@cache
def _remote(name: str, keys: Any) -> KeyProvider:
    """Kept, with its connections."""
    if name == "aws-kms" and keys.kms_key:
        # Imported where it is chosen: it takes half a second and 30 MB.
        from tenants.keyring.providers.aws_kms import AwsKmsProvider

        return AwsKmsProvider(key=keys.kms_key, region=keys.kms_region, endpoint=keys.kms_endpoint)
    if name == "vault" and keys.vault_key:
        from tenants.keyring.providers.vault import VaultProvider

        return VaultProvider(
            address=keys.vault_address,
            mount=keys.vault_mount,
            key=keys.vault_key,
            namespace=keys.vault_namespace,
            ca_file=keys.vault_ca_file,
            token_file=keys.vault_token_file,
            token=keys.vault_token,
        )
    raise KeysUnavailable(f"the settings of the key provider {name} are missing (docs/operations.md, Keys)")


@dataclass(frozen=True, slots=True)
class Health:
    """How the present provider does. detail: why it does not."""

    name: str
    is_well: bool
    key_id: str = ""
    detail: str = ""
    milliseconds: float = 0.0


def health() -> Health:
    """Wrap and unwrap a key of no tenant. Never raises."""
    keys, probe, nobody, started = provider(), os.urandom(KEY_BYTES), UUID(int=0), time.perf_counter()
    try:
        key_id = keys.key_id()
        same = hmac.compare_digest(keys.unwrap(nobody, keys.wrap(nobody, probe)), probe)
    except (KeysUnavailable, Tampered) as error:
        return Health(keys.name, False, detail=str(error))
    took = round((time.perf_counter() - started) * 1000, 1)
    return Health(keys.name, same, key_id, "" if same else "it gives back another key", took)
