"""Alert, audit and metrics tell the same of a rollout that Custos rolled back: they are made of the same rows."""

from dataclasses import asdict
from datetime import timedelta

import pytest
from prometheus_client import CollectorRegistry

from audit.models import AuditRecord
from console.monitoring import evaluation, rules, sources
from console.monitoring.models import Alert, Rule
from inference.registry.models import Deployment
from inference.registry.operators import Operator
from inference.rollouts import decide, services
from inference.rollouts.models import Arm, Observation, RolloutStep, State
from inference.rollouts.selectors import ALERTED, IN_A_ROW
from tenants import clock
from tenants.scope import tenant_scope
from tests.conftest import Company

pytestmark = pytest.mark.django_db(transaction=True)


def told() -> tuple[float | None, float | None]:
    """As /metrics shows it: what the alert is made of, and how many were rolled back in all."""
    registry = CollectorRegistry()
    registry.register(sources.Machine())
    return (
        registry.get_sample_value("custos_rollouts_rolled_back"),
        registry.get_sample_value("custos_rollouts_ended_total", {"outcome": "rolled_back"}),
    )


def test_all_three_agree(by: Operator, baseline: Deployment, candidate: Deployment, acme: Company) -> None:
    rule = Rule.objects.create(
        **asdict(next(each for each in rules.DEFAULTS if each.series == "rolled_back"))
    )
    rollout = services.begin(
        by=by, baseline_id=baseline.pk, candidate_id=candidate.pk, in_shadow=False, percent=20
    )
    assert told() == (0, 0)
    Observation.objects.bulk_create(
        Observation(rollout=rollout, arm=Arm.CANDIDATE, failed=True) for _ in range(IN_A_ROW)
    )
    decide.tick()
    assert told() == (1, 1)
    evaluation.advance(rule, sources.read()["rolled_back"], elapsed=0, now=clock.now())
    assert Alert.objects.get().state == Alert.State.FIRING, "at once"
    with tenant_scope(acme.tenant.pk):
        assert AuditRecord.objects.filter(kind="rollout.rolled_back", subject_id=rollout.pk).count() == 1


def test_what_a_person_rolls_back_and_what_is_long_ago_alerts_nobody(
    by: Operator, baseline: Deployment, candidate: Deployment
) -> None:
    rollout = services.begin(by=by, baseline_id=baseline.pk, candidate_id=candidate.pk)
    services.roll_back(by=by, rollout_id=rollout.pk, reason="Not today")
    assert told() == (0, 1)
    RolloutStep.objects.create(
        rollout=rollout,
        state=State.ROLLED_BACK,
        percent=20,
        is_automatic=True,
        by_label="Custos",
        when=clock.now() - ALERTED - timedelta(seconds=1),
    )
    assert told() == (0, 1)
