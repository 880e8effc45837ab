"""What every test stands on: the migrated database under the plain role, two tenants and their people.

Acme Bank and North Fund each have an administrator, a member and a reviewer; `stranger` belongs to neither.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any

import psycopg
import pytest
from django.contrib.auth.hashers import make_password
from django.db import connections
from django.test import Client, TransactionTestCase
from django.utils import translation

from console.management.commands.prepare import prepare_schema
from tenants import envelope, lifecycle
from tenants.access import Actor, actor_for_user
from tenants.models import Membership, Tenant, User
from tenants.roles import Role
from tenants.scope import tenant_scope
from tests.support.services import Services
from tests.support.services import services as running_services

# The live chat and API: an inference process and a web process, started once for a run.
pytest_plugins = ["tests.chat.fixtures"]

PASSWORD = "correct horse battery staple"
PROVEN = {"email_verified": datetime(2026, 1, 1, tzinfo=UTC)}
KEPT_TABLES = {"django_migrations", "django_content_type", "auth_permission"}


@pytest.fixture(scope="session")
def services() -> Services:
    """The PostgreSQL and Valkey of this run."""
    return running_services


@pytest.fixture(scope="session")
def django_db_setup(django_db_blocker: pytest.FixtureRequest) -> Iterator[None]:
    """The schema, made by the owner as in production; tests then run as the plain role."""
    with django_db_blocker.unblock():
        prepare_schema(connections["owner"], verbosity=0)
        connections["owner"].close()
        running_services.keep_prepared()
    yield
    with django_db_blocker.unblock():
        connections.close_all()


# Much faster than to truncate all tables, of which a test fills few. The lock waits for whoever still writes.
EMPTY_TABLES = f"""
DO $$
DECLARE
    tables regclass[] := ARRAY(
        SELECT oid FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')
        AND relname <> ALL ('{{{", ".join(sorted(KEPT_TABLES))}}}')
    );
    each record;
BEGIN
    SET LOCAL session_replication_role = replica;  -- No triggers, and so no order among the tables.
    EXECUTE 'LOCK TABLE ' || array_to_string(tables, ', ') || ' IN SHARE ROW EXCLUSIVE MODE';
    FOR each IN SELECT oid::regclass AS name FROM pg_class
        WHERE oid = ANY (tables) AND relkind = 'r' AND pg_relation_size(oid) > 0
    LOOP
        EXECUTE 'DELETE FROM ' || each.name;
    END LOOP;
    FOR each IN SELECT seqrelid::regclass AS name FROM pg_sequence JOIN pg_depend
        ON classid = 'pg_class'::regclass AND objid = seqrelid AND refobjid = ANY (tables)
        WHERE pg_sequence_last_value(seqrelid) IS NOT NULL
    LOOP
        EXECUTE 'ALTER SEQUENCE ' || each.name || ' RESTART';
    END LOOP;
END $$
"""


def _empty_tables(self: TransactionTestCase) -> None:
    """Empty the tables as their owner: the application's role, as it should, cannot do it."""
    connections["default"].close()
    with psycopg.connect(running_services.postgres.url, autocommit=True) as owner:
        owner.execute(EMPTY_TABLES)


TransactionTestCase._fixture_teardown = _empty_tables  # type: ignore[method-assign]


@pytest.fixture(autouse=True)
def forget_language() -> None:
    """The language of the last page that a test's browser asked for stays with the thread."""
    translation.deactivate()


@pytest.fixture(autouse=True)
def forget_keys() -> None:
    """Data keys remembered from one test are gone from the database in the next."""
    envelope.cache.clear()


@dataclass(frozen=True)
class Company:
    """A tenant with a person for each role."""

    tenant: Tenant
    owner: User
    administrator: User
    operator: User
    curator: User
    member: User
    reviewer: User
    officer: User
    auditor: User

    @property
    def people(self) -> list[User]:
        return [getattr(self, role) for role in Role.values]

    def actor(self, user: User) -> Actor:
        return actor_for_user(user=user, tenant_slug=self.tenant.slug, session_ref="test")


@cache
def _password_hash() -> str:
    """Hashing is slow on purpose, so the one password is hashed once."""
    return make_password(PASSWORD)


def make_user(email: str, **fields: Any) -> User:
    """A person with a password, whose address is proven."""
    return User.objects.create(email=email, password=_password_hash(), **{**PROVEN, **fields})


def make_company(slug: str, name: str) -> Company:
    tenant = Tenant.objects.create(slug=slug, name=name)
    lifecycle.furnish(tenant)
    # In few queries: nearly every test begins here.
    people = {
        role: User(email=f"{role}@{slug}.example", password=_password_hash(), **PROVEN) for role in Role
    }
    User.objects.bulk_create(people.values())
    with tenant_scope(tenant.pk):
        Membership.objects.bulk_create(Membership(user=user, role=role) for role, user in people.items())
    return Company(tenant, **{str(role): user for role, user in people.items()})


@pytest.fixture
def acme(db: None) -> Company:
    return make_company("acme-bank", "Acme Bank")


@pytest.fixture
def north(db: None) -> Company:
    return make_company("north-fund", "North Fund")


@pytest.fixture
def platform_administrator(db: None) -> User:
    return make_user("platform@custos.example", is_platform_administrator=True)


@pytest.fixture
def stranger(db: None) -> User:
    return make_user("stranger@elsewhere.example")


@pytest.fixture
def client_of() -> Callable[[User], Client]:
    """A browser in which the given person is signed in."""

    def sign_in(user: User) -> Client:
        browser = Client()
        browser.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
        return browser

    return sign_in
