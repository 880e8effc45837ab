"""The walls around the audit tables, tried as the application's own role and by raw SQL."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
from django.db import Error, ProgrammingError, connection
from django_scopes import ScopeError, scopes_disabled

from audit import record
from audit.models import AuditChunk, AuditCompletion, AuditRecord
from audit.record import AuditUnavailable, Handle
from tenants.access import Actor
from tenants.scope import tenant_scope
from tests.audit.conftest import begin, generation

pytestmark = pytest.mark.django_db(transaction=True)

TABLES = ("audit_record", "audit_chunk", "audit_completion")
MODELS = (AuditRecord, AuditChunk, AuditCompletion)


@contextmanager
def denied() -> Iterator[None]:
    with pytest.raises(ProgrammingError, match="permission denied"):
        yield


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE {} SET created = now()",
        "DELETE FROM {}",
        "TRUNCATE {}",
        "ALTER TABLE {} DISABLE ROW LEVEL SECURITY",
        "ALTER TABLE {} DISABLE TRIGGER ALL",
        "DROP TABLE {}",
        "INSERT INTO {0} SELECT * FROM {0} ON CONFLICT (day, {1}) DO UPDATE SET created = now()",
    ],
)
def test_rows_once_written_stay_as_they_are(member: Actor, table: str, statement: str) -> None:
    generation(member)
    key = {"audit_record": "id", "audit_chunk": "request_id, seq", "audit_completion": "request_id"}[table]
    refused = pytest.raises(ProgrammingError, match=r"permission denied|must be owner")
    with refused, tenant_scope(member.tenant_id), connection.cursor() as cursor:
        cursor.execute(statement.format(table, key))


@pytest.mark.parametrize("model", MODELS)
def test_another_tenants_rows_are_invisible_with_the_scoped_managers_off(
    member: Actor, outsider: Actor, model: type
) -> None:
    generation(member)
    with tenant_scope(outsider.tenant_id), scopes_disabled():
        assert not model._base_manager.exists()
    with tenant_scope(member.tenant_id), scopes_disabled():
        assert model._base_manager.exists()


@pytest.mark.parametrize("model", MODELS)
def test_another_tenants_rows_are_invisible_with_row_level_security_off(
    member: Actor, outsider: Actor, owner: psycopg.Connection, model: type
) -> None:
    """The scoped managers alone: what the tables show once their policies are gone."""
    generation(member)
    table = model._meta.db_table
    owner.execute(f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY")
    try:
        with tenant_scope(outsider.tenant_id):
            assert model._base_manager.exists(), "the wall must be down for this test to mean anything"
            assert not model.objects.exists()
    finally:
        owner.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")


@pytest.mark.parametrize("table", TABLES)
def test_another_tenants_rows_are_invisible_to_raw_sql(member: Actor, outsider: Actor, table: str) -> None:
    generation(member)
    with tenant_scope(outsider.tenant_id), connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM {table} WHERE tenant_id = %s", [member.tenant_id])
        assert cursor.fetchone() == (0,)
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM {table}")
        assert cursor.fetchone() == (0,), "without a tenant nothing is visible"


@pytest.mark.parametrize("model", MODELS)
def test_a_query_without_a_tenant_raises(db: None, model: type) -> None:
    with pytest.raises(ScopeError):
        model.objects.exists()


@pytest.mark.parametrize("model", MODELS)
def test_nothing_can_be_written_for_another_tenant(
    member: Actor, outsider: Actor, owner: psycopg.Connection, model: type
) -> None:
    """A copy of a tenant's row, from inside another tenant's scope, with nothing but row security in the way."""
    generation(member)
    with tenant_scope(member.tenant_id):
        row = model.objects.first()
    owner.execute(f"ALTER TABLE {model._meta.db_table} DISABLE TRIGGER guard")
    try:
        refused = pytest.raises(ProgrammingError, match="row-level security")
        with refused, tenant_scope(outsider.tenant_id):
            row.save(force_insert=True)
    finally:
        owner.execute(f"ALTER TABLE {model._meta.db_table} ENABLE TRIGGER guard")


def test_nothing_can_be_added_to_another_tenants_record(member: Actor, outsider: Actor) -> None:
    handle = begin(member)
    stolen = Handle(outsider.tenant_id, handle.request_id)
    with pytest.raises(AuditUnavailable):
        record.append(stolen, seq=1, text="x")
    with pytest.raises(AuditUnavailable):
        record.complete(stolen, status="completed")
    with tenant_scope(member.tenant_id):
        assert not AuditChunk.objects.exists()
        assert not AuditCompletion.objects.exists()


@pytest.mark.parametrize("table", TABLES)
def test_partitions_cannot_be_reached_past_their_parent(member: Actor, table: str) -> None:
    handle = generation(member)
    partition = f"{table}_{handle.day:%Y%m%d}"
    for statement in (
        f"SELECT * FROM {partition}",
        f"INSERT INTO {partition} SELECT * FROM {table}",
        f"DELETE FROM {partition}",
    ):
        with denied(), tenant_scope(member.tenant_id), connection.cursor() as cursor:
            cursor.execute(statement)


@pytest.mark.parametrize("table", TABLES)
def test_a_partition_has_walls_of_its_own(
    member: Actor, outsider: Actor, owner: psycopg.Connection, table: str
) -> None:
    """Should a right on a partition ever be given by mistake, it still shows each tenant its own rows only."""
    handle = generation(member)
    partition = f"{table}_{handle.day:%Y%m%d}"
    owner.execute(f"GRANT SELECT ON {partition} TO custos_app")
    try:
        seen = []
        for tenant_id in (member.tenant_id, outsider.tenant_id):
            with tenant_scope(tenant_id), connection.cursor() as cursor:
                cursor.execute(f"SELECT count(*) FROM {partition}")
                seen.append(cursor.fetchone()[0])
        assert seen[0] > 0
        assert seen[1] == 0
    finally:
        owner.execute(f"REVOKE SELECT ON {partition} FROM custos_app")


def test_a_partition_is_made_for_days_near_today_only(db: None) -> None:
    for days in ("- 2", "+ 8"):
        with pytest.raises(Error, match="not near today"), connection.cursor() as cursor:
            cursor.execute(f"SELECT audit_ensure_partition((now() AT TIME ZONE 'UTC')::date {days})")


def test_others_may_not_make_partitions(owner: psycopg.Connection) -> None:
    owner.execute("CREATE ROLE nobody_in_particular")
    try:
        right = "SELECT has_function_privilege(%s, 'audit_ensure_partition(date)', 'EXECUTE')"
        assert owner.execute(right, ["nobody_in_particular"]).fetchone() == (False,)
        assert owner.execute(right, ["custos_app"]).fetchone() == (True,)
    finally:
        owner.execute("DROP ROLE nobody_in_particular")


def test_the_partition_maker_is_not_led_astray_by_the_callers_search_path(
    member: Actor, owner: psycopg.Connection
) -> None:
    settings = owner.execute("SELECT proconfig FROM pg_proc WHERE proname = 'audit_ensure_partition'")
    assert settings.fetchone() == (["search_path=pg_catalog, public, pg_temp"],)
    # As the owner: the application's role cannot make temporary tables in the first place.
    owner.execute("CREATE TEMP TABLE audit_record (day date)")
    owner.execute("SET search_path = pg_temp, public")
    owner.execute("SELECT audit_ensure_partition((now() AT TIME ZONE 'UTC')::date + 6)")
    owner.execute("RESET search_path")
    owner.execute("DROP TABLE pg_temp.audit_record")
    made = owner.execute(
        "SELECT count(*) FROM pg_inherits WHERE inhrelid = to_regclass('public.audit_record_' || "
        "to_char((now() AT TIME ZONE 'UTC')::date + 6, 'YYYYMMDD'))"
    )
    assert made.fetchone() == (1,)
