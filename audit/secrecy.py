"""Events that belong to a case or a review are hidden from everybody outside of it: in lists, counts, searches and errors.

To tell somebody that they are looked into is an offence of its own (tipping off), and their colleagues may be friends.
Cases and reviews lie above this module, so they register who is inside of which.
"""

from collections.abc import Callable, Collection
from uuid import UUID

from django.db.models import Q, QuerySet

from audit.models import AuditRecord
from tenants.access import Actor

_insides: list[Callable[[Actor], Collection[UUID]]] = []


def register(inside_of: Callable[[Actor], Collection[UUID]]) -> None:
    """What tells the ids of the cases, or reviews, that an actor is inside of; called within the tenant's scope."""
    if inside_of not in _insides:
        _insides.append(inside_of)


def inside(actor: Actor) -> set[UUID]:
    """Everything that the actor is inside of. Inside the tenant's scope."""
    return {found for inside_of in _insides for found in inside_of(actor)}


def visible(actor: Actor, records: QuerySet[AuditRecord]) -> QuerySet[AuditRecord]:
    """The records that exist for this actor. Inside the tenant's scope."""
    known = inside(actor)
    return records.filter(Q(confined_to=None) | Q(confined_to__in=known) if known else Q(confined_to=None))
