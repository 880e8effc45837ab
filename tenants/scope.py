"""The tenant scope: the one way to a tenant's rows.

Inside `tenant_scope` two independent layers answer for the same tenant: django-scopes filters every query of a scoped
manager, and PostgreSQL row-level security compares each row with the transaction's `custos.tenant` setting. Outside of
it the managers raise and the database shows nothing. There is no bypass: work over many tenants enters one after the
other.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
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


class Journeys:
    """Statements of one transaction, sent together: what is told waits until something is asked, or the end."""

    def __init__(self) -> None:
        self._waiting: list[str] = []
        self._parameters: list[Any] = []

    def tell(self, statement: str, parameters: Sequence[Any] = ()) -> None:
        self._waiting.append(statement)
        self._parameters += parameters

    def ask(self, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """The rows of this statement, after all that was told before it."""
        self.tell(statement, parameters)
        with connection.cursor() as cursor:
            cursor.execute("; ".join(self._waiting), self._parameters)
            self._waiting, self._parameters = [], []
            while cursor.nextset():
                pass
            return cursor.fetchall() if cursor.description else []


@contextmanager
def brief_scope(tenant_id: UUID) -> Iterator[Journeys]:
    """A transaction that sees and writes the rows of one tenant, as `tenant_scope`, with as few journeys as can be.

    Every journey to PostgreSQL costs both sides as much as a small statement. Beginning, the tenant, and what is told go
    with the first question, and what is told after the last one goes with the commit. For SQL alone: the managers go on raising.
    """
    if connection.in_atomic_block:
        with tenant_scope(tenant_id):
            yield (journeys := Journeys())
            journeys.ask("SELECT")
        return
    journeys = Journeys()
    journeys.tell("BEGIN")
    journeys.tell("SELECT set_config('custos.tenant', %s, true)", [str(tenant_id)])
    try:
        yield journeys
        journeys.ask("COMMIT")
    except BaseException:
        _undo()
        raise


def _undo() -> None:
    """Whatever is open is undone; a connection on which that fails is done with."""
    try:
        if connection.connection is not None:
            connection.connection.rollback()
    except Exception:
        connection.close()


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
