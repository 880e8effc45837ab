"""ID tokens: a real one is believed, and nothing that differs from it."""

import base64
import json
import secrets
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import jwt
import pytest
from allauth.socialaccount.models import SocialApp
from allauth.socialaccount.providers.oauth2.client import OAuth2Error
from cryptography.hazmat.primitives.asymmetric import rsa
from django.test import RequestFactory

from console.sign_in.openid import TenantOpenIDConnection, TenantOpenIDProvider
from tests.sign_in.issuer import Issuer

NONCE = secrets.token_urlsafe(24)


@pytest.fixture(scope="module")
def token(issuer: Issuer) -> str:
    """What the issuer gives the client "custos" for its member."""
    back = "http://testserver/back"
    asked = {
        "client_id": "custos",
        "response_type": "code",
        "redirect_uri": back,
        "scope": "openid email",
        "nonce": NONCE,
        "state": "s",
    }
    location = str(httpx.URL(f"{issuer.url}/oauth2/authorize", params=asked))
    code = parse_qs(urlsplit(issuer.authorize(location, "member")).query)["code"][0]
    form = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": back,
        "client_id": "custos",
        "client_secret": "x",
    }
    return httpx.post(f"{issuer.url}/oauth2/token", data=form).json()["id_token"]


@pytest.fixture
def connection(issuer: Issuer) -> TenantOpenIDConnection:
    request = RequestFactory().get("/")
    app = SocialApp(
        provider_id="t:p", client_id="custos", settings={"server_url": issuer.url, "place": ["t", "p"]}
    )
    found = TenantOpenIDConnection(request, TenantOpenIDProvider(request, app))
    found.nonce = NONCE
    return found


def forged(token: str, algorithm: str, key: Any, **claims: Any) -> str:
    """The token's claims and others, signed by somebody else."""
    body = jwt.decode(token, options={"verify_signature": False}) | claims
    return jwt.encode(body, key, algorithm=algorithm)


def test_the_issuers_own_is_believed(connection: TenantOpenIDConnection, token: str) -> None:
    claims = connection.verify_id_token(token, "custos")
    assert (claims["sub"], claims["email"]) == ("member", "member@acme-bank.example")


def test_what_differs_is_not(connection: TenantOpenIDConnection, token: str, issuer: Issuer) -> None:
    head, body, signature = token.split(".")
    claims = json.loads(base64.urlsafe_b64decode(body + "=="))
    other = base64.urlsafe_b64encode(json.dumps({**claims, "sub": "admin"}).encode()).decode().rstrip("=")
    stranger = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    modulus = httpx.get(f"{issuer.url}/jwks").json()["keys"][0]["n"]
    wrong = {
        "changed claims": f"{head}.{other}.{signature}",
        "no signature": f"{head}.{body}.",
        "algorithm none": forged(token, "none", None),
        "the public key as a secret": forged(token, "HS256", modulus),
        "another's key": forged(token, "RS256", stranger),
        "an unknown key": jwt.encode(claims, stranger, algorithm="RS256", headers={"kid": "unknown"}),
        "no token": None,
        "no JWT": "hello",
    }
    for what, text in wrong.items():
        with pytest.raises(OAuth2Error):
            connection.verify_id_token(text, "custos")
            pytest.fail(what)


def test_it_must_be_for_us_and_for_this_request(connection: TenantOpenIDConnection, token: str) -> None:
    with pytest.raises(OAuth2Error):
        connection.verify_id_token(token, "another client")
    for nonce in ("", NONCE[::-1]):
        connection.nonce = nonce
        with pytest.raises(OAuth2Error, match="another request"):
            connection.verify_id_token(token, "custos")
