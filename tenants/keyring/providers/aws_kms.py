"""A symmetric key of AWS KMS, or of a server that speaks its protocol. The tenant is the encryption context.

So CloudTrail names the tenant of every use, and a policy can be confined to one. Credentials come the way AWS finds them
(environment, profile, role of the machine). Needs kms:Encrypt, Decrypt, ReEncrypt*, DescribeKey, and for rotations
RotateKeyOnDemand and ListKeyRotations.
"""

from collections.abc import Callable
from typing import Any
from uuid import UUID

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from tenants.keyring.errors import KeysUnavailable, Tampered

# A call is tried twice; with these it ends within 8 s.
CONNECT_SECONDS = 1.0
READ_SECONDS = 3.0


class AwsKmsProvider:
    """Wraps under one KMS key, named by its ARN or alias."""

    name = "aws-kms"

    def __init__(self, *, key: str, region: str, endpoint: str = "") -> None:
        self._key = key
        self._client = boto3.client(
            "kms",
            region_name=region,
            endpoint_url=endpoint or None,
            config=Config(
                connect_timeout=CONNECT_SECONDS, read_timeout=READ_SECONDS, retries={"total_max_attempts": 2}
            ),
        )

    def key_id(self) -> str:
        """The ARN, and when its material was last rotated, where we may ask."""
        arn = _asked(self._client.describe_key, KeyId=self._key)["KeyMetadata"]["Arn"]
        try:
            rotations = self._client.list_key_rotations(KeyId=arn)["Rotations"]
        except ClientError:
            return arn
        except BotoCoreError as error:
            raise KeysUnavailable("AWS KMS does not answer") from error
        newest = max((rotation["RotationDate"] for rotation in rotations), default=None)
        return f"{arn} {newest.isoformat()}" if newest else arn

    def wrap(self, tenant_id: UUID, key: bytes) -> bytes:
        return _asked(
            self._client.encrypt, KeyId=self._key, Plaintext=key, EncryptionContext=_context(tenant_id)
        )["CiphertextBlob"]

    def unwrap(self, tenant_id: UUID, wrapped: bytes) -> bytes:
        # The key is named: nothing that somebody wrapped under a key of their own opens here.
        return _asked(
            self._client.decrypt,
            KeyId=self._key,
            CiphertextBlob=wrapped,
            EncryptionContext=_context(tenant_id),
        )["Plaintext"]

    def rewrap(self, tenant_id: UUID, wrapped: bytes) -> bytes:
        context = _context(tenant_id)
        return _asked(
            self._client.re_encrypt,
            CiphertextBlob=wrapped,
            SourceKeyId=self._key,
            SourceEncryptionContext=context,
            DestinationKeyId=self._key,
            DestinationEncryptionContext=context,
        )["CiphertextBlob"]

    def rotate(self) -> None:
        _asked(self._client.rotate_key_on_demand, KeyId=self._key)

    def finish_rotation(self) -> None:
        """KMS keeps the material of before for as long as the key exists."""


def _context(tenant_id: UUID) -> dict[str, str]:
    return {"custos:tenant": str(tenant_id)}


def _asked(call: Callable[..., dict[str, Any]], **arguments: Any) -> dict[str, Any]:
    try:
        return call(**arguments)
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        if code in ("InvalidCiphertextException", "IncorrectKeyException"):
            raise Tampered("AWS KMS did not wrap this key for this tenant") from error
        raise KeysUnavailable(f"AWS KMS refuses: {code}") from error
    except BotoCoreError as error:
        raise KeysUnavailable(f"AWS KMS does not answer: {type(error).__name__}") from error
