"""A database of the first landing comes to where it is now with its keys at work, and back."""

from collections.abc import Iterator
from hashlib import sha256
from uuid import uuid4

import psycopg
import pytest
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.executor import MigrationExecutor
from psycopg import sql

from tests.support.services import Services

FIRST, KEYS = ("tenants", "0001_initial"), ("tenants", "0003_owners_of_keys")


@pytest.fixture
def other_database(services: Services, transactional_db: None) -> Iterator[BaseDatabaseWrapper]:
    """An empty database in the place of the one of the tests, as its owner sees it."""
    name, before = f"old_{uuid4().hex[:12]}", connections["owner"]
    wrapper = type(before)({**before.settings_dict, "NAME": name}, alias="owner")
    with psycopg.connect(services.postgres.url, autocommit=True) as owner:
        owner.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        connections["owner"] = wrapper
        try:
            yield wrapper
        finally:
            connections["owner"] = before
            wrapper.close()
            owner.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(name)))


def migrate(connection: BaseDatabaseWrapper, target: tuple[str, str]) -> None:
    MigrationExecutor(connection).migrate([target])


@pytest.mark.django_db(databases=["default", "owner"], transaction=True)
def test_old_keys_get_an_owner_and_the_scope_they_had(other_database: BaseDatabaseWrapper) -> None:
    tenants = {"acme": uuid4(), "north": uuid4(), "empty": uuid4()}
    migrate(other_database, FIRST)
    with other_database.cursor() as cursor:
        for slug, key in tenants.items():
            cursor.execute(
                "INSERT INTO tenants_tenant (id, slug, name, status, created) VALUES (%s, %s, %s, 'active', now())",
                [key, slug, slug],
            )
        for slug, name, revoked in (("acme", "a", None), ("acme", "b", "2026-01-01"), ("north", "a", None)):
            cursor.execute(
                "INSERT INTO tenants_apikey (id, tenant_id, name, prefix, secret_hash, created, revoked) "
                "VALUES (%s, %s, %s, %s, %s, now(), %s)",
                [uuid4(), tenants[slug], name, uuid4().hex[:12], sha256(b"x").digest(), revoked],
            )
        for table in ("tenants_apikey", "tenants_membership"):  # As `prepare` leaves them.
            cursor.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")
    migrate(other_database, KEYS)
    with other_database.cursor() as cursor:
        cursor.execute(
            "SELECT t.slug, k.name, k.scopes, a.name, a.role, a.tenant_id = k.tenant_id, k.revoked IS NULL "
            "FROM tenants_apikey k JOIN tenants_tenant t ON t.id = k.tenant_id "
            "JOIN tenants_serviceaccount a ON a.id = k.service_account_id ORDER BY 1, 2"
        )
        assert cursor.fetchall() == [
            ("acme", "a", ["inference"], "a", "member", True, True),
            ("acme", "b", ["inference"], "b", "member", True, False),
            ("north", "a", ["inference"], "a", "member", True, True),
        ]
        for table in ("tenants_tenantsettings", "tenants_group"):
            cursor.execute(f"SELECT count(DISTINCT tenant_id), count(*) FROM {table}")
            assert cursor.fetchone() == (3, 3), table
    migrate(other_database, FIRST)
    with other_database.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM tenants_apikey")
        assert cursor.fetchone() == (3,)
