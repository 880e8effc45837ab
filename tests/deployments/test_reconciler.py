"""What is wanted of deployments is made so: by fakes of processes, and a clock that moves when it is told to."""

from typing import Any

import pytest

from inference.client import InferenceUnavailable, Software
from inference.deployments import capacity, selectors, services, waking
from inference.deployments.looks import Look
from inference.deployments.models import Condition
from inference.registry.models import Deployment, ModelVersion, StageChange
from inference.registry.operators import Operator
from tests.deployments.conftest import World, states

pytestmark = pytest.mark.django_db


def endpoints(deployment: Deployment) -> list[int]:
    return [each.instance for each in selectors.endpoints_of(selectors.deployment_by_id(deployment.pk))]


def look(deployment: Deployment) -> str:
    return selectors.standing_of(selectors.deployment_by_id(deployment.pk)).state


def test_an_instance_is_started_and_answers_once_it_is_ready(world: World, deployed: Deployment) -> None:
    assert endpoints(deployed) == [] and look(deployed) == "waiting"
    world.step()
    assert states(deployed) == ["starting"] and look(deployed) == "starting"
    world.step()
    assert states(deployed) == ["loading"] and endpoints(deployed) == []
    world.ready(deployed, 1)
    assert states(deployed) == ["ready"] and endpoints(deployed) == [1] and look(deployed) == "ready"
    row = deployed.instances.get()
    assert (row.pid, row.capacity, row.memory_mb) == (100, 4, capacity.needed_mb(deployed))


def test_the_least_loaded_instance_comes_first(world: World, deployed: Deployment, by: Operator) -> None:
    services.scale(by=by, deployment_id=deployed.pk, replicas=3)
    world.step(times=3)
    world.ready(deployed, 1, 2, 3)
    world.of(deployed, 1).become("ready", running=3)
    world.of(deployed, 2).become("ready", running=1, waiting=3)
    world.step()
    found = selectors.endpoints_of(selectors.deployment_by_id(deployed.pk))
    assert [(each.instance, each.load) for each in found] == [(3, 0.0), (1, 0.75), (2, 1.0)]


def test_what_ends_by_itself_is_kept_with_its_log_and_another_comes(
    world: World, deployed: Deployment
) -> None:
    world.step()
    world.ready(deployed, 1)
    world.of(deployed, 1).ended = -9
    world.step()
    row = deployed.instances.get(number=1)
    assert (row.state, row.failure, row.failure_detail, row.tail) == (
        *("failed", "ended", "killed by SIGKILL"),
        "the log of 100",
    )
    assert states(deployed) == ["failed"], "the next one waits a second"
    world.step(2)
    assert states(deployed) == ["failed", "starting"]


def test_failures_in_a_row_are_tried_ever_less_often_until_somebody_restarts_it(
    world: World, deployed: Deployment, by: Operator
) -> None:
    for number in range(1, 6):
        world.step(31)
        world.of(deployed, number).become("failed", detail="no such file")
        world.step()
    assert states(deployed) == ["failed"] * 5 and look(deployed) == "failing"
    assert deployed.instances.first().failure == "load"  # type: ignore[union-attr]
    assert Condition.objects.get().trouble == "failing"
    world.step(31, times=3)
    assert len(states(deployed)) == 5, "no more every half a minute"
    services.restart(by=by, deployment_id=deployed.pk)
    assert Condition.objects.get().trouble == ""
    world.step()
    assert states(deployed)[-1] == "starting"


def test_only_the_last_ended_instances_are_kept(world: World, deployed: Deployment) -> None:
    for number in range(1, 14):
        world.step(400)
        world.of(deployed, number).ended = 1
        world.step()
    assert sorted(deployed.instances.values_list("number", flat=True)) == list(range(4, 14))


def test_what_does_not_answer_any_more_is_replaced(world: World, deployed: Deployment) -> None:
    world.step()
    world.ready(deployed, 1)
    world.of(deployed, 1).become("away")
    world.step()
    assert states(deployed) == ["away"] and look(deployed) == "away"
    world.step(50)
    world.of(deployed, 1).become("ready")
    world.step()
    assert states(deployed) == ["ready"], "it came back"
    world.of(deployed, 1).become("away")
    world.step()
    world.step(61)
    assert deployed.instances.get(number=1).failure == "hung"


def test_an_engine_that_stops_is_replaced(world: World, deployed: Deployment) -> None:
    world.step()
    world.ready(deployed, 1)
    world.of(deployed, 1).become("failed", detail="The engine has stopped.")
    world.step(2)
    assert deployed.instances.get(number=1).failure == "engine"
    world.step(2)
    assert states(deployed) == ["failed", "starting"]


def test_a_restart_has_the_successor_ready_before_the_first_drains(
    world: World, deployed: Deployment, by: Operator
) -> None:
    world.step()
    world.ready(deployed, 1)
    services.restart(by=by, deployment_id=deployed.pk)
    world.step()
    assert states(deployed) == ["ready", "starting"] and endpoints(deployed) == [1]
    world.of(deployed, 1).become("ready", running=1)
    world.ready(deployed, 2)
    assert states(deployed) == ["draining", "ready"] and endpoints(deployed) == [2]
    world.step(30)
    assert states(deployed) == ["draining", "ready"], "an answer is still running"
    world.of(deployed, 1).become("ready", open=1)
    world.step(30)
    assert states(deployed) == ["draining", "ready"], "one is still to be begun"
    world.of(deployed, 1).become("ready")
    world.step(times=2)
    assert states(deployed) == ["stopped", "ready"]
    assert deployed.instances.get(number=1).failure == ""


def test_without_room_for_two_a_restart_drains_first(
    world: World, deployed: Deployment, by: Operator, settings: Any
) -> None:
    settings.INFERENCE_MEMORY_MB = capacity.needed_mb(deployed) + 1
    world.step()
    world.ready(deployed, 1)
    services.restart(by=by, deployment_id=deployed.pk)
    world.step()
    assert states(deployed) == ["draining"]
    world.step(3, times=3)
    assert states(deployed) == ["stopped", "loading"]


def test_a_drain_waits_for_answers_and_a_stop_only_half_a_minute(
    world: World, deployed: Deployment, by: Operator
) -> None:
    world.step()
    world.ready(deployed, 1)
    world.of(deployed, 1).become("ready", running=1)
    services.drain(by=by, deployment_id=deployed.pk)
    assert endpoints(deployed) == [], "at once, before anybody has looked"
    world.step(times=40)
    assert states(deployed) == ["draining"] and look(deployed) == "draining"
    services.stop(by=by, deployment_id=deployed.pk)
    world.step(times=2)
    assert states(deployed) == ["stopped"] and look(deployed) == "stopped"
    services.start(by=by, deployment_id=deployed.pk)
    world.step()
    assert states(deployed) == ["stopped", "starting"]


def test_what_is_wanted_again_while_it_drains_goes_on(
    world: World, deployed: Deployment, by: Operator
) -> None:
    world.step()
    world.ready(deployed, 1)
    world.of(deployed, 1).become("ready", running=1)
    services.drain(by=by, deployment_id=deployed.pk)
    world.step(times=5)
    services.start(by=by, deployment_id=deployed.pk)
    world.step()
    assert states(deployed) == ["ready"] and endpoints(deployed) == [1]


def test_scaling_down_drains_the_youngest(world: World, deployed: Deployment, by: Operator) -> None:
    services.scale(by=by, deployment_id=deployed.pk, replicas=2)
    world.step(times=2)
    world.ready(deployed, 1, 2)
    services.scale(by=by, deployment_id=deployed.pk, replicas=1)
    world.step()
    assert states(deployed) == ["ready", "draining"]


def test_another_setting_replaces_the_instances_and_keep_warm_does_not(
    world: World, deployed: Deployment, by: Operator
) -> None:
    world.step()
    world.ready(deployed, 1)
    services.configure(by=by, deployment_id=deployed.pk, keep_warm=False)
    Condition.objects.update_or_create(deployment=deployed, defaults={"asked": "2026-01-01T00:00Z"})
    world.step()
    assert states(deployed) == ["ready"]
    services.configure(by=by, deployment_id=deployed.pk, max_running=8, keep_warm=True)
    world.step()
    assert states(deployed) == ["ready", "starting"]


def test_what_does_not_fit_says_so(
    world: World, deployed: Deployment, by: Operator, version: ModelVersion, settings: Any
) -> None:
    world.step()
    world.ready(deployed, 1)
    other = services.create(by=by, name="other", version_id=version.pk)
    settings.INFERENCE_MEMORY_MB = int(1.5 * capacity.needed_mb(other))
    world.step()
    assert states(other) == [] and Condition.objects.get(deployment=other).trouble == "memory"
    assert look(other) == "failing"
    services.stop(by=by, deployment_id=deployed.pk)
    world.step(3, times=4)
    assert states(other) == ["loading"] and Condition.objects.get(deployment=other).trouble == ""


def test_on_demand_it_is_loaded_when_asked_for_and_unloaded_when_another_needs_the_room(
    world: World, by: Operator, version: ModelVersion, settings: Any
) -> None:
    first, second = (
        services.create(by=by, name=name, version_id=version.pk, keep_warm=False)
        for name in ("first", "second")
    )
    settings.INFERENCE_MEMORY_MB = int(1.5 * capacity.needed_mb(first))
    world.step()
    assert states(first) == [] and look(first) == "asleep"
    assert endpoints(first) == [0], "a place that loads it"
    assert waking.asked_for(first.pk) is None
    world.step()
    world.ready(first, 1)
    assert waking.asked_for(first.pk) is not None and endpoints(first) == [1]
    waking.asked_for(second.pk)
    world.of(first, 1).become("ready", running=1)
    world.step(10)
    assert states(second) == [] and Condition.objects.get(deployment=second).trouble == "memory"
    world.of(first, 1).become("ready")
    world.step(10)
    assert states(first) == ["draining"]
    world.step(3, times=3)
    assert states(first) == ["stopped"]
    assert states(second) == ["loading"]
    services.stop(by=by, deployment_id=second.pk)
    with pytest.raises(InferenceUnavailable):
        waking.asked_for(second.pk)


def test_a_version_that_is_archived_past_the_service_is_not_started(
    world: World, deployed: Deployment, by: Operator, version: ModelVersion
) -> None:
    StageChange.objects.create(version=version, number=9, stage="archived", by_label="past the service")
    world.step()
    assert states(deployed) == [] and Condition.objects.get().trouble == "stage"


def test_one_that_cannot_be_looked_after_holds_up_no_other(
    world: World, deployed: Deployment, by: Operator, version: ModelVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = services.create(by=by, name="other", version_id=version.pk)
    start, needed = world.reconciler._start_process, capacity.needed_mb

    def cannot_start(deployment: Deployment, *args: Any, **facts: Any) -> Any:
        if deployment.pk == deployed.pk:
            raise ValueError("what nobody thought of")
        return start(deployment, *args, **facts)

    monkeypatch.setattr(world.reconciler, "_start_process", cannot_start)
    world.step()
    world.ready(other, 1)
    assert states(other) == ["ready"] and set(states(deployed)) == {"failed"}
    row, count = deployed.instances.get(number=1), len(states(deployed))
    assert (row.failure, row.failure_detail) == ("not_started", "what nobody thought of")

    def cannot_tell(deployment: Deployment) -> int:
        return 1 // (deployment.pk != deployed.pk) * needed(deployment)

    monkeypatch.setattr(capacity, "needed_mb", cannot_tell)
    services.scale(by=by, deployment_id=other.pk, replicas=2)
    world.step(60)
    assert states(other) == ["ready", "starting"] and len(states(deployed)) == count


def test_a_new_process_counts_what_another_left_as_ended(world: World, deployed: Deployment) -> None:
    world.step()
    world.ready(deployed, 1)
    successor = World()
    successor.reconciler.take_over()
    row = deployed.instances.get(number=1)
    assert (row.state, row.failure) == ("stopped", "left")
    successor.step()
    assert states(deployed) == ["stopped", "starting"]


def test_the_built_in_service_and_upstreams_have_rows_of_how_they_are(
    world: World, deployed: Deployment, by: Operator
) -> None:
    upstream = services.create_upstream(
        by=by, name="theirs", base_url="http://127.0.0.1:9/v1", upstream_model="big", max_running=8
    )
    embedded = selectors.deployment_named("embedded")
    assert endpoints(upstream) == endpoints(embedded) == [1], "before anybody looked"
    world.step()
    assert set(world.reconciler.watching.wanted) >= {upstream.pk, embedded.pk}
    theirs = Look("ready", running=2, waiting=2, software=Software.VLLM)
    world.reconciler.watching.seen = {upstream.pk: theirs, embedded.pk: Look("ready", capacity=64)}
    world.step()
    found = selectors.endpoints_of(selectors.deployment_by_id(upstream.pk))
    assert [(each.load, each.client.software) for each in found] == [(0.5, Software.VLLM)]
    world.reconciler.watching.seen = {upstream.pk: Look("away", "refused"), embedded.pk: Look("ready")}
    world.step()
    found = selectors.endpoints_of(selectors.deployment_by_id(upstream.pk))
    assert [each.is_ready for each in found] == [False] and look(upstream) == "away"
    Deployment.objects.filter(pk=upstream.pk).update(sealed_key="altered")
    world.step()
    assert Condition.objects.get(deployment=upstream).trouble == "key"
    services.set_key(by=by, deployment_id=upstream.pk, key="sk-other")
    world.step()
    assert Condition.objects.get(deployment=upstream).trouble == ""
    services.stop(by=by, deployment_id=upstream.pk)
    world.step()
    assert endpoints(upstream) == [] and look(upstream) == "stopped"
