"""Prices of models, and what tenants' usage cost by them."""

from collections.abc import Callable
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.test import Client
from django.utils import translation

from audit.models import AuditRecord
from inference.registry import prices
from inference.registry.models import Model
from inference.registry.operators import Operator
from inference.registry.services import ensure_default_registry
from tenants import clock
from tenants.errors import Refused
from tenants.models import User
from tenants.quotas import selectors, usage
from tenants.quotas.models import Price
from tenants.quotas.prices import Cost, total
from tenants.quotas.usage import Consumer, Use
from tenants.scope import tenant_scope
from tests.conftest import Company

pytestmark = pytest.mark.django_db

PAGE = "/platform/models/prices/"
NAME = "smollm2-135m-instruct"


@pytest.fixture
def model(db: None) -> Model:
    ensure_default_registry()
    return Model.objects.get(name=NAME)


@pytest.fixture
def by(platform_administrator: User) -> Operator:
    return Operator(label=platform_administrator.email, user_id=platform_administrator.pk)


def set_price(by: Operator, model: Model, **changes: Any) -> Price:
    values: dict[str, Any] = {
        "since": clock.today(),
        "currency": "EUR",
        "read": Decimal(2),
        "cached": Decimal("0.5"),
        "written": Decimal(8),
    }
    return prices.set_price(by=by, model_id=model.pk, **{**values, **changes})


def used(company: Company, day: date, *, read: int, cached: int, written: int, model: str = NAME) -> None:
    consumer = Consumer(
        tenant_id=company.tenant.pk,
        day=day,
        user_id=company.member.pk,
        key_id=None,
        route="small",
        model=model,
    )
    usage.add(consumer, Use(requests=1, prompt_tokens=read, completion_tokens=written, cached_tokens=cached))


def test_usage_keeps_the_price_of_its_day(acme: Company, by: Operator, model: Model) -> None:
    today, tomorrow = clock.today(), clock.today() + timedelta(days=1)
    used(acme, today - timedelta(days=1), read=1_000_000, cached=0, written=0)  # Before there was a price.
    used(acme, today, read=3_000_000, cached=1_000_000, written=500_000)
    used(acme, tomorrow, read=1_000_000, cached=0, written=0)
    used(acme, today, read=9, cached=0, written=9, model="unpriced")
    set_price(by, model)
    set_price(by, model, since=tomorrow, read=Decimal(20), currency="cny")
    with tenant_scope(acme.tenant.pk):
        actor = acme.actor(acme.administrator)
        span = {"since": today - timedelta(days=1), "until": tomorrow}
        by_day = [row.cost for row in selectors.usage(actor, by="day", **span)]
        (by_member,) = selectors.usage(actor, by="member", **span)
        table = list(selectors.usage_csv(actor, **span))
    # 2 million computed at 2, 1 million cached at 0.5, half a million written at 8.
    assert by_day == [{}, {"EUR": Decimal("8.5")}, {"CNY": Decimal(20)}]
    assert by_member.cost == {"EUR": Decimal("8.5"), "CNY": Decimal(20)} == total(by_day)
    assert by_member.prompt_tokens == 5_000_009 and str(by_member.cost) == "20.00 CNY + 8.50 EUR"
    assert table[0][-1] == "Cost" and {row[-1] for row in table[1:]} == {"", "8.50 EUR", "20.00 CNY"}


def test_the_platform_sees_what_each_tenant_spent(
    acme: Company, north: Company, by: Operator, model: Model
) -> None:
    today = clock.today()
    set_price(by, model)
    used(acme, today, read=1_000_000, cached=0, written=0)
    used(north, today, read=0, cached=0, written=1_000_000)
    used(north, today - timedelta(days=40), read=0, cached=0, written=1_000_000)
    found = [(row.tenant, row.model, row.cost) for row in prices.spent(today, today)]
    assert found == [
        (acme.tenant.name, NAME, {"EUR": Decimal(2)}),
        (north.tenant.name, NAME, {"EUR": Decimal(8)}),
    ]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"since": date(2020, 1, 1)}, "since"),
        ({"currency": "EU"}, "currency"),
        ({"currency": "E1R"}, "currency"),
        ({"read": Decimal(-1)}, "read"),
        ({"written": Decimal(10) ** 9}, "written"),
    ],
)
def test_what_is_no_price_is_refused(by: Operator, model: Model, changes: dict[str, Any], field: str) -> None:
    with pytest.raises(Refused) as refused:
        set_price(by, model, **changes)
    assert refused.value.field == field and not Price.objects.exists()


def test_a_price_is_recorded_in_every_tenant(
    acme: Company, north: Company, by: Operator, model: Model
) -> None:
    set_price(by, model)
    for company in (acme, north):
        with tenant_scope(company.tenant.pk):
            assert AuditRecord.objects.filter(kind="model.priced", subject_id=model.pk).count() == 1


def test_small_amounts_keep_their_digits() -> None:
    with translation.override("en"):
        assert str(Cost({"EUR": Decimal("0.000123")})) == "0.00012 EUR"
        assert str(Cost({"EUR": Decimal("1234.5678")})) == "1,234.57 EUR"
        assert str(Cost({"EUR": Decimal(0)})) == "0.00 EUR"
        assert str(Cost()) == ""


def test_the_page_sets_and_shows_prices(
    platform_administrator: User, client_of: Callable[[User], Client], model: Model, acme: Company
) -> None:
    browser = client_of(platform_administrator)
    used(acme, clock.today(), read=1_000_000, cached=0, written=0)
    assert "no price" in browser.get(PAGE).text
    sent = {"model_id": f"{model.pk}", "since": f"{clock.today()}", "currency": "eur", "read": "2.5"}
    refused = browser.post(PAGE, {**sent, "cached": "-1", "written": "8"})
    assert refused.status_code == 422 and 'value="2.5"' in refused.text
    assert browser.post(PAGE, {**sent, "cached": "0", "written": "8"}).status_code == 302
    page = browser.get(PAGE).text
    assert "2.50 EUR" in page and platform_administrator.email in page
    rows = b"".join(browser.get(PAGE, {"format": "csv"})).decode().splitlines()  # type: ignore[call-overload]
    assert rows[1].endswith("1000000,0,2.50 EUR")
    assert browser.get(PAGE, {"first": "2026-02-01", "last": "2026-01-01"}).status_code == 422
