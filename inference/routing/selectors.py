"""Reading routes for whoever operates them. Inside the tenant's scope; raises NotVisible."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from django.db.models import Count, QuerySet

from inference.registry.models import Deployment, Route
from inference.routing.models import RouteClass, Target
from tenants.actors import NotVisible


def routes() -> QuerySet[Route]:
    """All of them, also those whose deployment is switched off, the default one first; each with its `rules` counted."""
    found = Route.objects.select_related("deployment__version__model").annotate(rules=Count("targets"))
    return found.order_by("-is_default", "name")


def route_by_id(route_id: UUID) -> Route:
    found = Route.objects.select_related("deployment__version__model").filter(pk=route_id).first()
    if found is None:
        raise NotVisible(str(route_id))
    return found


def classes_by_route(routes: Iterable[Route]) -> dict[UUID, list[str]]:
    """Which of "precise" and "fast" can be asked for beside each of these routes. Inside the tenant's scope."""
    rules = Target.objects.filter(route__in=list(routes), enabled=True, deployment__enabled=True)
    found: dict[UUID, list[str]] = {}
    for route_id, name in rules.exclude(route_class="").values_list("route_id", "route_class").distinct():
        found.setdefault(route_id, []).append(name)
    return {
        route_id: [name for name in RouteClass.values if name in names] for route_id, names in found.items()
    }


def rules_of(route: Route) -> list[Target]:
    """In the order in which they are asked."""
    return list(route.targets.select_related("deployment__version__model").order_by("position", "pk"))


def rule_by_id(route: Route, target_id: UUID) -> Target:
    found = route.targets.select_related("deployment__version__model").filter(pk=target_id).first()
    if found is None:
        raise NotVisible(str(target_id))
    return found


def deployments(kind: str | None = None) -> QuerySet[Deployment]:
    """What routes may lead to. kind: of its version; None: any."""
    found = Deployment.objects.filter(enabled=True).select_related("version__model").order_by("name")
    return found if kind is None else found.filter(version__kind=kind)
