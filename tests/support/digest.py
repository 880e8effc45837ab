"""A fingerprint of everything that a tenant has, to show that nothing of it changed."""

from functools import cache

from django.db import connection

from tenants import isolation
from tenants.models import Tenant
from tenants.scope import tenant_scope

_OWN = "SELECT t::text AS row FROM tenants_tenant t WHERE id = nullif(current_setting('custos.tenant'), '')::uuid"
_PEOPLE = "SELECT u::text AS row FROM tenants_user u JOIN tenants_membership m ON m.user_id = u.id"


def digest(tenant: Tenant) -> dict[str, str]:
    """By table: a hash of the tenant's rows, its own row and its people's included. One query."""
    with tenant_scope(tenant.pk), connection.cursor() as cursor:
        cursor.execute(_query())
        return dict(cursor.fetchall())


@cache
def _query() -> str:
    tables = [model._meta.db_table for model in isolation.isolated_models()]
    rows = {name: f'SELECT t::text AS row FROM "{name}" t' for name in tables}
    rows |= {"tenants_tenant": _OWN, "tenants_user": _PEOPLE}
    hashes = (
        f"SELECT '{name}', coalesce(md5(string_agg(row, '|' ORDER BY row)), '') FROM ({each}) AS rows"
        for name, each in rows.items()
    )
    return " UNION ALL ".join(hashes)
