"""Who answers a request, and who after them: instances of what its rules choose, or of what a rollout puts in its place."""

from __future__ import annotations

from dataclasses import replace

from inference.client import InferenceClient
from inference.deployments.nowhere import Nowhere
from inference.deployments.selectors import endpoints_of
from inference.registry.models import Deployment, ModelVersion, Route
from inference.registry.selectors import Resolved, RouteNotFound, route_named
from inference.rollouts.models import Arm
from inference.rollouts.selectors import divert
from inference.routing.ask import Ask
from inference.routing.rules import Choice, NoSuchClass, in_order, ranked
from tenants.access import Actor

SHADOW = "shadow"


def resolve(
    actor: Actor,
    name: str | None,
    kind: ModelVersion.Kind | None = ModelVersion.Kind.TEXT,
    *,
    ask: Ask | None = None,
    unit: str = "",
) -> Resolved:
    """Who answers on the route called `name`, or on the default one, to a model of that kind (None: of any).

    ask: what the route's rules go by; None: nothing is known of the request, and the route's own deployment answers.
    unit: what keeps to one side of a rollout, as a conversation; by default whoever asks. Needs the actor's tenant scope;
    raises RouteNotFound, also for a class that the route does not offer.
    """
    route = route_named(actor, name, kind)
    asked = "default" if name is None else "named"
    if ask is None:
        choices, key = [Choice(route.deployment, endpoints_of(route.deployment))], ""
    else:
        key = f"{actor.tenant_id} {ask.head}"
        try:
            choices = ranked(actor, route, ask)
        except NoSuchClass as error:
            raise RouteNotFound(name or "") from error
    first, *rest = choices
    after = [each for choice in rest for each in _of(route, choice, _reason(asked, choice.reason))]
    reason = _reason(asked, first.reason)
    diverted = divert(first.deployment.pk, f"{actor.tenant_id} {unit or actor.user_id or actor.api_key_id}")
    if diverted is None:
        return _in_turn([*_of(route, first, reason), *after])
    is_candidate = diverted.arm == Arm.CANDIDATE
    chosen = [
        replace(each, rollout_id=diverted.rollout_id, arm=diverted.arm.value)
        for each in _of(route, _whole(diverted.deployment, key), "rollout" if is_candidate else reason)
    ]
    if is_candidate:
        # One look at the candidate is enough: what it does not answer, the baseline does.
        return _in_turn([*chosen[:1], *_of(route, first, "rollout_failed"), *after])
    resolved = _in_turn([*chosen, *after])
    if diverted.shadow is not None:
        copy = _of(route, _whole(diverted.shadow, key), SHADOW)[0]
        resolved = replace(resolved, shadow=replace(copy, rollout_id=diverted.rollout_id, arm=SHADOW))
    return resolved


def _reason(asked: str, why: str) -> str:
    """How the route was found, and by which of its rules; see `rules.Choice`."""
    return f"{asked} {why}".strip()


def _whole(deployment: Deployment, key: str) -> Choice:
    return Choice(deployment, in_order(key, endpoints_of(deployment)))


def _in_turn(found: list[Resolved]) -> Resolved:
    return replace(found[0], others=tuple(found[1:]))


def _of(route: Route, choice: Choice, reason: str) -> list[Resolved]:
    """Every place that answers for a deployment, the best first; one that says so where there is none."""
    deployment = choice.deployment
    places: list[InferenceClient] = [each.client for each in choice.endpoints] or [Nowhere()]
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
