"""Quotas and usage on their pages: limits set and taken away, ceilings only shown, everybody's usage and one's own."""

import re
from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

import pytest
from django.test import Client

from tenants import clock
from tenants.actors import platform_actor
from tenants.models import User
from tenants.quotas.models import Limit
from tenants.quotas.services import set_limit
from tenants.quotas.usage import Consumer, Use, add
from tenants.scope import tenant_scope
from tests.conftest import Company

pytestmark = pytest.mark.django_db(transaction=True)

QUOTAS = "/t/acme-bank/administration/quotas/"
USAGE = "/t/acme-bank/administration/usage/"


def kept(company: Company) -> list[tuple[str, UUID | None, str, int, bool]]:
    with tenant_scope(company.tenant.pk):
        fields = ("subject_kind", "subject_id", "metric", "value", "is_ceiling")
        return list(Limit.objects.order_by("pk").values_list(*fields))


def use(company: Company, user: User, tokens: int, *, days_ago: int = 0, route: str = "small") -> None:
    consumer = Consumer(
        tenant_id=company.tenant.pk,
        day=clock.today() - timedelta(days=days_ago),
        user_id=user.pk,
        key_id=None,
        route=route,
        model="m",
    )
    add(consumer, Use(requests=1, prompt_tokens=tokens - 1, completion_tokens=1))


def csv_of(browser: Client, address: str, **asked: str) -> list[str]:
    return b"".join(browser.get(address, {"format": "csv", **asked})).decode().splitlines()  # type: ignore[call-overload]


@pytest.fixture
def ceiling(acme: Company, platform_administrator: User) -> None:
    actor = platform_actor(user=platform_administrator, tenant=acme.tenant)
    with tenant_scope(acme.tenant.pk):
        set_limit(actor=actor, subject_kind="tenant", subject_id=None, metric="tokens_per_month", value=9000)


def test_a_limit_is_set_by_name_changed_in_its_row_and_taken_away(
    acme: Company, administrator_browser: Client
) -> None:
    assert "No limit is set" in administrator_browser.get(QUOTAS).text
    asked = {"subject_kind": "member", "metric": "tokens_per_day", "value": "1,000"}
    for who in ("Member@acme-bank.example", ""):
        done = administrator_browser.post(f"{QUOTAS}set", {**asked, "who": who})
        assert done.status_code == 302
    row = {**asked, "subject_id": str(acme.member.pk), "value": "2 000"}
    assert administrator_browser.post(f"{QUOTAS}set", row).status_code == 302
    own = ("member", acme.member.pk, "tokens_per_day", 2000, False)
    assert kept(acme) == [own, ("member", None, "tokens_per_day", 1000, False)]
    use(acme, acme.member, 1700)
    page = administrator_browser.get(QUOTAS).text
    assert re.search(r'<meter class="meter warn"[^>]* value="85"', page)
    assert "1,700 · 85 %" in page and "Nearly" in page and "counted for each alone" in page
    question = administrator_browser.post(f"{QUOTAS}remove", row).text
    assert "member@acme-bank.example · Tokens per day: 2,000" in question
    assert len(kept(acme)) == 2, "not before it is confirmed"
    administrator_browser.post(f"{QUOTAS}remove", {**row, "confirmed": "yes"})
    assert [limit[1] for limit in kept(acme)] == [None]


@pytest.mark.parametrize(
    ("asked", "field", "words"),
    [
        ({"who": "nobody@acme-bank.example"}, "who", "There is no “nobody@acme-bank.example”"),
        ({"value": "many"}, "value", "Enter a whole number"),
        ({"value": f"{2**53}"}, "value", "Enter a whole number"),
        ({"metric": "storage_bytes", "subject_kind": "key"}, "metric", "belongs to its owner"),
    ],
)
def test_what_is_refused_is_said_at_its_field(
    acme: Company, administrator_browser: Client, asked: dict[str, str], field: str, words: str
) -> None:
    whole = {"subject_kind": "member", "who": "", "metric": "tokens_per_day", "value": "4711", **asked}
    page = administrator_browser.post(f"{QUOTAS}set", whole)
    assert page.status_code == 422
    assert re.search(rf'<p class="error" id="id_{field}_error">(?:(?!</p>).)*{words}', page.text, re.DOTALL)
    assert f'value="{whole["value"]}"' in page.text
    assert kept(acme) == []


def test_the_platforms_ceilings_are_shown_and_stay(
    acme: Company, ceiling: None, administrator_browser: Client
) -> None:
    page = administrator_browser.get(QUOTAS).text
    assert "Set by the platform" in page and "9,000" in page
    row = {"subject_kind": "tenant", "metric": "tokens_per_month"}
    for asked in (row, {**row, "confirmed": "yes"}):
        assert administrator_browser.post(f"{QUOTAS}remove", asked).status_code == 404
    assert csv_of(administrator_browser, QUOTAS)[1:] == [
        "Workspace,The whole workspace,Tokens per month,9000,0,yes"
    ]


def test_an_auditor_sees_limits_and_sets_none(
    acme: Company, ceiling: None, client_of: Callable[[User], Client]
) -> None:
    browser = client_of(acme.auditor)
    page = browser.get(QUOTAS).text
    assert "9,000" in page and "Set a limit" not in page
    asked = {"subject_kind": "member", "metric": "tokens_per_day", "value": "1"}
    assert browser.post(f"{QUOTAS}set", asked).status_code == 404


def test_usage_is_everybodys_for_who_may_see_it_and_ones_own_for_others(
    acme: Company, ceiling: None, administrator_browser: Client, member_browser: Client
) -> None:
    use(acme, acme.member, 3000)
    use(acme, acme.member, 1200, route="large")
    use(acme, acme.curator, 3500)
    use(acme, acme.curator, 7777, days_ago=40)
    page = administrator_browser.get(USAGE).text
    assert "<dd>7,700</dd>" in page, "of the last 30 days"
    assert "member@acme-bank.example" in page and "By member" in page
    assert "85% of the limit of 9,000 tokens per month" in page, "the banner"
    own = member_browser.get(USAGE).text
    assert "<dd>4,200</dd>" in own
    assert "curator@" not in own and "By member" not in own
    assert "Limits that bind you" in own and "85 %" in own
    assert csv_of(administrator_browser, USAGE, by="member")[1:] == [
        "member@acme-bank.example,2,4200,4198,2,0,0,",
        "curator@acme-bank.example,1,3500,3499,1,0,0,",
    ]
    assert csv_of(member_browser, USAGE, by="model")[1:] == [
        "small,1,3000,2999,1,0,0,",
        "large,1,1200,1199,1,0,0,",
    ]
    assert len(csv_of(member_browser, USAGE)) == 3, "a heading, and two rows of the member's own"
    assert member_browser.get(USAGE, {"format": "csv", "by": "member"}).status_code == 404


def test_usage_of_other_days_of_none_and_of_impossible_ones(member_browser: Client) -> None:
    assert "Nothing was used in these days" in member_browser.get(USAGE).text
    backwards = member_browser.get(USAGE, {"since": "2026-02-02", "until": "2026-02-01"})
    assert (backwards.status_code, "Turn them round" in backwards.text) == (422, True)
    no_date = member_browser.get(USAGE, {"since": "yesterday"})
    assert (no_date.status_code, "Enter a valid date" in no_date.text) == (422, True)
    assert 'value="yesterday"' in no_date.text
