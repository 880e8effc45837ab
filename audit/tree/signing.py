"""The log's name and key. The key is a file that the database never holds, so that who holds the database signs nothing."""

import base64
from functools import lru_cache
from uuid import UUID

from django.conf import settings

from audit.tree.notes import ED25519, Signer, Verifier


def origin(tenant_id: UUID) -> str:
    """What a tenant's log is called in its heads: the installation's name and the tenant's id."""
    return f"{settings.AUDIT_LOG_NAME}/{tenant_id}"


def signer(tenant_id: UUID) -> Signer:
    """Signs heads of a tenant's log."""
    return Signer(origin(tenant_id), ED25519, _key(settings.AUDIT_LOG_KEY))


def verifier(tenant_id: UUID) -> Verifier:
    """The public half, to hand out."""
    return signer(tenant_id).verifier


@lru_cache(maxsize=4)
def _key(encoded: str) -> bytes:
    key = base64.b64decode(encoded)
    if len(key) != 32:
        raise ValueError("var/secrets/audit_log.key must be 32 bytes in base64: put the original file back")
    return key
