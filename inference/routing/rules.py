"""Which deployments a request may go to by its route's rules, the best first, and why.

Within one position a request keeps to one deployment, and within a deployment to one instance, by rendezvous hashing over
its tenant and its head: what they have cached of the prompt is used again, each gets its share by weight, and when one
goes only its own requests move. One that is much busier than the least busy is passed over.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from hashlib import sha256
from itertools import groupby
from operator import attrgetter

from inference.deployments.selectors import Endpoint, endpoints_of
from inference.registry.models import Deployment, Route
from inference.routing import circuits, conditions
from inference.routing.ask import Ask
from inference.routing.models import Target
from tenants.access import Actor
from tenants.groups import group_ids_of

# Of the capacity: more than this above the least busy one, and what is cached is not worth the wait.
MUCH = 0.5


class NoSuchClass(Exception):
    """A class was asked for that no rule of the route offers to this request."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A deployment that may answer. reason: words of `reasons`, why it is this one."""

    deployment: Deployment
    endpoints: list[Endpoint]
    reason: str = ""


def ranked(actor: Actor, route: Route, ask: Ask) -> list[Choice]:
    """Never empty. The route's own deployment answers what no rule sends elsewhere, and what those cannot.

    One that is left alone or has no instance that is ready comes only where there is no other. Raises NoSuchClass.
    """
    key = f"{actor.tenant_id} {ask.head}"
    targets = route.targets.filter(enabled=True, deployment__enabled=True).order_by("position", "pk")
    if ask.wanted:
        targets = targets.filter(route_class=ask.wanted)
    groups = cache(lambda: group_ids_of(actor.user_id))
    holding = [
        target
        for target in targets.select_related("deployment__version__model")
        if conditions.hold(target.conditions, ask, groups)
    ]
    if ask.wanted and not holding:
        raise NoSuchClass(ask.wanted)
    found: list[Choice] = []
    for _position, several in groupby(holding, key=attrgetter("position")):
        found += _by_weight(key, list(several), ask)
    if not ask.wanted:
        found.append(
            _choice(route.deployment, "no_rule" if route.targets.exists() and not holding else "", key)
        )
    return _healthy(_once(found))


def in_order(key: str, endpoints: Sequence[Endpoint]) -> list[Endpoint]:
    """Those that are ready first; of them the one that the key keeps to, unless it is much busier."""
    ready = [each for each in endpoints if each.is_ready]
    least = min((each.load for each in ready), default=0.0)
    return sorted(
        endpoints,
        key=lambda each: (not each.is_ready, each.load > least + MUCH, -_draw(key, str(each.instance))),
    )


def _by_weight(key: str, targets: list[Target], ask: Ask) -> list[Choice]:
    choices = [(target, _choice(target.deployment, _reason(target, ask), key)) for target in targets]
    loads = {target.pk: choice.endpoints[0].load for target, choice in choices if choice.endpoints}
    least = min(loads.values(), default=0.0)
    choices.sort(
        key=lambda each: (
            loads.get(each[0].pk, 0.0) > least + MUCH,
            -_draw(key, str(each[0].deployment_id), each[0].weight),
        )
    )
    return [choice for _target, choice in choices]


def _choice(deployment: Deployment, reason: str, key: str) -> Choice:
    return Choice(deployment, in_order(key, endpoints_of(deployment)), reason)


def _reason(target: Target, ask: Ask) -> str:
    words = [f"rule:{target.position}"]
    if target.route_class:
        words.append(f"{target.route_class}{':asked' if ask.wanted else ''}")
    if "difficulty_below" in target.conditions and not ask.wanted:
        words.append(f"difficulty:{ask.difficulty:g}<{target.conditions['difficulty_below']:g}")
    elif target.route_class and not ask.wanted:
        words.append(f"difficulty:{ask.difficulty:g}")
    return " ".join(words)


def _once(found: list[Choice]) -> list[Choice]:
    """Each deployment where it comes first."""
    firsts: dict[object, Choice] = {}
    for choice in found:
        firsts.setdefault(choice.deployment.pk, choice)
    return list(firsts.values())


def _healthy(found: list[Choice]) -> list[Choice]:
    if len(found) == 1:
        return found  # Nobody else could answer.
    states = circuits.states_of([choice.deployment.pk for choice in found])
    kept: list[Choice] = []
    for choice in found:
        state = states[choice.deployment.pk]
        if not any(each.is_ready for each in choice.endpoints) or state == circuits.State.OPEN:
            continue
        if state == circuits.State.HALF_OPEN and (kept or not circuits.take_probe(choice.deployment.pk)):
            continue
        kept.append(choice)
    if not kept:
        return found
    if kept[0] is not found[0]:
        kept[0] = replace(kept[0], reason=f"{kept[0].reason} instead_of:{found[0].deployment.name}".strip())
    return kept


def _draw(key: str, name: str, weight: int = 1) -> float:
    """A number that is the same each time; the largest of several is each one's by the share of its weight."""
    number = int.from_bytes(sha256(f"{key} {name}".encode()).digest()[:8], "big")
    return -weight / math.log((number + 1) / (2**64 + 1))
