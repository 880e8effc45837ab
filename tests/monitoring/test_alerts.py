"""Alerts: pending, firing, resolved; told once; silenced, acknowledged; by no clock that can be set."""

from collections.abc import Callable
from dataclasses import asdict
from datetime import timedelta

import pytest
from django.core import mail

from audit.models import AuditRecord
from console.monitoring import evaluation, notices, preview, rules, sampler
from console.monitoring.catalogue import SERIES_BY_NAME
from console.monitoring.models import Alert, Channel, Notice, Rule, Sample
from console.monitoring.rules import By, Terms
from tenants.actors import NotVisible
from tenants.errors import Refused
from tenants.models import User
from tenants.scope import tenant_scope
from tests.conftest import Company
from tests.monitoring.conftest import Clock

pytestmark = pytest.mark.django_db(transaction=True)

Take = Callable[..., list[Sample]]
State = Alert.State


def terms(**changed: object) -> Terms:
    usual: dict[str, object] = {
        "name": "Long queue",
        "series": "queue",
        "aggregation": "whole",
        "window_s": 60,
        "comparison": "above",
        "threshold": 10.0,
        "for_s": 60,
        "severity": "critical",
    }
    return Terms(**{**usual, **changed})  # type: ignore[arg-type]


@pytest.fixture
def rule(by: By) -> Rule:
    return rules.create_rule(by=by, terms=terms())


@pytest.fixture
def channel(by: By) -> Channel:
    return rules.create_channel(
        by=by, kind="email", name="On call", target="a@bank.example, b@bank.example", least="warning"
    )


def advance(rule: Rule, value: float | None, moved: Clock, *, times: int = 1, elapsed: float = 15) -> str:
    """So many looks at a value, 15 seconds apart; the state of the newest alert then, "" without one."""
    for _number in range(times):
        moved.move(seconds=15)
        evaluation.advance(rule, value, elapsed=elapsed, now=moved.now)
    newest = Alert.objects.filter(rule=rule).order_by("-pk").first()
    return newest.state if newest else ""


def events() -> list[str]:
    return list(Notice.objects.order_by("pk").values_list("event", flat=True))


def test_an_alert_is_pending_then_fires_and_is_over_a_minute_after_its_cause(
    rule: Rule, channel: Channel, moved: Clock
) -> None:
    assert advance(rule, 10, moved) == "", "at the threshold is not above it"
    assert advance(rule, 11, moved, times=4) == State.PENDING
    assert events() == []
    assert advance(rule, 30, moved) == State.FIRING
    assert advance(rule, 12, moved, times=20) == State.FIRING
    assert events() == ["firing"], "what goes on is told once"
    assert advance(rule, 3, moved, times=3) == State.FIRING
    assert advance(rule, 12, moved) == State.FIRING, "what comes back within a minute is the same alert"
    assert advance(rule, 3, moved, times=4) == State.RESOLVED
    assert events() == ["firing", "resolved"]
    alert = Alert.objects.get()
    assert (alert.value, alert.worst) == (3, 30)
    assert advance(rule, 99, moved, times=5) == State.FIRING
    assert Alert.objects.count() == 2, "the next time is another alert"


def test_what_does_not_last_never_fires(rule: Rule, channel: Channel, moved: Clock) -> None:
    for _number in range(10):
        assert advance(rule, 11, moved, times=4) == State.PENDING
        assert advance(rule, 1, moved) == ""
    assert events() == []


def test_without_a_value_nothing_holds(rule: Rule, channel: Channel, moved: Clock) -> None:
    assert advance(rule, None, moved) == ""
    advance(rule, 11, moved, times=5)
    assert advance(rule, None, moved, times=4) == State.RESOLVED
    below = Rule(comparison="below", threshold=1)
    assert not evaluation.holds(below, None)
    assert not evaluation.holds(below, float("nan"))
    assert evaluation.holds(below, 0.5)


@pytest.mark.parametrize("hours", [-5, 5])
def test_a_clock_that_is_set_makes_nothing_fire_or_end(
    hours: int, rule: Rule, channel: Channel, moved: Clock
) -> None:
    advance(rule, 11, moved, times=2)
    moved.move(hours=hours)
    assert advance(rule, 11, moved, times=2) == State.PENDING
    assert advance(rule, 11, moved) == State.FIRING
    assert advance(rule, 1, moved) == State.FIRING
    moved.move(hours=hours)
    assert advance(rule, 1, moved) == State.FIRING
    assert advance(rule, 1, moved, times=2) == State.RESOLVED


def test_a_pause_of_the_monitor_counts_for_little(by: By, take: Take, moved: Clock) -> None:
    rules.create_rule(by=by, terms=terms(for_s=300))
    take(12, queue=50)
    evaluation.look(elapsed=0, now=moved.now)
    evaluation.look(elapsed=7200, now=moved.now)
    assert Alert.objects.get().held_s == evaluation.LONGEST_S
    assert Alert.objects.get().state == State.PENDING


def test_rules_are_held_against_the_newest_samples(by: By, take: Take, moved: Clock) -> None:
    for aggregation, series, threshold in (
        ("whole", "queue", 39),
        ("highest", "queue", 39),
        ("lowest", "queue", 19),
        ("growth", "queue", 19),
        ("whole", "error_rate", 0.4),
        ("whole", "ttft_p95", 0.15),
    ):
        rules.create_rule(
            by=by,
            terms=terms(
                name=f"{aggregation} {series}", aggregation=aggregation, series=series, threshold=threshold
            ),
        )
    failing = {"errors": 0.0, "requests": 0.0, "ttft__0.1": 0.0, "ttft__0.2": 0.0, "ttft__+Inf": 0.0}
    take(queue=20, **failing)
    for number in range(1, 13):
        counted = {name: float(number) for name in ("errors", "ttft__0.2", "ttft__+Inf")}
        queue = 20 if number < 7 else 40
        take(queue=queue, requests=2.0 * number, **{**counted, "ttft__0.1": 0.0})
    evaluation.look(elapsed=15, now=moved.now)
    found = {alert.rule.name: alert.value for alert in Alert.objects.select_related("rule")}
    assert found.pop("whole ttft_p95") == pytest.approx(0.195)
    assert found == {
        "whole queue": 40,
        "highest queue": 40,
        "lowest queue": 20,
        "growth queue": 20,
        "whole error_rate": 0.5,
    }


def test_a_silenced_alert_is_kept_and_told_only_when_the_silence_ends(
    by: By, rule: Rule, channel: Channel, moved: Clock
) -> None:
    made = rules.silence(by=by, rule_id=rule.pk, until=moved.now + timedelta(minutes=10), reason="Upgrade")
    assert advance(rule, 50, moved, times=8) == State.FIRING
    assert events() == []
    assert rules.firing() == 0
    moved.move(minutes=10)
    advance(rule, 50, moved)
    assert events() == ["firing"]
    advance(rule, 0, moved, times=4)
    rules.silence(by=by, rule_id=None, until=moved.now + timedelta(minutes=10), reason="All of it")
    advance(rule, 50, moved, times=5)
    advance(rule, 0, moved, times=4)
    assert events() == ["firing", "resolved"], (
        "an alert that came and went in silence is in the history alone"
    )
    assert [each.state for each in Alert.objects.all()] == [State.RESOLVED] * 2
    with pytest.raises(NotVisible):
        rules.lift_silence(by=by, silence_id=rule.pk)
    rules.lift_silence(by=by, silence_id=made.pk)


@pytest.mark.parametrize("delta", [timedelta(0), timedelta(days=31), timedelta(minutes=-1)])
def test_a_silence_has_an_end_and_a_reason(delta: timedelta, by: By, rule: Rule, moved: Clock) -> None:
    with pytest.raises(Refused) as refused:
        rules.silence(by=by, rule_id=rule.pk, until=moved.now + delta, reason="x")
    assert refused.value.field == "until"
    with pytest.raises(Refused) as refused:
        rules.silence(by=by, rule_id=rule.pk, until=moved.now + timedelta(hours=1), reason=" ")
    assert refused.value.field == "reason"


def test_an_alert_is_acknowledged_once_with_a_reason(by: By, rule: Rule, moved: Clock) -> None:
    advance(rule, 50, moved)
    pending = Alert.objects.get()
    with pytest.raises(NotVisible):
        rules.acknowledge(by=by, alert_id=pending.pk, reason="Too early")
    advance(rule, 50, moved, times=5)
    assert rules.firing() == 1
    alert = rules.acknowledge(by=by, alert_id=pending.pk, reason="I look")
    assert (alert.acknowledged_by, alert.acknowledged_reason) == ("platform@custos.example", "I look")
    assert rules.firing() == 0
    with pytest.raises(Refused):
        rules.acknowledge(by=by, alert_id=alert.pk, reason="Me too")


def test_changes_are_recorded_in_every_tenant_or_not_made(
    by: By, acme: Company, north: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    rule = rules.create_rule(by=by, terms=terms())
    rules.change_rule(by=by, rule_id=rule.pk, terms=terms(threshold=20))
    rules.change_rule(by=by, rule_id=rule.pk, terms=terms(threshold=20))
    for company in (acme, north):
        with tenant_scope(company.tenant.pk):
            kinds = list(AuditRecord.objects.order_by("pk").values_list("kind", "user_label"))
        assert kinds == [
            ("alert.rule_created", "platform@custos.example"),
            ("alert.rule_changed", "platform@custos.example"),
        ]
    told = []
    real = rules.record_change

    def fail_at_second(actor: object, kind: str, **rest: object) -> None:
        told.append(kind)
        if len(told) == 2:
            raise RuntimeError("the disk is full")
        real(actor, kind, **rest)  # type: ignore[arg-type]

    monkeypatch.setattr(rules, "record_change", fail_at_second)
    with pytest.raises(RuntimeError):
        rules.remove_rule(by=by, rule_id=rule.pk)
    assert Rule.objects.get().removed is None
    with tenant_scope(acme.tenant.pk):
        assert AuditRecord.objects.count() == 2


def test_nobody_but_platform_administrators_changes_anything(acme: Company, rule: Rule, by: By) -> None:
    other = By(user=acme.owner)
    User.objects.filter(pk=by.user.pk).update(is_active=False)
    for who in (other, by):
        with pytest.raises(NotVisible):
            rules.create_rule(by=who, terms=terms(name="x"))
        with pytest.raises(NotVisible):
            rules.remove_rule(by=who, rule_id=rule.pk)
        with pytest.raises(NotVisible):
            rules.create_channel(by=who, kind="email", name="x", target="a@b.example", least="warning")


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"series": "queue; DROP"}, "series"),
        ({"window_s": 7}, "window_s"),
        ({"for_s": 10**6}, "for_s"),
        ({"threshold": float("inf")}, "threshold"),
        ({"name": " "}, "name"),
        ({"name": "Taken"}, "name"),
    ],
)
def test_rules_that_make_no_sense_are_refused(changed: dict[str, object], field: str, by: By) -> None:
    rules.create_rule(by=by, terms=terms(name="Taken"))
    with pytest.raises(Refused) as refused:
        rules.create_rule(by=by, terms=terms(**changed))
    assert refused.value.field == field


def test_an_alert_ends_with_its_rule_and_stays_in_the_history(by: By, rule: Rule, moved: Clock) -> None:
    advance(rule, 50, moved, times=6)
    rules.remove_rule(by=by, rule_id=rule.pk)
    evaluation.look(elapsed=15, now=moved.now)
    assert Alert.objects.get().state == State.RESOLVED


def test_a_warning_does_not_reach_a_channel_for_what_is_critical(by: By, moved: Clock) -> None:
    rules.create_channel(by=by, kind="email", name="Night", target="a@bank.example", least="critical")
    warning = rules.create_rule(by=by, terms=terms(severity="warning", for_s=0))
    advance(warning, 50, moved)
    assert events() == []
    critical = rules.create_rule(by=by, terms=terms(name="2", for_s=0))
    advance(critical, 50, moved)
    assert events() == ["firing"]


def test_an_alert_is_mailed_in_both_languages(rule: Rule, channel: Channel, moved: Clock) -> None:
    advance(rule, 50, moved, times=6)
    assert notices.deliver() == 1
    (sent,) = mail.outbox
    assert sent.to == ["a@bank.example", "b@bank.example"]
    assert "Alert: Long queue" in sent.subject
    assert "Requests in line" in sent.body
    assert notices.deliver() == 0, "told once"


def test_the_preview_tells_when_a_rule_would_have_fired(by: By, take: Take, moved: Clock) -> None:
    unsaved = Rule(**asdict(terms()))
    empty = preview.preview(unsaved)
    assert (empty.fired, empty.has_samples, empty.newest) == ([], False, None)
    for _number in range(3):
        take(60, queue=0)
        take(60, queue=50)
    take(36, queue=1)
    sampler.fold()
    found = preview.preview(unsaved)
    assert len(found.fired) == 3
    assert 600 <= found.firing_s <= 1080
    assert found.newest == 1
    assert Alert.objects.count() == 0


def test_the_first_rules_make_sense(by: By) -> None:
    for each in rules.DEFAULTS:
        assert each.series in SERIES_BY_NAME
        rules.create_rule(by=by, terms=each)
