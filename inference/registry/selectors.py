"""Reading the registry: from the name somebody asked for to the service that answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from uuid import UUID

from django.conf import settings
from django.db.models import QuerySet

from inference.client import InferenceClient
from inference.registry.models import ROUTES, Deployment, ModelVersion, Route
from tenants.access import Actor, Level, Need, visible_objects

USE = ROUTES.permission(Level.VIEWER)


class RouteNotFound(Exception):
    """No enabled route of that name for this actor. GET /v1/models lists those there are."""


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

    @property
    def need(self) -> Need:
        """What answering depends on, while it lasts."""
        return Need(Route, self.route_id, USE)


def resolve(
    actor: Actor, name: str | None, kind: ModelVersion.Kind | None = ModelVersion.Kind.TEXT
) -> Resolved:
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
    version = route.deployment.version
    return Resolved(
        route=route.name,
        route_id=route.pk,
        reason="default" if name is None else "named",
        model=version.name,
        version=version.label,
        deployment=route.deployment.name,
        served_id=version.served_id,
        context_tokens=version.context_tokens,
        client=client_of(route.deployment),
    )


def usable_routes(actor: Actor) -> QuerySet[Route]:
    """The routes granted to the actor that can answer now, to models of any kind, the default one first.

    Those that the tenant's settings or the actor's key leave out are not among them. Needs the tenant's scope.
    """
    ready = Route.objects.filter(
        deployment__enabled=True, deployment__version__state=ModelVersion.State.READY
    )
    return (
        visible_objects(actor, ready, USE)
        .select_related("deployment__version")
        .order_by("-is_default", "name")
    )


def client_of(deployment: Deployment) -> InferenceClient:
    """Connections are pooled inside InferenceClient, so making one per request costs nothing."""
    if deployment.base_url == Deployment.EMBEDDED:
        return InferenceClient(settings.INFERENCE_URL, settings.INFERENCE_TOKEN)
    return InferenceClient(deployment.base_url)
