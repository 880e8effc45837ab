"""What every page of signing in keeps to: nothing inline, one heading, both languages."""

import re
from collections.abc import Callable

import pytest
from django.test import Client

from console.sign_in.services import create_provider
from tenants import lifecycle, people
from tenants.models import User
from tenants.scope import tenant_scope
from tests.conftest import Company
from tests.sign_in.conftest import add_authenticator_app, sign_in, sign_in_with_code

pytestmark = pytest.mark.django_db

VISITORS = [
    "/signin/",
    "/signin/forgotten/",
    "/signin/forgotten/sent/",
    "/signin/forgotten/done/",
    "/signin/forgotten/0-x/",
    "/signin/sso/",
    "/signin/sso/acme-bank/",
    "/join/acme-bank/",
]
OWN = [
    "/account/",
    "/account/password/",
    "/account/email/",
    "/account/email/token/",
    "/account/confirm/",
    "/account/confirm/code/",
    "/account/second-factor/",
    "/account/authenticator/remove/",
    "/account/recovery-codes/new/",
    "/account/passkeys/add/",
]
ADMINISTRATION = ["", "add/", "{provider}/", "{provider}/delete/"]


@pytest.fixture
def pages(acme: Company, client: Client, client_of: Callable[[User], Client]) -> dict[str, str]:
    administrator = client_of(acme.administrator)
    with tenant_scope(acme.tenant.pk):
        actor = acme.actor(acme.owner)
        provider = create_provider(
            actor=actor,
            slug="login",
            name="Company <b>login</b>",
            issuer="https://login.example",
            client_id="x",
            domains=["acme-bank.example"],
        )
        _made, token = people.invite(actor=actor, email="new@acme-bank.example")
        _made, known = people.invite(actor=actor, email="known@acme-bank.example")
        lifecycle.update_settings(
            actor=actor, registration="domain", registration_domains=["acme-bank.example"]
        )
    User.objects.create_user("known@acme-bank.example", None)
    invitation = f"/invitation/acme-bank/{token}/"
    found = {
        path: Client().get(path).text
        for path in [*VISITORS, invitation, f"/invitation/acme-bank/{known}/", f"{invitation[:-2]}x/"]
    }
    add_authenticator_app(acme.member)
    sign_in(client, acme.member.email)
    found["/signin/second-factor/"] = client.get("/signin/second-factor/").text
    sign_in_with_code(client, acme.member)
    found |= {path: client.get(path).text for path in OWN}
    User.objects.filter(pk=acme.curator.pk).update(email_verified=None)
    fresh = Client()
    sign_in(fresh, acme.curator.email)
    found["an unproven account"] = fresh.get("/account/").text
    assert "Confirm your address" in found["an unproven account"]
    found["the link is mailed"] = fresh.post("/account/email/proof").text
    found["/account/authenticator/"] = fresh.get("/account/authenticator/").text
    place = "/t/acme-bank/administration/sign-in/"
    places = [place + path.format(provider=provider.pk) for path in ADMINISTRATION]
    return found | {path: administrator.get(path).text for path in places}


def test_every_page_keeps_the_policy(pages: dict[str, str]) -> None:
    for path, page in pages.items():
        assert len(re.findall(r"<h1[ >]", page)) == 1, path
        assert re.search(r"<title>[^<]*\S[^<]*</title>", page), path
        assert not re.search(r"<[^>]+\s(style|on\w+)\s*=", page), path
        assert "<style" not in page and "<b>login" not in page, path
        for script in re.findall(r"<script[^>]*>", page):
            assert "application/json" in script or ("nonce=" in script and "src=" in script), (path, script)
        for address in re.findall(r'\s(?:src|href|action)="([^"]*)"', page):
            assert re.match(r"(/(?!/)|\?|#|data:image/svg)", address), (path, address)
        helps = re.findall(r'<p class="muted small">([^<]+)</p>', page)
        assert len(helps) == len(set(helps)), (path, "one field's help stands at another")
        for wanted in re.findall(r'<label for="([^"]+)"', page):
            assert f'id="{wanted}"' in page, (path, wanted)


def test_the_forms_that_send_a_body_carry_their_token(pages: dict[str, str]) -> None:
    for path, page in pages.items():
        for form in re.findall(r'<form[^>]*method="post".*?</form>', page, re.DOTALL):
            assert "csrfmiddlewaretoken" in form, path
