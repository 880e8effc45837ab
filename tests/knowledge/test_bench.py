"""The test bench of a base."""

from __future__ import annotations

import pytest
from django.test import Client

from knowledge.models import Base
from tenants import access
from tenants.access import Level
from tenants.models import User
from tenants.scope import tenant_scope
from tests.conftest import Company
from tests.support.knowledge import make_base, make_document

pytestmark = pytest.mark.django_db(transaction=True)

TEXTS = [
    "A bank keeps records of a customer's identity for ten years.",
    "Suspicious transactions are reported to the analysis centre within five days.",
]
SETTINGS = {"passages": "5", "meaning": "0.25", "enough": "0.6"}


@pytest.fixture
def base(acme: Company) -> Base:
    made = make_base(acme)
    make_document(made, TEXTS, name="Handbook")
    return made


def browser_of(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def url_of(base: Base) -> str:
    return f"/t/acme-bank/knowledge/{base.pk}/bench/"


def test_every_stage_shows_its_score(acme: Company, base: Base) -> None:
    asked = {**SETTINGS, "question": "How many years are records of identity kept?"}
    page = browser_of(acme.curator).post(url_of(base), asked)
    assert page.status_code == 200
    found = page.context["found"]
    assert found.passages[0].text == TEXTS[0] and found.is_enough
    assert TEXTS[0].replace("'", "&#x27;") in page.text and "A model would be asked" in page.text
    assert f"start={found.passages[0].start}&amp;end={found.passages[0].end}" in page.text


def test_settings_can_be_tried_before_they_are_kept(acme: Company, base: Base) -> None:
    browser = browser_of(acme.curator)
    asked = {**SETTINGS, "enough": "1", "question": "How many years are records kept, and by which planets?"}
    page = browser.post(url_of(base), asked)
    assert not page.context["found"].is_enough and "“Not in these documents”" in page.text
    with tenant_scope(acme.tenant.pk):
        assert Base.objects.get().options == {}
    assert browser.post(url_of(base), {**asked, "keep": "1"}).status_code == 302
    with tenant_scope(acme.tenant.pk):
        assert Base.objects.get().options["enough"] == 1


@pytest.mark.parametrize(
    "wrong", [{"question": " "}, {"passages": "0"}, {"passages": "21"}, {"meaning": "2"}, {"enough": "x"}]
)
def test_what_cannot_be_tried_is_said_at_its_field(acme: Company, base: Base, wrong: dict[str, str]) -> None:
    page = browser_of(acme.curator).post(url_of(base), {**SETTINGS, "question": "Records?", **wrong})
    assert page.status_code == 422 and list(page.context["form"].errors) == list(wrong)


def test_who_may_only_ask_does_not_find_it_and_who_fills_keeps_nothing(acme: Company, base: Base) -> None:
    browser = browser_of(acme.member)
    with tenant_scope(acme.tenant.pk):
        access.put_grant(base, acme.member, Level.VIEWER)
    assert browser.get(url_of(base)).status_code == 404
    with tenant_scope(acme.tenant.pk):
        access.put_grant(base, acme.member, Level.EDITOR)
    assert "Keep these settings" not in browser.get(url_of(base)).text
    assert browser.post(url_of(base), {**SETTINGS, "keep": "1"}).status_code == 404
