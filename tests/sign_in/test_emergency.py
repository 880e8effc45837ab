"""Django's own admin: for platform administrators who used a second factor, and nowhere for everybody else."""

from collections.abc import Callable

import pytest
from django.test import Client

from audit.models import AuditRecord
from tenants.models import User
from tenants.scope import tenant_scope
from tests.conftest import Company
from tests.sign_in.conftest import add_authenticator_app, sign_in, sign_in_with_code

pytestmark = pytest.mark.django_db


@pytest.fixture
def browser(platform_administrator: User, client: Client) -> Client:
    add_authenticator_app(platform_administrator)
    sign_in_with_code(client, platform_administrator)
    return client


def test_it_opens_with_a_second_factor(acme: Company, browser: Client) -> None:
    assert "Custos: emergency access" in browser.get("/emergency/").text
    people = browser.get("/emergency/tenants/user/?q=member").text
    assert acme.member.email in people
    assert "Acme Bank" in browser.get("/emergency/tenants/tenant/").text
    assert browser.get(f"/emergency/tenants/tenant/{acme.tenant.pk}/change/").status_code == 200


def test_the_password_alone_finds_nothing(platform_administrator: User, client: Client) -> None:
    sign_in(client, platform_administrator.email)
    assert client.get("/platform/").status_code == 200, "the control"
    assert client.get("/emergency/").status_code == 404


def test_a_session_that_did_not_use_the_second_factor_finds_nothing(
    platform_administrator: User, client_of: Callable[[User], Client]
) -> None:
    add_authenticator_app(platform_administrator)
    assert client_of(platform_administrator).get("/emergency/").status_code == 404


def test_a_second_factor_alone_finds_nothing(acme: Company, client: Client) -> None:
    add_authenticator_app(acme.owner)
    sign_in_with_code(client, acme.owner)
    assert client.get("/emergency/").status_code == 404


def test_it_switches_an_account_off_on_record_and_changes_nothing_else(
    acme: Company, browser: Client
) -> None:
    place = f"/emergency/tenants/user/{acme.member.pk}/change/"
    answer = browser.post(place, {"email": "evil@x.example", "is_platform_administrator": "on", "_save": "1"})
    assert answer.status_code == 302
    person = User.objects.get(pk=acme.member.pk)
    assert (person.is_active, person.is_platform_administrator) == (False, False)
    assert person.email == acme.member.email
    with tenant_scope(acme.tenant.pk):
        assert AuditRecord.objects.get().kind == "account.switched"


@pytest.mark.parametrize("action", ["add", "delete", "password", "history"])
def test_the_rest_of_the_admin_is_not_there(action: str, acme: Company, browser: Client) -> None:
    for place in (
        f"/emergency/tenants/user/{action}/",
        f"/emergency/tenants/user/{acme.member.pk}/{action}/",
    ):
        assert browser.get(place).status_code == 404
    assert (
        browser.post(f"/emergency/tenants/tenant/{acme.tenant.pk}/change/", {"slug": "x"}).status_code == 403
    )
