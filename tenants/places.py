"""Which groups people are in, nested and for everyone, as SQL: so that lists of objects stay one query.

`tenants.groups` answers the same for pages, one person at a time; a test holds the two together.
"""

from collections import defaultdict
from collections.abc import Collection
from typing import Any
from uuid import UUID

from django.db import connection
from django.db.models import UUIDField
from django.db.models.expressions import RawSQL

# UNION drops what was found before, so that even a circle of groups comes to an end.
_PLACES = """
WITH RECURSIVE place (user_id, group_id) AS (
    SELECT membership.user_id, inside.group_id
    FROM tenants_groupmember inside JOIN tenants_membership membership ON membership.id = inside.membership_id
    WHERE inside.tenant_id = %s AND membership.tenant_id = %s AND membership.disabled IS NULL
      AND membership.user_id = ANY(%s)
  UNION
    SELECT place.user_id, below.parent_id
    FROM place JOIN tenants_group below ON below.id = place.group_id
    WHERE below.tenant_id = %s AND below.parent_id IS NOT NULL
)
"""
_OF_ONE = (
    _PLACES
    + "SELECT group_id FROM place UNION ALL SELECT id FROM tenants_group WHERE tenant_id = %s AND is_everyone"
)
_OF_MANY = (
    _PLACES + "SELECT user_id, group_id FROM place "
    "UNION ALL SELECT NULL, id FROM tenants_group WHERE tenant_id = %s AND is_everyone"
)


def groups_in_sql(tenant_id: UUID, user_id: UUID | None) -> RawSQL:
    """A subquery of the ids of all groups that a person is in; of everyone's alone without a person."""
    return RawSQL(_OF_ONE, _parameters(tenant_id, [user_id] if user_id else []), output_field=UUIDField())


def groups_of_people(tenant_id: UUID, user_ids: Collection[UUID]) -> dict[UUID | None, set[UUID]]:
    """The groups of each of these people, and under None those that everybody and every program is in. One query."""
    found: dict[UUID | None, set[UUID]] = defaultdict(set)
    with connection.cursor() as cursor:
        cursor.execute(_OF_MANY, _parameters(tenant_id, user_ids))
        for user_id, group_id in cursor:
            found[user_id].add(group_id)
    return found


def _parameters(tenant_id: UUID, user_ids: Collection[UUID]) -> list[Any]:
    return [tenant_id, tenant_id, list(user_ids), tenant_id, tenant_id]
