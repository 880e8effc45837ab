"""Secrets of people rather than of tenants, as the seeds of second factors, sealed under the master key.

AES-256-GCM with a random 96-bit nonce, under a key derived for this one use (HKDF, RFC 5869).
"""

import base64
import os
from functools import cache

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings

NONCE_BYTES = 12
_USE = b"custos second factors"


def seal(text: str) -> str:
    nonce = os.urandom(NONCE_BYTES)
    return base64.b64encode(nonce + _cipher(settings.MASTER_KEY).encrypt(nonce, text.encode(), _USE)).decode()


def open_sealed(sealed: str) -> str:
    """What `seal` was given. Raises cryptography's InvalidTag when it was altered or the master key is another."""
    raw = base64.b64decode(sealed)
    return _cipher(settings.MASTER_KEY).decrypt(raw[:NONCE_BYTES], raw[NONCE_BYTES:], _USE).decode()


@cache
def _cipher(master_key: str) -> AESGCM:
    derived = HKDF(algorithm=SHA256(), length=32, salt=None, info=_USE)
    return AESGCM(derived.derive(base64.b64decode(master_key)))
