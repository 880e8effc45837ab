"""Who answers a request, and who after them: instances of the route's deployment, or of what a rollout puts in its place."""

from __future__ import annotations

from dataclasses import replace

from inference.client import InferenceClient
from inference.deployments.nowhere import Nowhere
from inference.deployments.selectors import endpoints_of
from inference.registry.models import Deployment, ModelVersion, Route
from inference.registry.selectors import Resolved, route_named
from inference.rollouts.models import Arm
from inference.rollouts.selectors import divert
from tenants.access import Actor

SHADOW = "shadow"


def resolve(
    actor: Actor,
    name: str | None,
    kind: ModelVersion.Kind | None = ModelVersion.Kind.TEXT,
    *,
    unit: str = "",
) -> Resolved:
    """Who answers on the route called `name`, or on the default one, to a model of that kind (None: of any).

    unit: what keeps to one side of a rollout, as a conversation; by default whoever asks. Needs the actor's tenant scope;
    raises RouteNotFound.
    """
    route = route_named(actor, name, kind)
    reason = "default" if name is None else "named"
    diverted = divert(route.deployment_id, f"{actor.tenant_id} {unit or actor.user_id or actor.api_key_id}")
    if diverted is None:
        return _in_turn(_of(route, route.deployment, reason))
    chosen = [
        replace(each, rollout_id=diverted.rollout_id, arm=diverted.arm.value)
        for each in _of(route, diverted.deployment, reason if diverted.arm == Arm.BASELINE else "rollout")
    ]
    if diverted.arm == Arm.CANDIDATE:
        # One look at the candidate is enough: what it does not answer, the baseline does.
        return _in_turn([*chosen[:1], *_of(route, route.deployment, "rollout_failed")])
    resolved = _in_turn(chosen)
    if diverted.shadow is not None:
        copy = _of(route, diverted.shadow, SHADOW)[0]
        resolved = replace(resolved, shadow=replace(copy, rollout_id=diverted.rollout_id, arm=SHADOW))
    return resolved


def _in_turn(found: list[Resolved]) -> Resolved:
    return replace(found[0], others=tuple(found[1:]))


def _of(route: Route, deployment: Deployment, reason: str) -> list[Resolved]:
    """Every place that answers for a deployment, the best first; one that says so where there is none."""
    places: list[InferenceClient] = [each.client for each in endpoints_of(deployment)] or [Nowhere()]
    version = deployment.version
    context = version.context_tokens
    return [
        Resolved(
            route=route.name,
            route_id=route.pk,
            reason=reason,
            model=version.name,
            version=version.label,
            deployment=deployment.name,
            served_id=deployment.served_id,
            context_tokens=min(context, deployment.max_context or context),
            client=client,
            deployment_id=deployment.pk,
        )
        for client in places
    ]
