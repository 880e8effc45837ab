"""Usage for tables and charts, where limits stand, and the banner before one is met."""

from datetime import date, timedelta
from uuid import UUID

import pytest

from tenants import clock, keys, valkey
from tenants.access import actor_for_key
from tenants.actors import Actor, NotVisible
from tenants.errors import Refused
from tenants.quotas import selectors, usage
from tenants.quotas.usage import Consumer, Use
from tenants.scope import tenant_scope
from tests.conftest import Company, make_company
from tests.quotas.conftest import in_scope, limited

TODAY = date(2026, 11, 24)


@pytest.fixture
def acme(db: None) -> Company:
    return make_company("acme-bank", "Acme Bank")


@pytest.fixture
def north(db: None) -> Company:
    return make_company("north-fund", "North Fund")


def used(
    company: Company,
    user_id: UUID | None,
    tokens: int,
    *,
    day: date = TODAY,
    key_id: UUID | None = None,
    route: str = "small",
) -> None:
    consumer = Consumer(
        tenant_id=company.tenant.pk, day=day, user_id=user_id, key_id=key_id, route=route, model="m"
    )
    usage.add(consumer, Use(requests=1, prompt_tokens=tokens, completion_tokens=1, cached_tokens=2))


def seen(actor: Actor, by: str = "day", since: date = TODAY, until: date = TODAY) -> dict[str, int]:
    rows = in_scope(actor, selectors.usage, actor, since=since, until=until, by=by)
    return {row.label: row.tokens for row in rows}


def test_usage_adds_up_by_day_member_model_and_key(acme: Company) -> None:
    administrator = acme.actor(acme.administrator)
    with tenant_scope(acme.tenant.pk):
        key, _text = keys.create_key(actor=administrator, name="robot", scopes=["inference"])
    used(acme, acme.member.pk, 9, day=TODAY - timedelta(days=2))
    used(acme, acme.member.pk, 99)
    used(acme, acme.member.pk, 99)
    used(acme, acme.curator.pk, 999, route="large")
    used(acme, acme.administrator.pk, 4, key_id=key.pk)
    since = TODAY - timedelta(days=2)
    assert seen(administrator, "day", since) == {"2026-11-22": 10, "2026-11-23": 0, "2026-11-24": 1205}
    assert list(seen(administrator, "member").items()) == [
        (acme.curator.email, 1000),
        (acme.member.email, 200),
        (acme.administrator.email, 5),
    ]
    assert seen(administrator, "model") == {"large": 1000, "small": 205}
    assert seen(administrator, "key") == {"robot": 5}


def test_who_may_not_see_everybodys_usage_sees_their_own(acme: Company, north: Company) -> None:
    with tenant_scope(acme.tenant.pk):
        key, text = keys.create_key(actor=acme.actor(acme.administrator), name="robot", scopes=["inference"])
    used(acme, acme.member.pk, 99)
    used(acme, acme.curator.pk, 999)
    used(acme, acme.administrator.pk, 49, key_id=key.pk)
    used(north, north.member.pk, 7)
    assert seen(acme.actor(acme.member), "member") == {acme.member.email: 100}
    robot = actor_for_key(text)
    assert robot is not None
    assert seen(robot, "key") == {"robot": 50}
    assert seen(acme.actor(acme.auditor)) == {"2026-11-24": 1150}
    assert seen(north.actor(north.administrator), "member") == {north.member.email: 8}
    rows = list(in_scope(robot, selectors.usage_csv, robot, since=TODAY, until=TODAY))
    assert [row[1:3] for row in rows[1:]] == [[acme.administrator.email, "robot"]]


def test_a_range_or_a_grouping_that_cannot_be_is_refused(acme: Company) -> None:
    actor = acme.actor(acme.administrator)
    for fields, code in (
        ({"since": TODAY, "until": TODAY - timedelta(days=1)}, "range_invalid"),
        ({"since": TODAY - timedelta(days=366), "until": TODAY}, "range_too_long"),
        ({"since": TODAY, "until": TODAY, "by": "planet"}, "by_unknown"),
    ):
        with pytest.raises(Refused) as refused:
            in_scope(actor, selectors.usage, actor, **fields)
        assert refused.value.code == code


def test_no_cell_of_the_csv_is_a_formula(acme: Company) -> None:
    used(acme, acme.member.pk, 9, route="=HYPERLINK(1)")
    actor = acme.actor(acme.administrator)
    heading, row = in_scope(actor, lambda: list(selectors.usage_csv(actor, since=TODAY, until=TODAY)))
    assert (heading[0], len(heading)) == ("Day", len(row))
    assert row == ["2026-11-24", acme.member.email, "", "'=HYPERLINK(1)", "m", "1", "9", "1", "2", "0", ""]


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n"])
def test_whatever_starts_like_a_formula_is_made_text(start: str) -> None:
    assert selectors.safe_cell(f"{start}1+1") == f"'{start}1+1"
    assert selectors.safe_cell(f"1{start}1") == f"1{start}1"


def test_where_limits_stand_is_known_before_the_first_request_and_without_valkey(
    acme: Company, monkeypatch: pytest.MonkeyPatch, settings
) -> None:
    limited(acme, "tokens_per_day", 100)
    limited(acme, "requests_per_minute", 5)
    used(acme, acme.member.pk, 29, day=clock.today())
    actor = acme.actor(acme.member)

    def standings() -> dict[str, tuple[int | None, int | None]]:
        return {
            each.rule.metric: (each.used, each.percent) for each in in_scope(actor, selectors.status, actor)
        }

    assert standings() == {"tokens_per_day": (30, 30), "requests_per_minute": (0, 0)}
    settings.REDIS_URL = "redis://127.0.0.1:9/0"
    valkey.sync_client.cache_clear()
    try:
        assert standings() == {"tokens_per_day": (30, 30), "requests_per_minute": (None, None)}
    finally:
        valkey.sync_client.cache_clear()


@pytest.mark.parametrize(
    ("spent", "level", "percent"), [(79, None, None), (80, "warning", 80), (100, "full", 100)]
)
def test_a_banner_warns_from_80_percent(
    acme: Company, north: Company, spent: int, level: str | None, percent: int | None
) -> None:
    limited(acme, "tokens_per_day", 100)
    limited(acme, "requests_per_minute", 0)  # Over before anybody could read of it.
    used(acme, acme.member.pk, spent - 1, day=clock.today())
    actor = acme.actor(acme.member)
    found = in_scope(actor, selectors.banner, actor)
    assert (found and found.level, found and found.percent) == (level, percent)
    if found:
        assert "100 tokens per day" in found.message
    other = north.actor(north.member)
    assert in_scope(other, selectors.banner, other) is None


def test_the_chat_page_holds_the_banner(acme: Company, client_of) -> None:
    from inference.registry.services import ensure_default_registry, ensure_default_route

    ensure_default_registry()
    with tenant_scope(acme.tenant.pk):
        ensure_default_route()
    limited(acme, "tokens_per_day", 100)
    page = client_of(acme.member).get("/t/acme-bank/chat/").content.decode()
    assert '"quota": null' in page
    used(acme, acme.member.pk, 89, day=clock.today())
    page = client_of(acme.member).get("/t/acme-bank/chat/").content.decode()
    assert "90% of the limit of 100 tokens per day for your workspace is used." in page


def test_a_platform_administrator_sees_no_usage(acme: Company) -> None:
    from tests.quotas.conftest import platform_of

    with pytest.raises(NotVisible):
        seen(platform_of(acme))
