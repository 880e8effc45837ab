"""Whether people and keys still have the access they started with, asked for many of them at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from uuid import UUID

from tenants.actors import Actor, permissions_of_keys, permissions_of_people
from tenants.scope import tenant_scope

Claim = tuple[Actor, str]  # An actor, and the permission it acts by.


def withdrawn(claims: Iterable[Claim]) -> set[Claim]:
    """Those claims that no longer hold: membership, key or role gone, user inactive, tenant suspended.

    At most two queries a tenant, each in that tenant's scope.
    """
    by_tenant: dict[UUID, set[Claim]] = defaultdict(set)
    for claim in claims:
        by_tenant[claim[0].tenant_id].add(claim)
    gone: set[Claim] = set()
    for tenant_id, of_tenant in by_tenant.items():
        held = _held(tenant_id, [actor for actor, _permission in of_tenant])
        gone |= {(a, p) for a, p in of_tenant if p not in held.get(a.api_key_id or a.user_id, frozenset())}
    return gone


def _held(tenant_id: UUID, actors: list[Actor]) -> dict[UUID | None, frozenset[str]]:
    """The permissions of each key, and of each user who acts without one, as they are now."""
    keys = {actor.api_key_id for actor in actors if actor.api_key_id}
    users = {actor.user_id for actor in actors if actor.user_id and not actor.api_key_id}
    held: dict[UUID | None, frozenset[str]] = {}
    with tenant_scope(tenant_id):
        if users:
            held.update(permissions_of_people(users))
        if keys:
            held.update(permissions_of_keys(keys))
    return held
