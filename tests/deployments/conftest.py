"""What the tests of deployments share: versions that may be deployed, and a reconciler over processes that are none."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from typing import Any
from uuid import UUID

import pytest

from console.deployments.reconciler import Reconciler
from inference.client import InferenceClient
from inference.deployments import services
from inference.deployments.looks import Look
from inference.deployments.models import Instance
from inference.registry import selectors as registry
from inference.registry import stages, versions
from inference.registry.models import Deployment, ModelVersion
from inference.registry.operators import Operator, operator
from inference.registry.services import ensure_default_registry
from tenants.models import User


@pytest.fixture
def by(platform_administrator: User) -> Operator:
    return operator(platform_administrator)


@pytest.fixture
def version(by: Operator) -> ModelVersion:
    """The packaged model in int8, staged."""
    return staged_int8(by)


def staged_int8(by: Operator) -> ModelVersion:
    ensure_default_registry()
    parent = registry.version_named("smollm2-135m-instruct@1")
    made = versions.derive(by=by, version_id=parent.pk, precision="int8")
    stages.move(by=by, version_id=made.pk, stage="staged", reason="To try it")
    return registry.version_by_id(made.pk)


@pytest.fixture
def deployed(by: Operator, version: ModelVersion) -> Deployment:
    return services.create(by=by, name="small", version_id=version.pk)


class FakeProcess:
    """Loads until `become` says otherwise; ends as told, by SIGTERM at once."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.look = Look("loading", capacity=4)
        self.ended: int | None = None
        self.signals: list[signal.Signals] = []

    def status(self) -> int | None:
        return self.ended

    def signal(self, number: signal.Signals) -> None:
        self.signals.append(number)
        self.ended = -number if self.ended is None else self.ended

    def tail(self) -> str:
        return f"the log of {self.pid}"

    def become(self, state: str, **facts: Any) -> None:
        self.look = Look(state, capacity=4, **facts)


class World:
    """A reconciler whose processes are fakes and whose clock moves when it is told to."""

    def __init__(self) -> None:
        self.processes: dict[UUID, FakeProcess] = {}
        self.now = 1000.0
        self.reconciler = Reconciler(start=self._start, look=self._look, now=lambda: self.now)

    def _start(self, deployment: Deployment, instance_id: UUID, *, number: int, port: int) -> FakeProcess:
        made = self.processes[instance_id] = FakeProcess(pid=100 + len(self.processes))
        return made

    def _look(self, clients: Mapping[UUID, InferenceClient]) -> dict[UUID, Look]:
        return {key: self.processes[key].look for key in clients}

    def step(self, seconds: float = 1.0, times: int = 1) -> None:
        for _ in range(times):
            self.now += seconds
            self.reconciler.step()

    def of(self, deployment: Deployment, number: int) -> FakeProcess:
        return self.processes[deployment.instances.get(number=number).pk]

    def ready(self, deployment: Deployment, *numbers: int) -> None:
        for number in numbers:
            self.of(deployment, number).become("ready")
        self.step()


def states(deployment: Deployment) -> list[str]:
    return list(
        Instance.objects.filter(deployment=deployment).order_by("number").values_list("state", flat=True)
    )


@pytest.fixture
def world(settings: Any) -> World:
    settings.INFERENCE_MEMORY_MB = 10_000
    return World()
