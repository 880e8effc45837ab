"""A key of the transit engine of HashiCorp Vault or OpenBao, by its HTTP API. The tenant is the derivation context.

The key is made with `vault write -f transit/keys/<name> derived=true`: then each tenant's keys are wrapped under a key
derived for that tenant. Needs update on encrypt/, decrypt/ and rewrap/<name>, read on keys/<name>, and for rotations
update on keys/<name>/rotate. The token is read from its file before every call, so an agent may renew it there.
"""

import base64
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx

from tenants.keyring.errors import KeysUnavailable, Tampered

# A call is tried twice; with these it ends within 8 s.
CONNECT_SECONDS = 1.0
READ_SECONDS = 3.0

# What transit says of a ciphertext that it did not make for this context.
_NOT_OURS = ("message authentication failed", "invalid ciphertext")


class VaultProvider:
    """Wraps under one transit key; Vault numbers its versions."""

    name = "vault"

    def __init__(
        self,
        *,
        address: str,
        key: str,
        mount: str = "transit",
        namespace: str = "",
        ca_file: str = "",
        token_file: str = "",
        token: str = "",
    ) -> None:
        self._key, self._token_file, self._token = key, token_file, token
        self._client = httpx.Client(
            base_url=f"{address}/v1/{mount.strip('/')}/",
            timeout=httpx.Timeout(READ_SECONDS, connect=CONNECT_SECONDS),
            headers={"X-Vault-Request": "true"} | ({"X-Vault-Namespace": namespace} if namespace else {}),
            verify=ca_file or True,
            trust_env=False,
        )

    def key_id(self) -> str:
        found = self._asked("GET", f"keys/{self._key}")
        if not found.get("derived"):
            raise KeysUnavailable(
                f"the transit key {self._key} is not derived, so one tenant's keys would open for another: "
                "make one with derived=true"
            )
        return f"{self._key} v{found['latest_version']}"

    def wrap(self, tenant_id: UUID, key: bytes) -> bytes:
        given = {"plaintext": base64.b64encode(key).decode(), **_context(tenant_id)}
        return self._asked("POST", f"encrypt/{self._key}", given)["ciphertext"].encode()

    def unwrap(self, tenant_id: UUID, wrapped: bytes) -> bytes:
        given = {"ciphertext": _text(wrapped), **_context(tenant_id)}
        return base64.b64decode(self._asked("POST", f"decrypt/{self._key}", given)["plaintext"])

    def rewrap(self, tenant_id: UUID, wrapped: bytes) -> bytes:
        given = {"ciphertext": _text(wrapped), **_context(tenant_id)}
        return self._asked("POST", f"rewrap/{self._key}", given)["ciphertext"].encode()

    def rotate(self) -> None:
        self._asked("POST", f"keys/{self._key}/rotate", {})

    def finish_rotation(self) -> None:
        """Vault keeps versions from min_decryption_version on, which whoever runs it raises."""

    def _asked(self, method: str, path: str, given: dict[str, str] | None = None) -> dict[str, Any]:
        try:
            answer = self._sent(method, path, given)
        except httpx.HTTPError as error:
            raise KeysUnavailable(f"Vault does not answer: {type(error).__name__}") from error
        if answer.is_success:
            return answer.json().get("data") or {} if answer.content else {}
        errors = _errors(answer)
        if answer.status_code == 400 and any(word in errors for word in _NOT_OURS):
            raise Tampered("Vault did not wrap this key for this tenant")
        raise KeysUnavailable(f"Vault refuses with {answer.status_code}: {errors[:200]}")

    def _sent(self, method: str, path: str, given: dict[str, str] | None) -> httpx.Response:
        headers = {"X-Vault-Token": self._current_token()}
        try:
            return self._client.request(method, path, json=given, headers=headers)
        except httpx.TransportError:
            return self._client.request(method, path, json=given, headers=headers)

    def _current_token(self) -> str:
        if not self._token_file:
            return self._token
        try:
            return Path(self._token_file).read_text().strip()
        except OSError as error:
            raise KeysUnavailable("the file of Vault's token cannot be read") from error


def _context(tenant_id: UUID) -> dict[str, str]:
    return {"context": base64.b64encode(f"custos:{tenant_id}".encode()).decode()}


def _text(wrapped: bytes) -> str:
    try:
        text = wrapped.decode("ascii")
    except UnicodeDecodeError:
        text = ""
    if not text.startswith("vault:v"):
        raise Tampered("this key was not wrapped by Vault")
    return text


def _errors(answer: httpx.Response) -> str:
    try:
        return "; ".join(str(error) for error in answer.json().get("errors", []))
    except ValueError:
        return ""
