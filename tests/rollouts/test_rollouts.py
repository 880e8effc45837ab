"""A rollout from its beginning to its end: who is asked, what is decided, and that every tenant's audit knows it."""

from datetime import timedelta
from uuid import uuid4

import pytest

from audit.models import AuditRecord
from inference.registry.models import Deployment, Route
from inference.registry.operators import Operator
from inference.rollouts import decide, services
from inference.rollouts.models import Arm, Observation, Rollout, RolloutStep, State
from inference.rollouts.selectors import (
    FIRST,
    IN_A_ROW,
    divert,
    is_chosen,
    remembered,
    rollout_by_id,
    standing_of,
)
from inference.routing.choice import resolve
from inference.routing.models import Target
from tenants import clock
from tenants.errors import Refused
from tenants.scope import tenant_scope
from tests.conftest import Company
from tests.rollouts.conftest import route_of

pytestmark = pytest.mark.django_db

UNITS = [f"unit {number}" for number in range(2000)]


def begun(by: Operator, baseline: Deployment, candidate: Deployment, **changes: object) -> Rollout:
    values = {"in_shadow": False, "percent": 20, **changes}
    made = services.begin(by=by, baseline_id=baseline.pk, candidate_id=candidate.pk, **values)  # type: ignore[arg-type]
    remembered.forget()
    return made


def observe(
    rollout: Rollout, arm: Arm, count: int, *, failed: bool = False, ttft: float | None = 100.0
) -> None:
    Observation.objects.bulk_create(
        Observation(rollout=rollout, arm=arm, failed=failed, ttft_ms=ttft, itl_ms=ttft and ttft / 10)
        for _ in range(count)
    )


def now(rollout: Rollout) -> Rollout:
    return rollout_by_id(rollout.pk)


def test_a_share_is_stable_and_only_grows(by: Operator, baseline: Deployment, candidate: Deployment) -> None:
    rollout = begun(by, baseline, candidate, percent=20)
    chosen = {unit for unit in UNITS if is_chosen(rollout, unit)}
    assert 0.16 < len(chosen) / len(UNITS) < 0.24
    rollout.percent = 40
    more = {unit for unit in UNITS if is_chosen(rollout, unit)}
    assert chosen < more
    rollout.percent = 100
    assert all(is_chosen(rollout, unit) for unit in UNITS)


def test_the_candidate_answers_its_share_and_the_baseline_what_it_does_not(
    by: Operator, baseline: Deployment, candidate: Deployment, acme: Company
) -> None:
    route_of(acme)
    begun(by, baseline, candidate, percent=100)
    with tenant_scope(acme.tenant.pk):
        resolved = resolve(acme.actor(acme.member), None, unit=str(uuid4()))
    assert (resolved.deployment, resolved.arm, resolved.reason) == ("other", "candidate", "rollout")
    assert [(each.deployment, each.arm, each.reason) for each in resolved.others] == [
        (Deployment.EMBEDDED, "", "rollout_failed")
    ]


def test_in_the_shadow_the_baseline_answers_and_the_candidate_gets_a_copy(
    by: Operator, baseline: Deployment, candidate: Deployment, acme: Company
) -> None:
    route_of(acme)
    rollout = begun(by, baseline, candidate, in_shadow=True, percent=100)
    with tenant_scope(acme.tenant.pk):
        resolved = resolve(acme.actor(acme.member), None)
    assert (resolved.deployment, resolved.arm) == (Deployment.EMBEDDED, "baseline")
    assert resolved.shadow is not None and resolved.shadow.deployment == "other"
    assert resolved.rollout_id == resolved.shadow.rollout_id == rollout.pk


def test_a_rollback_is_in_force_at_once_and_recorded_in_every_tenant(
    by: Operator, baseline: Deployment, candidate: Deployment, acme: Company, north: Company
) -> None:
    rollout = begun(by, baseline, candidate, percent=100)
    assert divert(baseline.pk, "x") is not None
    services.roll_back(by=by, rollout_id=rollout.pk, reason="Users complain")
    remembered.forget()
    assert divert(baseline.pk, "x") is None
    for company in (acme, north):
        with tenant_scope(company.tenant.pk):
            kinds = AuditRecord.objects.filter(subject_id=rollout.pk).values_list("kind", flat=True)
            assert set(kinds) == {"rollout.begun", "rollout.rolled_back"}
    with pytest.raises(Refused):
        services.set_share(by=by, rollout_id=rollout.pk, percent=50)


def test_only_one_rollout_of_a_baseline_is_open(
    by: Operator, baseline: Deployment, candidate: Deployment
) -> None:
    begun(by, baseline, candidate)
    with pytest.raises(Refused):
        begun(by, baseline, candidate)
    with pytest.raises(Refused):
        begun(by, candidate, baseline)
    with pytest.raises(Refused):
        begun(by, candidate, candidate)


def test_failures_one_after_the_other_roll_back_without_statistics(
    by: Operator, baseline: Deployment, candidate: Deployment
) -> None:
    rollout = begun(by, baseline, candidate)
    observe(rollout, Arm.CANDIDATE, IN_A_ROW - 1, failed=True)
    decide.tick()
    assert now(rollout).state == State.SHARE
    observe(rollout, Arm.CANDIDATE, 1, failed=True)
    decide.tick()
    step = RolloutStep.objects.filter(rollout=rollout).latest("pk")
    assert now(rollout).state == State.ROLLED_BACK
    assert (step.reason, step.is_automatic, step.by_label) == ("in_a_row", True, "Custos")
    assert step.figures["candidate"]["failed"] == IN_A_ROW


def test_too_many_failures_among_good_answers_roll_back(
    by: Operator, baseline: Deployment, candidate: Deployment
) -> None:
    rollout = begun(by, baseline, candidate)
    observe(rollout, Arm.BASELINE, 200)
    for _ in range(3):
        observe(rollout, Arm.CANDIDATE, 2, failed=True)
        observe(rollout, Arm.CANDIDATE, 3)
    decide.tick()
    assert now(rollout).state == State.SHARE, "6 of 15 may be chance"
    for _ in range(15):
        observe(rollout, Arm.CANDIDATE, 2, failed=True)
        observe(rollout, Arm.CANDIDATE, 3)
    decide.tick()
    assert RolloutStep.objects.filter(rollout=rollout).latest("pk").reason == "errors"


def test_slow_answers_roll_back_by_what_the_baseline_was_first(
    by: Operator, baseline: Deployment, candidate: Deployment
) -> None:
    rollout = begun(by, baseline, candidate)
    observe(rollout, Arm.BASELINE, FIRST)
    decide.tick()
    assert now(rollout).slow_ttft_ms == 150.0
    observe(rollout, Arm.BASELINE, 100)
    observe(rollout, Arm.CANDIDATE, 40, ttft=140.0)
    decide.tick()
    assert now(rollout).state == State.SHARE
    observe(rollout, Arm.CANDIDATE, 60, ttft=400.0)
    decide.tick()
    assert RolloutStep.objects.filter(rollout=rollout).latest("pk").reason == "slow_start"


def test_a_good_candidate_is_promoted_by_itself_where_that_is_wanted_and_taken_back_by_one_step(
    by: Operator, baseline: Deployment, candidate: Deployment, acme: Company, north: Company
) -> None:
    routes = {company: route_of(company) for company in (acme, north)}
    with tenant_scope(north.tenant.pk):
        Target.objects.create(route=routes[north], deployment=baseline, position=1)
        own = Route.objects.create(name="own", label="Own", deployment=candidate)
    rollout = begun(by, baseline, candidate, promotes_itself=True, least=200)
    observe(rollout, Arm.BASELINE, FIRST)
    decide.tick()
    observe(rollout, Arm.BASELINE, 600)
    observe(rollout, Arm.CANDIDATE, 199)
    decide.tick()
    assert now(rollout).state == State.SHARE
    observe(rollout, Arm.CANDIDATE, 201)
    decide.tick()
    assert now(rollout).state == State.PROMOTED

    def leads() -> set[str]:
        found = set()
        for company, route in routes.items():
            with tenant_scope(company.tenant.pk):
                found.add(Route.objects.get(pk=route.pk).deployment.name)
                found.update(Target.objects.values_list("deployment__name", flat=True))
        return found

    assert leads() == {"other"}
    services.roll_back(by=by, rollout_id=rollout.pk, reason="Not what we want")
    assert leads() == {Deployment.EMBEDDED}
    with tenant_scope(north.tenant.pk):
        assert Route.objects.get(pk=own.pk).deployment == candidate, "it led there before"
    assert now(rollout).state == State.ROLLED_BACK


def test_what_cannot_be_told_apart_in_time_ends_with_the_baseline(
    by: Operator, baseline: Deployment, candidate: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    rollout = begun(by, baseline, candidate, longest_hours=2)
    later = clock.now() + timedelta(hours=2, seconds=1)
    monkeypatch.setattr(clock, "now", lambda: later)
    decide.tick()
    assert now(rollout).state == State.UNDECIDED


def test_a_candidate_without_an_instance_is_rolled_back(
    by: Operator, baseline: Deployment, candidate: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    rollout = begun(by, baseline, candidate)
    Deployment.objects.filter(pk=candidate.pk).update(wanted="stopped")
    decide.tick()
    assert now(rollout).state == State.SHARE, "it may only be restarting"
    later = clock.now() + decide.GONE_AFTER + timedelta(seconds=1)
    monkeypatch.setattr(clock, "now", lambda: later)
    decide.tick()
    assert RolloutStep.objects.filter(rollout=rollout).latest("pk").reason == "gone"


def test_out_of_the_shadow_all_is_counted_anew(
    by: Operator, baseline: Deployment, candidate: Deployment
) -> None:
    rollout = begun(by, baseline, candidate, in_shadow=True)
    observe(rollout, Arm.BASELINE, FIRST)
    decide.tick()
    assert now(rollout).slow_ttft_ms is not None
    services.set_share(by=by, rollout_id=rollout.pk, percent=5)
    again = now(rollout)
    assert again.state == State.SHARE and again.slow_ttft_ms is None
    assert standing_of(again).baseline.requests == 0


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"percent": 0}, "percent"),
        ({"percent": 101}, "percent"),
        ({"alpha": 0.5}, "alpha"),
        ({"least": 1}, "least"),
    ],
)
def test_what_makes_no_sense_is_refused(
    by: Operator, baseline: Deployment, candidate: Deployment, changes: dict[str, object], field: str
) -> None:
    with pytest.raises(Refused) as refused:
        begun(by, baseline, candidate, **changes)
    assert refused.value.field == field and not Rollout.objects.exists()
