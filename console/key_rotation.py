"""Rotations of keys as the pages, the worker and `manage.py keys` carry them out, across tenants.

What is begun here can be cut off at any moment: the worker goes on with it within a minute.
"""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from uuid import UUID

from console.sign_in import factors_rotation
from tenants.actors import Actor, NotVisible, platform_actor, system_actor
from tenants.keyring import data_keys, providers, rotation, shards
from tenants.keyring.errors import KeysUnavailable, Tampered
from tenants.models import Tenant, User

logger = logging.getLogger(__name__)

ActorOf = Callable[[Tenant], Actor]


@dataclass(frozen=True, slots=True)
class Progress:
    """One tenant was attended to. error: why it could not be, "" when it was."""

    done: int
    total: int
    slug: str
    error: str = ""


def by_system(label: str) -> ActorOf:
    return lambda tenant: system_actor(tenant, label)


def by_administrator(user_id: UUID) -> ActorOf:
    """Raises NotVisible when the person is no platform administrator any more."""
    user = User.objects.filter(pk=user_id).first()
    if user is None:
        raise NotVisible("platform")
    return lambda tenant: platform_actor(user=user, tenant=tenant)


def go_on(actor_of: ActorOf, *, moves: bool = False) -> Iterator[Progress]:
    """Wrap anew whatever is left to wrap, one tenant after the other; a failure of one stops no other.

    moves: also what another provider than the configured one has wrapped. Raises KeysUnavailable when that is away.
    """
    providers.provider().key_id()
    found = rotation.tenants()
    for done, tenant in enumerate(found, start=1):
        error = ""
        try:
            rotation.go_on(actor_of(tenant), moves=moves)
        except (KeysUnavailable, Tampered) as failure:
            error = str(failure)
        yield Progress(done, len(found), tenant.slug, error)
    if rotation.finish_master():
        factors_rotation.reseal()


def tend() -> None:
    """What the worker does every minute: go on with rotations, and remove shards that a crash left behind."""
    for tenant_id in shards.tenant_ids():
        tenant = Tenant.objects.filter(pk=tenant_id).first()
        if tenant is None:
            continue  # Of another database, or of one that is being restored: not ours to judge.
        if tenant.status == Tenant.Status.DELETED:
            shards.remove_all(tenant_id)
        else:
            data_keys.sweep(tenant_id)
    try:
        for progress in go_on(by_system("key rotation")):
            if progress.error:
                logger.error("the keys of %s were not wrapped anew: %s", progress.slug, progress.error)
    except KeysUnavailable as error:
        logger.warning("no rotation of keys goes on: %s", error)
