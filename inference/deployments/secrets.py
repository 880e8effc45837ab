"""Tokens of instances, derived and stored nowhere, and the keys of upstreams, sealed.

Both from one key under var/secrets: HKDF (RFC 5869) for each use, AES-256-GCM with a random nonce and the deployment as
what is authenticated besides, so that a sealed key opens at its own deployment alone.
"""

from __future__ import annotations

import base64
import hmac
import os
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings

NONCE_BYTES = 12


class KeyLost(Exception):
    """The key of an upstream cannot be opened: it was altered, or sealed under another key of this installation."""


def token_of(instance_id: UUID) -> str:
    """What an instance asks for."""
    return hmac.digest(_key(b"custos instances"), instance_id.bytes, "sha256").hex()


def seal(key: str, deployment_id: UUID) -> str:
    """ "" stays what it is: no key."""
    if not key:
        return ""
    nonce = os.urandom(NONCE_BYTES)
    sealed = AESGCM(_key(b"custos upstream keys")).encrypt(nonce, key.encode(), deployment_id.bytes)
    return base64.b64encode(nonce + sealed).decode()


def opened(sealed: str, deployment_id: UUID) -> str:
    """What `seal` was given. Raises KeyLost."""
    if not sealed:
        return ""
    try:
        raw = base64.b64decode(sealed)
        cipher = AESGCM(_key(b"custos upstream keys"))
        return cipher.decrypt(raw[:NONCE_BYTES], raw[NONCE_BYTES:], deployment_id.bytes).decode()
    except (InvalidTag, ValueError):
        raise KeyLost from None


def _key(use: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=use).derive(
        base64.b64decode(settings.DEPLOYMENTS_KEY)
    )
