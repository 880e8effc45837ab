"""Events that belong to a case are hidden from everybody outside of it: in lists, counts, searches and errors alike.

To tell somebody that they are looked into is an offence of its own (tipping off), and their colleagues may be friends.
The cases lie above this module, so they register who is inside of which.
"""

from collections.abc import Callable, Collection
from uuid import UUID

from django.db.models import Q, QuerySet

from audit.models import AuditRecord
from tenants.access import Actor

_cases_of: Callable[[Actor], Collection[UUID]] | None = None


def register(cases_of: Callable[[Actor], Collection[UUID]]) -> None:
    """What tells the ids of the cases that an actor is inside of; called within the tenant's scope."""
    global _cases_of
    _cases_of = cases_of


def visible(actor: Actor, records: QuerySet[AuditRecord]) -> QuerySet[AuditRecord]:
    """The records that exist for this actor. Inside the tenant's scope."""
    inside = _cases_of(actor) if _cases_of else ()
    return records.filter(Q(confined_to=None) | Q(confined_to__in=inside) if inside else Q(confined_to=None))
