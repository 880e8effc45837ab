"""API keys and service accounts on their pages: shown once, changed by those who may, named before they end."""

import re
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.test import Client

from inference.registry.services import ensure_default_registry, ensure_default_route
from tenants import clock, keys
from tenants.access import actor_for_key
from tenants.models import ApiKey, ServiceAccount, User
from tenants.roles import Scope
from tenants.scope import tenant_scope
from tests.conftest import Company

pytestmark = pytest.mark.django_db(transaction=True)

KEYS = "/t/acme-bank/administration/keys/"
ACCOUNTS = f"{KEYS}accounts/"


def make_key(company: Company, user: User, name: str) -> ApiKey:
    with tenant_scope(company.tenant.pk):
        return keys.create_key(actor=company.actor(user), name=name)[0]


def kept(company: Company, **lookup: object) -> ApiKey:
    with tenant_scope(company.tenant.pk):
        return ApiKey.objects.get(**lookup)


def text_in(page: str) -> str:
    found = re.search(r'value="(custos-[^"]+)"', page)
    assert found, "no key is shown"
    return found[1]


def test_a_member_makes_a_key_and_sees_its_text_once(acme: Company, member_browser: Client) -> None:
    ensure_default_registry()
    with tenant_scope(acme.tenant.pk):
        ensure_default_route()
    asked = {
        "name": "Laptop",
        "scopes": ["inference"],
        "expires": f"{clock.today()}",
        "allowed_routes": ["smollm2-135m-instruct"],
        "networks": "127.0.0.0/8, ::1",
    }
    shown = member_browser.post(f"{KEYS}new/", asked)
    text = text_in(shown.text)
    assert shown.headers["Cache-Control"] == "no-store"
    assert "http://testserver/v1/chat/completions" in shown.text
    actor = actor_for_key(text, address="127.0.0.1")
    assert actor is not None
    assert (actor.user_id, actor.allowed_routes) == (acme.member.pk, frozenset({"smollm2-135m-instruct"}))
    key = kept(acme, name="Laptop")
    assert key.networks == ["127.0.0.0/8", "::1/128"]
    assert key.expires and key.expires.date() == clock.today() + timedelta(days=1), "it lasts the whole day"
    for page in (KEYS, f"{KEYS}{key.pk}/"):
        later = member_browser.get(page).text
        assert key.prefix in later
        assert text.rpartition("-")[2] not in later


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("networks", "10.0.0.0/99", "is no network"),
        ("expires", "2020-01-01", "a time in the future"),
        ("scopes", "everything", "everything is not one of the available choices"),
        ("name", "L\N{CYRILLIC SMALL LETTER A}ptop", "mixes letters"),
    ],
)
def test_what_is_wrong_is_said_at_its_field_and_nothing_typed_is_lost(
    member_browser: Client, field: str, value: str, words: str
) -> None:
    asked = {"name": "Laptop", "scopes": "inference", "networks": "10.1.0.0/16", field: value}
    page = member_browser.post(f"{KEYS}new/", asked)
    assert page.status_code == 422
    assert re.search(rf'<p class="error" id="id_{field}_error">(?:(?!</p>).)*{words}', page.text, re.DOTALL)
    assert all(typed in page.text for typed in (asked["name"], asked["networks"]))
    assert 'data-guard="changed"' in page.text


def test_people_see_their_own_keys_and_who_administers_sees_all(
    acme: Company, member_browser: Client, administrator_browser: Client
) -> None:
    make_key(acme, acme.member, "Laptop")
    theirs = make_key(acme, acme.administrator, "Crontab")
    own, everything = member_browser.get(KEYS).text, administrator_browser.get(KEYS).text
    assert "Laptop" in own and "Crontab" not in own
    assert "Laptop" in everything and "Crontab" in everything
    assert member_browser.get(f"{KEYS}{theirs.pk}/").status_code == 404
    found = administrator_browser.get(KEYS, {"q": "member@", "state": "valid", "owner": "people"}).text
    assert "Laptop" in found and "Crontab" not in found
    assert "No key matches" in administrator_browser.get(KEYS, {"q": "zeppelin"}).text
    exported = b"".join(administrator_browser.get(KEYS, {"format": "csv", "sort": "-name"})).decode()  # type: ignore[call-overload]
    assert [line.partition(",")[0] for line in exported.splitlines()[1:]] == ["Laptop", "Crontab"]


def test_a_key_is_rotated_by_its_owner_alone(
    acme: Company, member_browser: Client, administrator_browser: Client
) -> None:
    old = make_key(acme, acme.member, "Laptop")
    place = f"{KEYS}{old.pk}/rotate"
    assert administrator_browser.get(place).status_code == 404
    assert "Rotate…" not in administrator_browser.get(f"{KEYS}{old.pk}/").text
    assert "Rotate “Laptop”?" in member_browser.get(place).text
    wrong = member_browser.post(place, {"confirmed": "yes", "overlap": "7"})
    assert wrong.status_code == 422
    fresh = text_in(member_browser.post(place, {"confirmed": "yes", "overlap": "3600"}).text)
    assert actor_for_key(fresh) is not None
    old = kept(acme, pk=old.pk)
    assert old.expires and timedelta(minutes=59) < old.expires - clock.now() <= timedelta(hours=1)
    assert "Being replaced" in member_browser.get(f"{KEYS}{old.pk}/").text


def test_several_keys_are_revoked_after_a_question_that_names_them(
    acme: Company, member_browser: Client
) -> None:
    mine = [make_key(acme, acme.member, name) for name in ("Laptop", "Phone")]
    theirs = make_key(acme, acme.administrator, "Crontab")
    ticked = {"selected": [str(key.pk) for key in (*mine, theirs)]}
    asked = member_browser.post(f"{KEYS}revoke", ticked).text
    assert "Revoke these 2 keys?" in asked
    assert "Laptop · member@acme-bank.example" in asked and "Crontab" not in asked
    member_browser.post(f"{KEYS}revoke", {**ticked, "confirmed": "yes"})
    assert all(kept(acme, pk=key.pk).revoked for key in mine)
    assert kept(acme, pk=theirs.pk).revoked is None
    assert "2 keys were revoked." in member_browser.get(KEYS).text


def test_a_service_account_lives_works_and_stops(acme: Company, administrator_browser: Client) -> None:
    new = administrator_browser.get(f"{ACCOUNTS}new/").text
    assert 'value="member"' in new
    assert 'value="operator"' not in new and 'value="reviewer"' not in new, "not an administrator's to give"
    administrator_browser.post(f"{ACCOUNTS}new/", {"name": "nightly", "role": "member"})
    again = administrator_browser.post(f"{ACCOUNTS}new/", {"name": "nightly", "role": "member"})
    assert (again.status_code, "already" in again.text) == (422, True)
    with tenant_scope(acme.tenant.pk):
        account = ServiceAccount.objects.get()
    place = f"{ACCOUNTS}{account.pk}/"
    asked = {"name": "batch", "owner": str(account.pk), "scopes": [Scope.INFERENCE]}
    text = text_in(administrator_browser.post(f"{KEYS}new/", asked).text)
    assert "batch" in administrator_browser.get(f"{place}disable").text, "the question names the keys"
    administrator_browser.post(f"{place}disable", {"confirmed": "yes"})
    assert actor_for_key(text) is None
    assert "Owner is disabled" in administrator_browser.get(place).text
    administrator_browser.post(f"{place}enable")
    assert actor_for_key(text) is not None
    administrator_browser.post(place, {"description": "Summaries", "role": "curator"})
    with tenant_scope(acme.tenant.pk):
        account.refresh_from_db()
    assert (account.description, account.role) == ("Summaries", "curator")
    assert "Summaries" in administrator_browser.get(ACCOUNTS, {"q": "summ"}).text


def test_an_auditor_looks_and_changes_nothing(acme: Company, client_of: Callable[[User], Client]) -> None:
    key = make_key(acme, acme.member, "Laptop")
    browser = client_of(acme.auditor)
    listed, one = browser.get(KEYS).text, browser.get(f"{KEYS}{key.pk}/").text
    assert "Laptop" in listed and "New key" not in listed and "data-tick-all" not in listed
    assert "Revoke" not in one
    for path in (f"{KEYS}new/", f"{KEYS}{key.pk}/revoke"):
        assert browser.post(path, {"confirmed": "yes"}).status_code == 404
