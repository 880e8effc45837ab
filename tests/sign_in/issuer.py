"""A real OpenID Connect provider in a process of its own, and a browser's way through it."""

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx
from django.test import Client

from console.supervisor.ports import free_port

START_S = 20

# Its users by what they are for: the "sub" of each.
USERS: dict[str, dict[str, Any]] = {
    "member": {"email": "member@acme-bank.example", "email_verified": True, "name": "A Member"},
    "reviewer": {"email": "reviewer@acme-bank.example", "email_verified": True},
    "new": {"email": "New.Person@acme-bank.example", "email_verified": True, "name": "New Person"},
    "unverified": {"email": "curator@acme-bank.example", "email_verified": False},
    "text verified": {"email": "curator@acme-bank.example", "email_verified": "true"},
    "foreign domain": {"email": "member@north-fund.example", "email_verified": True},
    "look-alike domain": {"email": "x@acme-bank.example.evil.example", "email_verified": True},
    "outsider": {"email": "outsider@acme-bank.example", "email_verified": True},
    "platform": {"email": "platform@acme-bank.example", "email_verified": True},
    "nameless": {"email_verified": True},
}


@dataclass(frozen=True)
class Issuer:
    """`url` is what it calls itself."""

    url: str

    def authorize(self, location: str, user: str) -> str:
        """Sign in as the user at the address that we sent the browser to; where it is sent back to."""
        answer = httpx.post(location, data={"sub": user})
        assert answer.status_code == 302, answer.text
        return answer.headers["Location"]

    def sign_in(self, browser: Client, user: str, start: str = "/signin/sso/acme-bank/login/") -> Any:
        """The whole way; our answer to the callback."""
        sent = browser.get(start)
        assert sent.status_code == 302, sent.text
        return browser.get(path_of(self.authorize(sent.headers["Location"], user)))


def path_of(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.path}?{parts.query}"


def start() -> tuple[subprocess.Popen[bytes], Issuer]:
    port = free_port()
    users = [
        argument
        for sub, claims in USERS.items()
        for argument in ("--user-claims", json.dumps({"sub": sub, **claims}))
    ]
    command = [sys.executable, "-m", "oidc_provider_mock", "--port", str(port), "--require-nonce", "true"]
    process = subprocess.Popen([*command, *users], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    issuer = Issuer(f"http://127.0.0.1:{port}")
    deadline = time.monotonic() + START_S
    while True:
        try:
            httpx.get(f"{issuer.url}/.well-known/openid-configuration").raise_for_status()
            return process, issuer
        except httpx.HTTPError:
            if time.monotonic() > deadline or process.poll() is not None:
                process.kill()
                raise
            time.sleep(0.1)
