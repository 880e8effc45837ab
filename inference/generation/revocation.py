"""Whether people and keys still have the access they started with, asked for many of them at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple
from uuid import UUID

from tenants.access import Need, lost
from tenants.actors import Actor, permissions_of_keys, permissions_of_people
from tenants.scope import tenant_scope


class Claim(NamedTuple):
    """An actor, the permission they act by, and the objects that what they do depends on."""

    actor: Actor
    permission: str
    needs: frozenset[Need] = frozenset()


def withdrawn(claims: Iterable[Claim]) -> set[Claim]:
    """Those claims that no longer hold: membership, key or role gone, user inactive, tenant suspended, grant taken back.

    A few queries a tenant, each in that tenant's scope, however many claims there are: who may still act, then, if
    anything depends on objects, two for the grants.
    """
    by_tenant: dict[UUID, set[Claim]] = defaultdict(set)
    for claim in claims:
        by_tenant[claim.actor.tenant_id].add(claim)
    gone: set[Claim] = set()
    for tenant_id, of_tenant in by_tenant.items():
        with tenant_scope(tenant_id):
            gone |= _withdrawn_in(tenant_id, of_tenant)
    return gone


def _withdrawn_in(tenant_id: UUID, claims: set[Claim]) -> set[Claim]:
    held = _held([claim.actor for claim in claims])
    gone = {
        c for c in claims if c.permission not in held.get(c.actor.api_key_id or c.actor.user_id, frozenset())
    }
    unmet = lost(tenant_id, [(claim.actor, need) for claim in claims - gone for need in claim.needs])
    return gone | {c for c in claims - gone if any((c.actor, need) in unmet for need in c.needs)}


def _held(actors: list[Actor]) -> dict[UUID | None, frozenset[str]]:
    """The permissions of each key, and of each user who acts without one, as they are now."""
    keys = {actor.api_key_id for actor in actors if actor.api_key_id}
    users = {actor.user_id for actor in actors if actor.user_id and not actor.api_key_id}
    of_people = permissions_of_people(users) if users else {}
    of_keys = permissions_of_keys(keys) if keys else {}
    return {who: may for found in (of_people, of_keys) for who, may in found.items()}
