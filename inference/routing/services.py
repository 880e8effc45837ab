"""Making and changing routes and their rules. Raises NotVisible and Refused; each change is recorded.

A route's name is what programs write and what keys and settings name, so it is chosen once.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.utils.translation import gettext as _

from inference.registry.models import Deployment, Route
from inference.registry.services import add_route
from inference.routing import selectors
from inference.routing.conditions import cleaned
from inference.routing.models import RouteClass, Target
from tenants import words
from tenants.access import Actor
from tenants.actors import require
from tenants.changes import change, difference, record_change
from tenants.errors import Refused
from tenants.roles import MODELS_OPERATE

RULES_MOST = 50
POSITION_MOST = 1000
WEIGHT_MOST = 1000


@change
def create_route(*, actor: Actor, name: str, label: str, deployment_id: UUID) -> Route:
    """A route that everyone may use until somebody narrows it."""
    require(actor, MODELS_OPERATE)
    slug, label = words.clean_slug(name, field="name"), words.clean_name(label, field="label", most=100)
    if Route.objects.filter(name=slug).exists():
        raise Refused("route_exists", _("There is a route of this name. Choose another."), "name")
    route = add_route(name=slug, label=label, deployment=_deployment(deployment_id))
    record_change(actor, "route.created", subject_id=route.pk, after={"name": slug, **_route_shown(route)})
    return route


@change
def update_route(*, actor: Actor, route_id: UUID, label: str, deployment_id: UUID, is_default: bool) -> Route:
    """What people see, who answers where no rule says otherwise, and whether it is meant where none is named.

    Another route stops being the default one; that none is, nobody can ask for.
    """
    require(actor, MODELS_OPERATE)
    route = selectors.route_by_id(route_id)
    before, kind = _route_shown(route), route.deployment.version.kind
    route.label = words.clean_name(label, field="label", most=100)
    route.deployment = _deployment(deployment_id, kind)
    if route.is_default and not is_default:
        message = _("Choose another route as the default one instead.")
        raise Refused("default_needed", message, "is_default")
    if is_default and not route.is_default:
        Route.objects.filter(is_default=True).update(is_default=False)
        route.is_default = True
    route.save()
    old, new = difference(before, _route_shown(route))
    if new:
        record_change(
            actor, "route.changed", subject_id=route.pk, before=old, after=new, detail={"name": route.name}
        )
    return route


@change
def delete_route(*, actor: Actor, route_id: UUID) -> None:
    """With its rules and grants. What was asked on it stays recorded."""
    require(actor, MODELS_OPERATE)
    route = selectors.route_by_id(route_id)
    if route.is_default:
        raise Refused("default_needed", _("This is the default route. Make another one the default first."))
    before = {"name": route.name, **_route_shown(route)}
    route.delete()
    record_change(actor, "route.deleted", subject_id=route_id, before=before)


@change
def save_rule(
    *,
    actor: Actor,
    route_id: UUID,
    target_id: UUID | None,
    deployment_id: UUID,
    position: int,
    route_class: str,
    weight: int,
    enabled: bool,
    conditions: dict[str, Any],
) -> Target:
    """A new rule of the route, or another shape of an old one."""
    require(actor, MODELS_OPERATE)
    route = selectors.route_by_id(route_id)
    if target_id is None:
        if route.targets.count() >= RULES_MOST:
            raise Refused("rules_too_many", _("A route has at most %(most)s rules.") % {"most": RULES_MOST})
        target = Target(route=route)
    else:
        target = selectors.rule_by_id(route, target_id)
    before = _rule_shown(target) if target_id else {}
    _refuse_unless_among("position", position, POSITION_MOST)
    _refuse_unless_among("weight", weight, WEIGHT_MOST)
    if route_class and route_class not in RouteClass.values:
        raise Refused("class_unknown", _("There is no such class."), "route_class")
    target.deployment = _deployment(deployment_id, route.deployment.version.kind)
    target.position, target.weight, target.enabled = position, weight, enabled
    target.route_class, target.conditions = route_class, cleaned(conditions)
    target.save()
    old, new = difference(before, _rule_shown(target)) if before else ({}, _rule_shown(target))
    if new:
        kind = "route.rule_changed" if target_id else "route.rule_added"
        record_change(actor, kind, subject_id=route.pk, before=old, after=new, detail=_place(route, target))
    return target


@change
def remove_rule(*, actor: Actor, route_id: UUID, target_id: UUID) -> None:
    require(actor, MODELS_OPERATE)
    route = selectors.route_by_id(route_id)
    target = selectors.rule_by_id(route, target_id)
    before, place = _rule_shown(target), _place(route, target)
    target.delete()
    record_change(actor, "route.rule_removed", subject_id=route.pk, before=before, detail=place)


def _deployment(deployment_id: UUID, kind: str | None = None) -> Deployment:
    """One that routes may lead to. kind: of its version's, which a route keeps. Raises Refused."""
    found = selectors.deployments(kind).filter(pk=deployment_id).first()
    if found is None:
        raise Refused("deployment_unknown", _("There is no such deployment here."), "deployment_id")
    return found


def _refuse_unless_among(field: str, value: int, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        message = _("Enter a whole number from 1 to %(most)s.") % {"most": most}
        raise Refused("value_invalid", message, field)


def _route_shown(route: Route) -> dict[str, Any]:
    return {"label": route.label, "deployment": route.deployment.name, "is_default": route.is_default}


def _rule_shown(target: Target) -> dict[str, Any]:
    return {
        "deployment": target.deployment.name,
        "position": target.position,
        "class": target.route_class,
        "weight": target.weight,
        "enabled": target.enabled,
        "conditions": target.conditions,
    }


def _place(route: Route, target: Target) -> dict[str, Any]:
    return {"route": route.name, "rule": str(target.pk)}
