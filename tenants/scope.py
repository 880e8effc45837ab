"""The tenant scope: the one way to a tenant's rows.

Inside `tenant_scope` two independent layers answer for the same tenant: django-scopes filters every query of a scoped
manager, and PostgreSQL row-level security compares each row with the transaction's `custos.tenant` setting. Outside of
it the managers raise and the database shows nothing. There is no bypass: work over many tenants enters one after the
other.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from django.db import connection, transaction
from django_scopes import ScopeError, get_scope, scope


@contextmanager
def tenant_scope(tenant_id: UUID) -> Iterator[None]:
    """One transaction that sees and writes the rows of one tenant.

    Entering the same tenant again is a savepoint. Raises ScopeError when another tenant's scope is already open: a
    unit of work belongs to one tenant.
    """
    current = get_scope().get("tenant")
    if current is not None and current != tenant_id:
        raise ScopeError(f"the scope of tenant {current} is open; leave it before entering {tenant_id}")
    with _transaction_setting("custos.tenant", str(tenant_id)), scope(tenant=tenant_id):
        yield


@contextmanager
def actor_scope(user_id: UUID) -> Iterator[None]:
    """One transaction in which a user's own memberships can be read, before any tenant is known."""
    with _transaction_setting("custos.user", str(user_id)):
        yield


@contextmanager
def _transaction_setting(name: str, value: str) -> Iterator[None]:
    nested = connection.in_atomic_block
    with transaction.atomic():
        # A transaction of our own starts with the setting empty.
        previous = _setting(name) if nested else ""
        _set(name, value)
        yield
        # A setting that is local to the transaction outlives a savepoint that succeeds; one that fails undoes it.
        if nested and previous != value:
            _set(name, previous)


def _setting(name: str) -> str:
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_setting(%s, true)", [name])
        return cursor.fetchone()[0] or ""


def _set(name: str, value: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config(%s, %s, true)", [name, value])
