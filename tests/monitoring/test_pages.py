"""Monitoring as platform administrators see it: figures of every part, spans, alerts, rules, who is told."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client

from audit.models import AuditRecord
from console.monitoring import evaluation, reading, rules, sampler
from console.monitoring.models import Alert, Channel, Rule, Sample, Silence
from console.monitoring.rules import By
from tenants.models import Membership, User
from tenants.scope import tenant_scope
from tests.audit.conftest import generation
from tests.conftest import Company
from tests.monitoring.conftest import Clock
from tests.monitoring.test_alerts import advance, terms

pytestmark = pytest.mark.django_db(transaction=True)

Take = Callable[..., list[Sample]]
RULE = {
    "name": "Long queue",
    "series": "queue",
    "aggregation": "whole",
    "window_s": "60",
    "comparison": "above",
    "threshold": "10",
    "for_s": "60",
    "severity": "critical",
    "enabled": "on",
}


@pytest.fixture
def browser(platform_administrator: User, client: Client) -> Client:
    client.force_login(platform_administrator, backend="django.contrib.auth.backends.ModelBackend")
    return client


def test_before_the_first_sample_the_page_says_so(browser: Client) -> None:
    page = browser.get("/platform/monitoring/")
    assert page.status_code == 200
    assert page.context["figures"]["state"] == "empty"
    assert "Not working" in page.text, "no inference and no worker run in this test"


@pytest.mark.parametrize("window", ["15m", "1h", "6h", "24h", "7d", "30d", "x", ""])
def test_every_window_shows_figures_with_a_table_behind_each_chart(
    window: str, browser: Client, take: Take
) -> None:
    take(requests=0, errors=0, queue=2, kv_use=0.5)
    take(13, requests=10, errors=1, queue=4, kv_use=0.25)
    sampler.fold()
    page = browser.get(f"/platform/monitoring/?window={window}")
    figures = page.context["figures"]
    assert figures["state"] == "ok"
    assert 60 <= len(figures["times"]) <= 97
    assert max(value for value in figures["values"]["queue"] if value is not None) == 4
    assert [value for value in figures["values"]["error_rate"] if value is not None] == [0.1]
    assert page.text.count("<tbody") == 12
    assert browser.get(f"/platform/monitoring/data?window={window}").json()["values"] == figures["values"]


def test_old_figures_are_told_to_be_old(browser: Client, take: Take, moved: Clock) -> None:
    take(3, requests=1, queue=1)
    assert browser.get("/platform/monitoring/data").json()["state"] == "ok"
    moved.move(minutes=2)
    assert browser.get("/platform/monitoring/data").json()["state"] == "late"


def test_a_prometheus_that_is_away_is_told_and_the_page_goes_on(browser: Client, settings: Any) -> None:
    settings.PROMETHEUS_URL = "http://127.0.0.1:9"
    page = browser.get("/platform/monitoring/")
    assert page.status_code == 200
    assert page.context["figures"]["state"] == "unreachable"


def test_a_span_counts_by_tenant_and_model_without_a_word_of_content(
    browser: Client, acme: Company, north: Company
) -> None:
    generation(acme.actor(acme.member))
    generation(acme.actor(acme.member), status="failed")
    generation(north.actor(north.member))
    page = browser.get("/platform/monitoring/span/")
    assert [(each.name, each.requests, each.errors) for each in page.context["by_tenant"]] == [
        ("Acme Bank", 2, 1),
        ("North Fund", 1, 0),
    ]
    (model,) = page.context["by_model"]
    assert (model.requests, model.errors) == (3, 1)
    assert model.ttft_p95 is not None
    assert "member@" not in page.text
    assert not any(each.may_list for each in page.context["by_tenant"])


def test_the_way_to_the_records_is_for_who_may_list_them(
    browser: Client, acme: Company, north: Company, platform_administrator: User
) -> None:
    for company in (acme, north):
        generation(company.actor(company.member))
    with tenant_scope(acme.tenant.pk):
        Membership.objects.create(user=platform_administrator, role="auditor")
    page = browser.get("/platform/monitoring/span/?window=15m")
    assert {each.name: each.may_list for each in page.context["by_tenant"]} == {
        "Acme Bank": True,
        "North Fund": False,
    }
    answer = browser.post(
        "/t/acme-bank/audit/",
        {"since": page.context["audit_since"], "until": page.context["audit_until"], "zone": "UTC"},
    )
    assert answer.status_code == 302
    assert len(browser.get(answer["Location"]).context["records"]) == 1


@pytest.mark.parametrize(
    "query",
    [
        "since=x&seconds=5",
        "since=1e99&seconds=5",
        "since=99999999999999999&seconds=1",
        "since=-1&seconds=-5",
        "since=1767225600&seconds=999999999",
    ],
)
def test_a_span_that_makes_no_sense_is_no_error(query: str, browser: Client, acme: Company) -> None:
    page = browser.get(f"/platform/monitoring/span/?{query}")
    assert page.status_code == 200
    assert page.context["until"] - page.context["since"] <= timedelta(days=1)


def test_a_rule_is_tried_before_it_is_kept(browser: Client, take: Take, acme: Company) -> None:
    take(60, queue=50)
    sampler.fold()
    page = browser.post("/platform/alerts/rules/new/", {**RULE, "preview": "yes"})
    assert "It would have fired 1 time." in page.text
    assert not Rule.objects.exists()
    assert browser.post("/platform/alerts/rules/new/", RULE).status_code == 302
    rule = Rule.objects.get()
    page = browser.get(f"/platform/alerts/rules/{rule.pk}/")
    assert "It would have fired 1 time." in page.text
    with tenant_scope(acme.tenant.pk):
        assert AuditRecord.objects.get().kind == "alert.rule_created"


def test_thresholds_are_written_in_the_unit_that_is_shown(browser: Client) -> None:
    browser.post("/platform/alerts/rules/new/", {**RULE, "series": "error_rate", "threshold": "7.5"})
    rule = Rule.objects.get()
    assert rule.threshold == pytest.approx(0.075)
    page = browser.get(f"/platform/alerts/rules/{rule.pk}/")
    assert page.context["form"].initial["threshold"] == 7.5
    assert "7.5 %" in browser.get("/platform/alerts/rules/").text


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": ""},
        {"threshold": "many"},
        {"threshold": "inf"},
        {"series": "x"},
        {"for_s": "-1"},
        {"window_s": "61"},
    ],
)
def test_a_rule_that_makes_no_sense_is_refused_at_its_field(wrong: dict[str, str], browser: Client) -> None:
    page = browser.post("/platform/alerts/rules/new/", {**RULE, **wrong})
    assert page.status_code == 422
    assert set(page.context["form"].errors) == set(wrong)


def test_alerts_are_shown_acknowledged_silenced_and_kept(
    browser: Client, by: By, moved: Clock, acme: Company
) -> None:
    assert "Nothing is wrong" in browser.get("/platform/alerts/").text
    rule = rules.create_rule(by=by, terms=terms())
    advance(rule, 50, moved, times=6)
    alert = Alert.objects.get()
    assert "Long queue" in browser.get("/platform/alerts/").text
    assert "alerts are firing" in browser.get("/platform/tenants/").text, "the sidebar says so everywhere"
    asked = browser.get(f"/platform/alerts/{alert.pk}/acknowledge")
    assert "Acknowledge “Long queue”?" in asked.text
    answer = browser.post(f"/platform/alerts/{alert.pk}/acknowledge", {"confirmed": "yes", "reason": ""})
    assert answer.status_code == 422
    browser.post(f"/platform/alerts/{alert.pk}/acknowledge", {"confirmed": "yes", "reason": "I look"})
    assert "I look" in browser.get("/platform/alerts/").text
    assert "alerts are firing" not in browser.get("/platform/tenants/").text
    browser.post(
        f"/platform/alerts/rules/{rule.pk}/silence", {"confirmed": "yes", "reason": "Upgrade", "until": "4"}
    )
    assert "Upgrade" in browser.get("/platform/alerts/").text
    silence = Silence.objects.get()
    assert silence.until == moved.now + timedelta(hours=4)
    browser.post(f"/platform/alerts/silences/{silence.pk}/lift")
    advance(rule, 0, moved, times=4)
    assert "Nothing is wrong" in browser.get("/platform/alerts/").text
    history = browser.get(f"/platform/alerts/history/?rule={rule.pk}")
    assert [each["alert"].pk for each in history.context["rows"]] == [alert.pk]
    assert browser.get("/platform/alerts/history/?rule=x").status_code == 404
    assert browser.post(f"/platform/alerts/rules/{rule.pk}/remove", {"confirmed": "yes"}).status_code == 302
    assert browser.get(f"/platform/alerts/rules/{rule.pk}/").status_code == 404
    with tenant_scope(acme.tenant.pk):
        kinds = list(AuditRecord.objects.order_by("pk").values_list("kind", flat=True))
    assert kinds == [
        "alert.rule_created",
        "alert.acknowledged",
        "alert.silenced",
        "alert.silence_lifted",
        "alert.rule_removed",
    ]


def test_channels_are_made_tried_changed_and_removed(browser: Client) -> None:
    assert "Nobody is told" in browser.get("/platform/alerts/channels/").text
    new = "/platform/alerts/channels/new/webhook/"
    wrong = browser.post(new, {"name": "Pager", "target": "https://10.0.0.1/", "least": "warning"})
    assert "target" in wrong.context["form"].errors
    made = browser.post(new, {"name": "Pager", "target": "https://hooks.example/x", "least": "warning"})
    channel = Channel.objects.get()
    address = f"/platform/alerts/channels/{channel.pk}/"
    assert made["Location"] == address
    browser.post(f"{address}test")
    assert "Under way" in browser.get(address).text
    browser.post(address, {"name": "Pager 2", "target": "https://hooks.example/x", "least": "critical"})
    channel.refresh_from_db()
    assert (channel.name, channel.least, channel.enabled) == ("Pager 2", "critical", False)
    assert browser.get(f"{address}secret").status_code == 302, "only after a fresh proof of who asks"
    browser.post(f"{address}remove", {"confirmed": "yes"})
    assert browser.get(address).status_code == 404
    assert browser.get("/platform/alerts/channels/new/pigeon/").status_code == 404


def test_a_pending_alert_cannot_be_acknowledged(browser: Client, by: By, moved: Clock) -> None:
    rule = rules.create_rule(by=by, terms=terms())
    evaluation.advance(rule, 50, elapsed=0, now=moved.now)
    assert browser.get(f"/platform/alerts/{Alert.objects.get().pk}/acknowledge").status_code == 404


def test_the_pages_are_in_chinese(browser: Client) -> None:
    browser.post("/language/", {"language": "zh-hans", "next": "/"})
    for address in ("/platform/monitoring/", "/platform/alerts/", "/platform/alerts/rules/new/"):
        assert 'lang="zh-cn"' in browser.get(address).text.lower()


def test_the_reader_follows_the_setting(settings: Any) -> None:
    assert isinstance(reading.reader(), reading.BuiltIn)
    settings.PROMETHEUS_URL = "http://prometheus:9090"
    assert reading.reader().name == "Prometheus"
