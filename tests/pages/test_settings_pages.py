"""A workspace's settings on their page: what is saved, what is refused, its look, and closing it."""

import io
import re
from collections.abc import Callable

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from PIL import Image

from audit.models import AuditRecord
from tenants.models import Tenant, TenantSettings, User
from tenants.scope import tenant_scope
from tests.conftest import Company

pytestmark = pytest.mark.django_db(transaction=True)

SETTINGS = "/t/acme-bank/administration/settings/"
UNCHANGED = {"name": "Acme Bank", "registration": "invitation", "accent": "blue"}


def row(company: Company) -> TenantSettings:
    with tenant_scope(company.tenant.pk):
        return TenantSettings.objects.get()


def recorded(company: Company) -> list[str]:
    with tenant_scope(company.tenant.pk):
        return list(AuditRecord.objects.order_by("pk").values_list("kind", flat=True))


def picture(size: tuple[int, int] = (900, 300)) -> bytes:
    output = io.BytesIO()
    Image.new("RGB", size, "navy").save(output, "PNG")
    return output.getvalue()


def test_what_was_changed_is_saved_and_shown(acme: Company, administrator_browser: Client) -> None:
    asked = {
        **UNCHANGED,
        "name": "Acme Bank AG",
        "display_name": "Acme Assistant",
        "accent": "violet",
        "registration": "domain",
        "registration_domains": "acme-bank.example\r\n",
        "networks": "127.0.0.0/8\r\n10.0.0.0/8",
    }
    assert administrator_browser.post(SETTINGS, asked).status_code == 302
    saved = row(acme)
    assert (saved.accent, saved.registration) == ("violet", "domain")
    assert saved.networks == ["127.0.0.0/8", "10.0.0.0/8"]
    page = administrator_browser.get(SETTINGS).text
    assert "Saved." in page and "Acme Bank AG" in page
    assert "kept for 7 days" in page and 'name="retention_days"' not in page
    assert re.search(r'<html[^>]* data-accent="violet"', page)
    assert "<span>Acme Assistant</span>" in page
    assert administrator_browser.post(SETTINGS, {**asked, "networks": "127.0.0.0/8"}).status_code == 302
    assert recorded(acme) == ["tenant.settings_changed"] * 2


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("networks", "10.0.0.0/8", "you would lock yourself out"),
        ("registration_domains", "no domain", "Enter a whole e-mail address"),
        ("name", " ", "required"),
    ],
)
def test_what_is_refused_is_said_at_its_field(
    acme: Company, administrator_browser: Client, field: str, value: str, words: str
) -> None:
    asked = {**UNCHANGED, "display_name": "Acme Assistant", field: value}
    page = administrator_browser.post(SETTINGS, asked)
    assert page.status_code == 422
    assert re.search(rf'<p class="error" id="id_{field}_error">(?:(?!</p>).)*{words}', page.text, re.DOTALL)
    assert "Acme Assistant" in page.text, "what was typed is kept"
    assert (row(acme).display_name, recorded(acme)) == ("", [])


def test_the_logo_is_drawn_anew_and_shown_to_everybody_in_the_workspace(
    acme: Company, north: Company, administrator_browser: Client, client_of: Callable[[User], Client]
) -> None:
    upload = SimpleUploadedFile("logo.png", picture(), "image/png")
    assert administrator_browser.post(f"{SETTINGS}logo", {"picture": upload}).status_code == 302
    page = client_of(acme.member).get("/t/acme-bank/chat/").text
    address = re.search(r'<img src="(/t/acme-bank/logo\?v=\w+)"', page)
    assert address
    shown = client_of(acme.reviewer).get(address[1])
    assert shown.headers["Content-Type"] == "image/webp"
    assert shown.headers["Cache-Control"].startswith("private, ")
    with Image.open(io.BytesIO(shown.content)) as drawn:
        assert (drawn.format, drawn.size) == ("WEBP", (512, 171))
    assert client_of(north.member).get(address[1]).status_code == 404
    wrong = SimpleUploadedFile("logo.png", b"<svg onload='alert(1)'/>", "image/png")
    refused = administrator_browser.post(f"{SETTINGS}logo", {"picture": wrong})
    assert (refused.status_code, "This picture cannot be read" in refused.text) == (422, True)
    large = SimpleUploadedFile("logo.png", b"x" * (1024 * 1024 + 1), "image/png")
    assert "larger than 1 MB" in administrator_browser.post(f"{SETTINGS}logo", {"picture": large}).text
    administrator_browser.post(f"{SETTINGS}logo", {"remove": "yes"})
    assert administrator_browser.get("/t/acme-bank/logo").status_code == 404
    assert "<img" not in client_of(acme.member).get("/t/acme-bank/chat/").text


def test_an_auditor_sees_them_and_changes_none(acme: Company, client_of: Callable[[User], Client]) -> None:
    browser = client_of(acme.auditor)
    page = browser.get(SETTINGS).text
    assert "changes none" in page and "Save the settings" not in page and "Close this workspace" not in page
    assert len(re.findall(r"<fieldset[^>]* disabled>", page)) == 4
    assert [browser.post(SETTINGS, asked).status_code for asked in (UNCHANGED, {})] == [404, 404]


@pytest.mark.parametrize(("action", "status"), [("archive", "archived"), ("delete", "deleting")])
def test_an_owner_closes_it_by_typing_its_short_name(
    acme: Company, client_of: Callable[[User], Client], action: str, status: str
) -> None:
    browser = client_of(acme.owner)
    question = browser.get(f"{SETTINGS}{action}").text
    assert "Type “acme-bank” to confirm" in question
    if action == "delete":
        assert f"{len(acme.people)} memberships" in question and "can never be opened again" in question
    wrong = browser.post(f"{SETTINGS}{action}", {"confirmed": "yes", "confirm_slug": "acme"})
    assert wrong.status_code == 422
    assert Tenant.objects.get(pk=acme.tenant.pk).status == "active"
    last = browser.post(f"{SETTINGS}{action}", {"confirmed": "yes", "confirm_slug": "acme-bank"}).text
    assert "Acme Bank is closed" in last
    assert Tenant.objects.get(pk=acme.tenant.pk).status == status
    assert browser.get(SETTINGS).status_code == 404
