"""A server that does what the transit engine of Vault and OpenBao does with a derived key: real AES-256-GCM, versions."""

import base64
import json
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF


class Refused(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


class Vault:
    """One transit key, `custos`. is_sealed: it answers nothing but that; calls: what it was asked."""

    def __init__(self) -> None:
        self.token = base64.urlsafe_b64encode(os.urandom(18)).decode()
        self.versions = [os.urandom(32)]
        self.is_derived = True
        self.is_sealed = False
        self.calls: list[str] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def start(self) -> None:
        Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, method: str, path: str, given: dict[str, str]) -> dict[str, Any]:
        self.calls.append(path)
        if self.is_sealed:
            raise Refused(503, "Vault is sealed")
        match method, path.removeprefix("/v1/transit/").split("/"):
            case "GET", ["keys", "custos"]:
                return {"derived": self.is_derived, "latest_version": len(self.versions), "name": "custos"}
            case "POST", ["keys", "custos", "rotate"]:
                self.versions.append(os.urandom(32))
                return {}
            case "POST", ["encrypt", "custos"]:
                return self._encrypted(base64.b64decode(given["plaintext"]), given)
            case "POST", ["decrypt", "custos"]:
                return {"plaintext": base64.b64encode(self._decrypted(given)).decode()}
            case "POST", ["rewrap", "custos"]:
                return self._encrypted(self._decrypted(given), given)
        raise Refused(404, "")

    def _encrypted(self, plaintext: bytes, given: dict[str, str]) -> dict[str, Any]:
        nonce, version = os.urandom(12), len(self.versions)
        sealed = nonce + self._cipher(version, given).encrypt(nonce, plaintext, None)
        return {
            "ciphertext": f"vault:v{version}:{base64.b64encode(sealed).decode()}",
            "key_version": version,
        }

    def _decrypted(self, given: dict[str, str]) -> bytes:
        _vault, version, text = given["ciphertext"].split(":")
        try:
            sealed = base64.b64decode(text, validate=True)
            return self._cipher(int(version[1:]), given).decrypt(sealed[:12], sealed[12:], None)
        except InvalidTag:
            raise Refused(400, "cipher: message authentication failed") from None
        except ValueError:
            raise Refused(400, "invalid ciphertext: could not decode base64") from None

    def _cipher(self, version: int, given: dict[str, str]) -> AESGCM:
        if not (context := given.get("context")):
            raise Refused(
                400, "missing 'context' for key derivation; the key was created using a derived key"
            )
        derived = HKDF(algorithm=SHA256(), length=32, salt=None, info=base64.b64decode(context))
        return AESGCM(derived.derive(self.versions[version - 1]))

    def _handler(vault) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer({})

            def do_POST(self) -> None:
                self._answer(
                    json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
                )

            def _answer(self, given: dict[str, str]) -> None:
                try:
                    if self.headers.get("X-Vault-Token") != vault.token:
                        raise Refused(403, "permission denied")
                    status, body = 200, {"data": vault.answer(self.command, self.path, given)}
                except Refused as error:
                    status, body = error.status, {"errors": [error.message] if error.message else []}
                content = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_arguments: Any) -> None:
                pass

        return Handler
