"""Reading deployments: where a request can go, and how each of them is. Rows only, no network."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from uuid import UUID

from django.db.models import QuerySet

from inference.client import InferenceClient
from inference.deployments.clients import client_to, is_fresh, live, load_of
from inference.deployments.models import ENDED, Condition, Instance
from inference.deployments.waking import Waking
from inference.registry.models import Deployment, Route
from tenants.actors import NotVisible
from tenants.models import Tenant
from tenants.scope import tenant_scope

State = Instance.State
Kind = Deployment.Kind
Wanted = Deployment.Wanted


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One place that answers for a deployment. load: running and waiting over capacity, 0.0 when it is not known."""

    instance: int
    client: InferenceClient = field(repr=False)
    is_ready: bool
    load: float


def endpoints_of(deployment: Deployment) -> list[Endpoint]:
    """All places that answer for it, those that are ready first, of them the least loaded first.

    Of one that is loaded on demand and is not, a place that loads it and waits for that.
    """
    if deployment.wanted != Wanted.RUNNING or not deployment.enabled:
        return []
    rows = list(live(deployment).order_by("-number"))
    if deployment.kind != Kind.MANAGED:
        row = rows[0] if rows else None
        is_built_in = deployment.kind == Kind.EMBEDDED
        # The one is the installation's own, of the other an old look says more than none.
        is_ready = is_built_in or row is None or row.state == State.READY
        return [Endpoint(1, client_to(deployment, row), is_ready, load_of(row))]
    found = [
        Endpoint(row.number, client_to(deployment, row), row.state == State.READY, load_of(row))
        for row in rows
        if row.state in (State.READY, State.AWAY) and is_fresh(row)
    ]
    if not deployment.keep_warm and not any(endpoint.is_ready for endpoint in found):
        return [Endpoint(0, Waking(deployment.pk), True, 1.0)]
    return sorted(found, key=lambda endpoint: (not endpoint.is_ready, endpoint.load))


# --- For people --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Standing:
    """How a deployment is. state: a key of the pages' `words.STATES`."""

    deployment: Deployment
    state: str
    instances: list[Instance]
    ended: list[Instance]
    trouble: str
    trouble_detail: str

    @property
    def ready(self) -> int:
        return sum(row.state == State.READY for row in self.instances)

    @property
    def running(self) -> int:
        return sum(row.running for row in self.instances)

    @property
    def waiting(self) -> int:
        return sum(row.waiting for row in self.instances)

    @property
    def capacity(self) -> int:
        return sum(row.capacity for row in self.instances)


def deployment_by_id(deployment_id: UUID) -> Deployment:
    """Raises NotVisible."""
    found = _deployments().filter(pk=deployment_id).first()
    if found is None:
        raise NotVisible(str(deployment_id))
    return found


def deployment_named(name: str) -> Deployment:
    """Raises NotVisible."""
    found = _deployments().filter(name=name).first()
    if found is None:
        raise NotVisible(name)
    return found


def standings() -> list[Standing]:
    """Of all deployments, by name."""
    return _standings(_deployments().order_by("name"))


def standing_of(deployment: Deployment) -> Standing:
    return _standings([deployment])[0]


def routes_by_deployment() -> dict[UUID, list[tuple[str, list[str]]]]:
    """By which names each tenant's people reach a deployment. Opens one tenant's scope after the other."""
    found: dict[UUID, list[tuple[str, list[str]]]] = {}
    for tenant in Tenant.objects.filter(status=Tenant.Status.ACTIVE).order_by("name"):
        names: dict[UUID, list[str]] = {}
        with tenant_scope(tenant.pk):
            for deployment_id, name in Route.objects.order_by("name").values_list("deployment_id", "name"):
                names.setdefault(deployment_id, []).append(name)
        for deployment_id, named in names.items():
            found.setdefault(deployment_id, []).append((tenant.name, named))
    return found


def _deployments() -> QuerySet[Deployment]:
    return Deployment.objects.select_related("version__model")


def _standings(deployments: Iterable[Deployment]) -> list[Standing]:
    wanted = list(deployments)
    rows: dict[UUID, list[Instance]] = {each.pk: [] for each in wanted}
    for row in Instance.objects.filter(deployment__in=wanted).order_by("-number"):
        rows[row.deployment_id].append(row)
    conditions = {row.pk: row for row in Condition.objects.filter(deployment__in=wanted)}
    found = []
    for each in wanted:
        alive = sorted((row for row in rows[each.pk] if row.state not in ENDED), key=lambda row: row.number)
        ended = [row for row in rows[each.pk] if row.state in ENDED]
        condition = conditions.get(each.pk) or Condition(deployment=each)
        state = _state(each, alive, ended, condition)
        found.append(Standing(each, state, alive, ended, condition.trouble, condition.trouble_detail))
    return found


def _state(deployment: Deployment, alive: list[Instance], ended: list[Instance], condition: Condition) -> str:
    if deployment.wanted != Wanted.RUNNING:
        return "draining" if alive and deployment.kind != Kind.UPSTREAM else "stopped"
    if not alive:
        if condition.trouble:
            return "failing"
        if deployment.kind != Kind.MANAGED:
            return "unknown"
        if not deployment.keep_warm and condition.asked is None:
            return "asleep"
        return "failing" if ended and ended[0].state == State.FAILED else "waiting"
    if not any(map(is_fresh, alive)):
        return "unknown"
    ready = sum(row.state == State.READY for row in alive)
    if ready >= (deployment.replicas if deployment.kind == Kind.MANAGED else 1):
        return "ready"
    if ready:
        return "partly"
    if condition.trouble:
        return "failing"
    return "away" if all(row.state == State.AWAY for row in alive) else "starting"
