"""The pages of rollouts: begun, watched, given a share, promoted, taken back; what cannot be is said where it was typed."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from django.test import Client

from inference.registry import stages
from inference.registry.models import Deployment, Route, Stage
from inference.registry.operators import Operator
from inference.rollouts import decide
from inference.rollouts.models import Arm, Observation, Rollout, State
from tenants.models import User
from tenants.scope import tenant_scope
from tests.conftest import Company
from tests.rollouts.conftest import route_of

pytestmark = pytest.mark.django_db

HOME = "/platform/rollouts/"


@pytest.fixture
def browser(platform_administrator: User, client_of: Callable[[User], Client]) -> Client:
    return client_of(platform_administrator)


def asked(baseline: Deployment, candidate: Deployment, **changes: Any) -> dict[str, Any]:
    whole = {
        "baseline_id": baseline.pk,
        "candidate_id": candidate.pk,
        "mode": "shadow",
        "percent": 20,
        "error_rise": 5,
        "slow_rise": 15,
        "alpha": 5,
        "least": 200,
        "longest_hours": 72,
    }
    return {**whole, **changes}


def turn(browser: Client, rollout: Rollout, action: str, **typed: Any) -> str:
    address = f"{HOME}{rollout.pk}/turn/{action}"
    return browser.post(address, {"confirmed": "yes", **typed}, follow=True).text


def observe(rollout: Rollout, arm: Arm, count: int, *, failed: bool = False, ttft_ms: float = 80.0) -> None:
    Observation.objects.bulk_create(
        Observation(rollout=rollout, arm=arm, failed=failed, ttft_ms=ttft_ms, itl_ms=8.0)
        for _ in range(count)
    )


def test_a_rollout_is_begun_watched_and_rolled_back(
    browser: Client, by: Operator, baseline: Deployment, candidate: Deployment
) -> None:
    assert "No rollout yet" in browser.get(HOME).text
    form = browser.get(f"{HOME}new/", {"candidate": str(candidate.pk)}).text
    assert f'value="{candidate.pk}" selected' in form
    page = browser.post(f"{HOME}new/", asked(baseline, candidate), follow=True).text
    assert "The rollout has begun." in page
    assert "gets a copy of 20 % of requests" in page and "first 30 answers" in page
    rollout = Rollout.objects.get()
    assert (rollout.state, rollout.percent, rollout.error_rise) == (State.SHADOW, 20, 0.05)
    assert "other" in browser.get(HOME).text and "Shadow" in browser.get(f"{HOME}state").text

    assert (
        "How many of a hundred requests is other to answer?"
        in browser.get(f"{HOME}{rollout.pk}/turn/share").text
    )
    assert "other answers 40 % of conversations and programs." in turn(browser, rollout, "share", percent=40)
    observe(rollout, Arm.BASELINE, 30)
    decide.tick()
    observe(rollout, Arm.BASELINE, 400)
    observe(rollout, Arm.CANDIDATE, 400, ttft_ms=500.0)
    shown = browser.get(f"{HOME}{rollout.pk}/state").text
    assert "500 ms" in shown and "slower than 120 ms" in shown
    assert "Worse" in shown and "No worse" in shown
    shown = turn(browser, rollout, "back", reason="Too slow")
    assert "Rolled back" in shown and "Too slow" in shown
    assert "Baseline: 0 of 430 failed; candidate: 0 of 400 failed." in shown
    assert f"{HOME}{rollout.pk}/turn/" not in shown, "there is nothing more to do"
    assert "This rollout has ended." in turn(browser, rollout, "back")


def test_a_promotion_leads_every_route_and_is_taken_back(
    browser: Client, by: Operator, baseline: Deployment, candidate: Deployment, acme: Company
) -> None:
    def leads_to() -> str:
        with tenant_scope(acme.tenant.pk):
            return Route.objects.get(pk=route.pk).deployment.name

    route = route_of(acme)
    if stages.stage_of(candidate.version) != Stage.PRODUCTION:
        stages.move(by=by, version_id=candidate.version_id, stage="production", reason="Good")
    browser.post(f"{HOME}new/", asked(baseline, candidate, mode="share"))
    rollout = Rollout.objects.get()
    assert "The routes lead to the candidate." in turn(browser, rollout, "promote")
    assert leads_to() == "other"
    page = browser.get(f"{HOME}{rollout.pk}/").text
    assert f"{HOME}{rollout.pk}/turn/undo" in page and "turn/promote" not in page
    assert "The routes lead to the baseline again." in turn(browser, rollout, "undo")
    assert leads_to() == Deployment.EMBEDDED


def test_what_cannot_be_is_said_at_its_field(
    browser: Client, baseline: Deployment, candidate: Deployment
) -> None:
    def refused(**changes: Any) -> str:
        answer = browser.post(f"{HOME}new/", asked(baseline, candidate, **changes))
        assert answer.status_code == 422
        return answer.text

    assert "Choose another deployment" in refused(candidate_id=baseline.pk)
    assert "a share from 1 to 100" in refused(percent=0)
    assert "This field is required." in refused(candidate_id="")
    assert "Select a valid choice" in refused(candidate_id=UUID(int=1))
    assert "Write a number from 0.1 to 20." in refused(alpha=90)
    assert "Write a number from 20 to 100000." in refused(least=1)
    assert not Rollout.objects.exists()


def test_only_platform_administrators_see_them(acme: Company, client_of: Callable[[User], Client]) -> None:
    for page in (HOME, f"{HOME}new/", f"{HOME}state"):
        assert client_of(acme.administrator).get(page).status_code == 404


def test_what_is_not_there_is_not_found(
    browser: Client, by: Operator, baseline: Deployment, candidate: Deployment
) -> None:
    browser.post(f"{HOME}new/", asked(baseline, candidate))
    rollout = Rollout.objects.get()
    assert browser.get(f"{HOME}{rollout.pk}/turn/explode").status_code == 404
    assert browser.get(f"{HOME}{UUID(int=1)}/").status_code == 404
