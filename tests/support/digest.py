"""A fingerprint of everything that a tenant has, to show that nothing of it changed."""

from django.db import connection

from tenants import isolation
from tenants.models import Tenant
from tenants.scope import tenant_scope


def digest(tenant: Tenant) -> dict[str, str]:
    """By table: a hash of the tenant's rows, its own row and its people's included."""
    with tenant_scope(tenant.pk), connection.cursor() as cursor:
        found = {}
        for model in isolation.isolated_models():
            name = connection.ops.quote_name(model._meta.db_table)
            found[model._meta.db_table] = _hash(cursor, f"SELECT t::text AS row FROM {name} t")
        own = "SELECT t::text AS row FROM tenants_tenant t WHERE id = nullif(current_setting('custos.tenant'), '')::uuid"
        people = "SELECT u::text AS row FROM tenants_user u JOIN tenants_membership m ON m.user_id = u.id"
        return found | {"tenants_tenant": _hash(cursor, own), "tenants_user": _hash(cursor, people)}


def _hash(cursor: object, rows: str) -> str:
    cursor.execute(f"SELECT coalesce(md5(string_agg(row, '|' ORDER BY row)), '') FROM ({rows}) AS rows")
    return cursor.fetchone()[0]
