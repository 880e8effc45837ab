"""What the tests of administration share: how a refusal is expected, and what the audit says was changed."""

from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from threading import Barrier, Thread
from typing import Any, NamedTuple
from uuid import UUID

import psycopg
import pytest
from django.db import connections, transaction

from audit.models import AuditRecord
from audit.record import handle_of, open_json
from tenants import custom_roles, keys
from tenants.actors import Actor, actor_for_key
from tenants.errors import Refused
from tenants.models import Membership, ServiceAccount, User
from tenants.scope import tenant_scope
from tests.conftest import Company
from tests.support.services import Services


class Change(NamedTuple):
    """A record of the audit about a change."""

    kind: str
    subject_id: UUID | None
    by: str
    before: dict[str, Any]
    after: dict[str, Any]
    detail: dict[str, Any]


def changes(company: Company, *, but: Collection[UUID] = ()) -> list[Change]:
    """All changes recorded in the company, oldest first; `but`: not these records."""
    with tenant_scope(company.tenant.pk):
        rows = AuditRecord.objects.order_by("created", "id").exclude(id__in=but)
        return [_change(row) for row in rows.exclude(kind__in=INCIDENTS)]


# Nothing is changed by them.
INCIDENTS = ("key.first_used", "key.refused")


def _recorded(company: Company) -> set[UUID]:
    with tenant_scope(company.tenant.pk):
        return set(AuditRecord.objects.values_list("id", flat=True))


def _change(row: AuditRecord) -> Change:
    detail = open_json(handle_of(row), field="input", sealed=row.input)
    before, after = detail.pop("before"), detail.pop("after")
    return Change(row.kind, row.subject_id, row.user_label, before, after, detail)


@contextmanager
def one_change(company: Company, kind: str) -> Iterator[list[Change]]:
    """Within it exactly one change is recorded, of this kind; it is in the list afterwards."""
    before, found = _recorded(company), []
    yield found
    found += changes(company, but=before)
    assert [each.kind for each in found] == [kind]


@contextmanager
def no_change(company: Company) -> Iterator[None]:
    before = _recorded(company)
    yield
    assert [each.kind for each in changes(company, but=before)] == []


@contextmanager
def refused(code: str, field: str | None = None) -> Iterator[None]:
    """Within it a service refuses with this code, at this field."""
    with pytest.raises(Refused) as error:
        yield
    assert (error.value.code, error.value.field) == (code, field)
    assert error.value.message


@contextmanager
def undone() -> Iterator[None]:
    """What happens within it has not happened afterwards."""
    with transaction.atomic():
        yield
        transaction.set_rollback(True)


def membership_of(company: Company, user: User) -> Membership:
    with tenant_scope(company.tenant.pk):
        return Membership.objects.get(user=user)


def role_of(company: Company, user: User) -> str:
    return membership_of(company, user).role


def program(
    company: Company, *permissions: str, by: User | None = None, **key: Any
) -> tuple[Actor, ServiceAccount]:
    """A program with these permissions, acting by a key for management that `by` (the owner) made."""
    owner = company.actor(by or company.owner)
    slug = "-".join(sorted(permissions)).replace(".", "-").replace("_", "-")[:40]
    custom_roles.create_role(actor=owner, slug=slug, name=slug, permissions=permissions)
    account = keys.create_service_account(actor=owner, name=slug, role=slug)
    key = {"scopes": ["management.write"], **key}
    _key, text = keys.create_key(actor=owner, name=slug, service_account_id=account.pk, **key)
    actor = actor_for_key(text)
    assert actor is not None
    return actor, account


def at_once(*deeds: Callable[[], object]) -> list[object]:
    """Do these at the same moment, each in a thread with a connection of its own; their results or exceptions."""
    start, results = Barrier(len(deeds)), [None] * len(deeds)

    def run(number: int) -> None:
        try:
            start.wait()
            results[number] = deeds[number]()
        except Exception as error:
            results[number] = error
        finally:
            connections.close_all()

    threads = [Thread(target=run, args=(number,)) for number in range(len(deeds))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


@pytest.fixture
def as_owner(services: Services) -> Callable[[], AbstractContextManager[psycopg.Connection]]:
    """A connection of the database's owner."""
    return lambda: psycopg.connect(services.postgres.url, autocommit=True)
