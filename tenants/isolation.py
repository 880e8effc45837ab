"""Row-level security and grants, derived from the models, and the proof that they hold.

`apply` runs as the migrating owner after every migration; `violations` runs as the application's role and names what
is not as it must be. The web and worker processes refuse to start on any violation.
"""

import re
from collections.abc import Iterator

from django.apps import apps
from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg import sql

from tenants.models import TenantOwned

APPLICATION_ROLE = "custos_app"
OWN_ROWS = "tenant_id = nullif(current_setting('custos.tenant', true), '')::uuid"
READ_ONLY_TABLES = frozenset({"django_migrations", "django_content_type", "auth_permission"})
ALL = "SELECT, INSERT, UPDATE, DELETE"


def isolated_models() -> list[type[TenantOwned]]:
    """Every concrete model whose rows belong to a tenant."""
    return [model for model in apps.get_models(include_auto_created=True) if issubclass(model, TenantOwned)]


def apply(connection: BaseDatabaseWrapper) -> None:
    """Enable and force row-level security on every tenant table and grant the application's role just what it needs.

    Idempotent. `connection` is the owner's.
    """
    with connection.cursor() as cursor:
        for statement in _statements(connection):
            cursor.execute(statement)


def _statements(connection: BaseDatabaseWrapper) -> Iterator[sql.Composed]:
    role = sql.Identifier(APPLICATION_ROLE)
    isolated = {model._meta.db_table: model for model in isolated_models()}
    yield sql.SQL("GRANT USAGE ON SCHEMA public TO {}").format(role)
    # A temporary table could stand before one of ours in its session.
    database = sql.Identifier(connection.settings_dict["NAME"])
    yield sql.SQL("REVOKE TEMPORARY ON DATABASE {} FROM PUBLIC, {}").format(database, role)
    for function in ("tenants_destroy_keys(uuid)", "tenants_destroy_key(text, date, text)"):
        yield sql.SQL("GRANT EXECUTE ON FUNCTION {} TO {}").format(sql.SQL(function), role)
    yield sql.SQL("GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {}").format(role)
    with connection.cursor() as cursor:
        # Partitions get their rights through their parent alone.
        cursor.execute(
            "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace "
            "AND relkind IN ('r', 'p') AND NOT relispartition"
        )
        tables = [row[0] for row in cursor.fetchall()]
    rights = {
        model._meta.db_table: privileges_of(model) for model in apps.get_models(include_auto_created=True)
    }
    for name in tables:
        table = sql.Identifier(name)
        privileges = "SELECT" if name in READ_ONLY_TABLES else rights.get(name, ALL)
        yield sql.SQL("REVOKE ALL ON {} FROM {}").format(table, role)
        yield sql.SQL("GRANT {} ON {} TO {}").format(sql.SQL(privileges), table, role)
        if name in isolated:
            yield from row_security(name, also_visible=isolated[name].also_visible)


def row_security(name: str, *, also_visible: str = "") -> Iterator[sql.Composed]:
    """The statements that wall off one table by tenant."""
    table = sql.Identifier(name)
    yield sql.SQL("ALTER TABLE {} ENABLE ROW LEVEL SECURITY").format(table)
    yield sql.SQL("ALTER TABLE {} FORCE ROW LEVEL SECURITY").format(table)
    yield sql.SQL("DROP POLICY IF EXISTS own_rows ON {}").format(table)
    yield sql.SQL("CREATE POLICY own_rows ON {} USING ({own}) WITH CHECK ({own})").format(
        table, own=sql.SQL(OWN_ROWS)
    )
    yield sql.SQL("DROP POLICY IF EXISTS also_visible ON {}").format(table)
    if also_visible:
        yield sql.SQL("CREATE POLICY also_visible ON {} FOR SELECT USING ({})").format(
            table, sql.SQL(also_visible)
        )


def privileges_of(model: type[models.Model]) -> str:
    """What the application's role may do with the model's table, as SQL names it."""
    return getattr(model, "privileges", ALL)


def violations(connection: BaseDatabaseWrapper) -> list[str]:
    """What is wrong with the isolation as the application's own connection sees it; empty when all is well."""
    found = []
    with connection.cursor() as cursor:
        cursor.execute("SELECT rolname, rolsuper, rolbypassrls FROM pg_roles WHERE rolname = current_user")
        name, is_superuser, bypasses = cursor.fetchone()
        if is_superuser or bypasses:
            found.append(f"the application's database role {name} may bypass row-level security")
        cursor.execute(
            "SELECT relname, relrowsecurity AND relforcerowsecurity, pg_has_role(current_user, relowner, 'MEMBER'), "
            "EXISTS (SELECT 1 FROM pg_policy WHERE polrelid = pg_class.oid AND polname = 'own_rows') "
            "FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')"
        )
        state = {row[0]: row[1:] for row in cursor.fetchall()}
        cursor.execute("SELECT tgname, tgrelid::regclass::text FROM pg_trigger WHERE tgenabled = 'D'")
        found += [f"the trigger {trigger} of {table} is switched off: enable it" for trigger, table in cursor]
    for table, (_, owns, _policy) in sorted(state.items()):
        if owns:
            found.append(f"the application's database role {name} owns the table {table}")
    for model in isolated_models():
        table = model._meta.db_table
        if table not in state:
            found.append(f"the table {table} is missing: run manage.py prepare")
        elif not (state[table][0] and state[table][2]):
            found.append(f"the table {table} has no forced row-level security: run manage.py prepare")
        else:
            found += _differences(connection, model)
    return found


def _differences(connection: BaseDatabaseWrapper, model: type[TenantOwned]) -> Iterator[str]:
    """Where a table's policies and the application's rights on it are not those that `apply` gives."""
    table = model._meta.db_table
    wanted = {"own_rows": ("*", _plain(OWN_ROWS), _plain(OWN_ROWS))}
    if model.also_visible:
        wanted["also_visible"] = ("r", _plain(model.also_visible), "")
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT polname, polcmd::text, pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid) "
            "FROM pg_policy WHERE polrelid = %s::regclass",
            [table],
        )
        policies = {
            name: (what, _plain(reads or ""), _plain(writes or "")) for name, what, reads, writes in cursor
        }
        cursor.execute(
            "SELECT privilege FROM unnest(%s::text[]) AS privilege "
            "WHERE has_table_privilege(%s::regclass, privilege)",
            [["UPDATE", "DELETE", "TRUNCATE"], table],
        )
        rights = {row[0] for row in cursor}
    if policies != wanted:
        yield f"the table {table} has other row-level policies than its own: drop them, then manage.py prepare"
    if beyond := sorted(rights - set(privileges_of(model).split(", "))):
        yield f"the application's database role may {', '.join(beyond)} {table}: run manage.py prepare"


def _plain(condition: str) -> str:
    """An SQL condition without the brackets and casts that PostgreSQL adds when it shows one."""
    return re.sub(r"::\w+|[()\s]", "", condition).lower()
