"""AES-256-GCM with a random 96-bit nonce (NIST SP 800-38D), and keys derived from keys by HKDF-SHA256 (RFC 5869).

The first byte of what is sealed says under which key:

    1  the data key itself, or the key above it
    2  the record's own key, derived from the data key
    3  a key derived from the tenant's key and the shard (wrapped data keys alone)
"""

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

from tenants.keyring.errors import Tampered

PLAIN = b"\x01"
OF_RECORD = b"\x02"
OF_SHARD = b"\x03"

NONCE_BYTES = 12
KEY_BYTES = 32


def encrypt(key: bytes, plaintext: bytes, aad: bytes, *, form: bytes = PLAIN) -> bytes:
    """Form, nonce and ciphertext with its tag."""
    nonce = os.urandom(NONCE_BYTES)
    return form + nonce + AESGCM(key).encrypt(nonce, plaintext, aad)


def decrypt(key: bytes, sealed: bytes, aad: bytes, *, form: bytes = PLAIN) -> bytes:
    """What `encrypt` was given. Raises Tampered."""
    if sealed[:1] != form:
        raise Tampered("unknown format of ciphertext")
    nonce, ciphertext = sealed[1 : 1 + NONCE_BYTES], sealed[1 + NONCE_BYTES :]
    try:
        return AESGCM(key).decrypt(nonce, ciphertext, aad)
    except (InvalidTag, ValueError) as error:
        raise Tampered("the ciphertext does not belong here or was altered") from error


def derived(key: bytes, use: str) -> bytes:
    """The key of one use below a random key of 32 bytes, from which that key cannot be found.

    HKDF's second half: the key is uniformly random already, so there is nothing to extract (RFC 5869, 3.3).
    """
    return HKDFExpand(algorithm=SHA256(), length=KEY_BYTES, info=f"custos {use}".encode()).derive(key)


def joined(key: bytes, shard: bytes) -> bytes:
    """The key that needs both."""
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=shard, info=b"custos data key").derive(key)
