"""Secrets of people rather than of tenants, as the seeds of second factors, sealed under the master key.

AES-256-GCM with a random 96-bit nonce, under a key derived for this one use (HKDF, RFC 5869).
"""

import base64
import os
from functools import cache

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings

from tenants.keyring.providers.local import LocalFileProvider

NONCE_BYTES = 12
_USE = b"custos second factors"


def seal(text: str) -> str:
    nonce = os.urandom(NONCE_BYTES)
    return base64.b64encode(nonce + _cipher(_master_keys()[0]).encrypt(nonce, text.encode(), _USE)).decode()


def open_sealed(sealed: str) -> str:
    """What `seal` was given. Raises cryptography's InvalidTag when it was altered or the master key is another."""
    raw = base64.b64decode(sealed)
    for master_key in _master_keys():
        try:
            return _cipher(master_key).decrypt(raw[:NONCE_BYTES], raw[NONCE_BYTES:], _USE).decode()
        except InvalidTag:
            continue
    raise InvalidTag


def is_current(sealed: str) -> bool:
    """Whether it is sealed under the newest master key. Raises as `open_sealed`."""
    raw = base64.b64decode(sealed)
    try:
        _cipher(_master_keys()[0]).decrypt(raw[:NONCE_BYTES], raw[NONCE_BYTES:], _USE)
    except InvalidTag:
        open_sealed(sealed)
        return False
    return True


def _master_keys() -> list[bytes]:
    """The newest first; there are several while one is rotated."""
    return LocalFileProvider(settings.MASTER_KEY_FILE).keys()


@cache
def _cipher(master_key: bytes) -> AESGCM:
    derived = HKDF(algorithm=SHA256(), length=32, salt=None, info=_USE)
    return AESGCM(derived.derive(master_key))
