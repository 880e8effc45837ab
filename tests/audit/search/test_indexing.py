"""Writing the index: once each, nothing lost when it is interrupted."""

from typing import Any
from uuid import UUID

import psycopg
import pytest

from audit.search import index, tasks
from tenants import envelope
from tenants.access import Actor
from tests.audit.search.conftest import ids, say
from tests.conftest import Company

pytestmark = pytest.mark.django_db(transaction=True)


def _count(owner: psycopg.Connection, table: str) -> int:
    return owner.execute(f"SELECT count(*) FROM {table}").fetchone()[0]


def test_the_worker_indexes_what_ended_in_every_tenant(
    member: Actor, north: Company, owner: psycopg.Connection
) -> None:
    say(member, "money")
    say(north.actor(north.member), "money")
    assert (_count(owner, "audit_search_waiting"), _count(owner, "audit_search_entry")) == (2, 0)
    tasks.index_waiting()
    assert (_count(owner, "audit_search_waiting"), _count(owner, "audit_search_entry")) == (0, 2)
    tasks.index_waiting()
    assert _count(owner, "audit_search_entry") == 2


def test_a_worker_that_dies_halfway_has_done_nothing(
    member: Actor, reviewer: Actor, owner: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = say(member, "money")

    class Killed(BaseException):
        pass

    def die(rows: object) -> None:
        really_insert(rows)  # type: ignore[arg-type]
        raise Killed

    really_insert = index._insert
    monkeypatch.setattr(index, "_insert", die)
    with pytest.raises(Killed):
        index.index_waiting()
    assert (_count(owner, "audit_search_waiting"), _count(owner, "audit_search_entry")) == (1, 0)
    assert ids(reviewer, "money") == [made]
    monkeypatch.undo()
    index.index_waiting()
    assert ids(reviewer, "money") == [made]


def test_a_record_that_is_there_already_is_not_entered_twice(
    member: Actor, owner: psycopg.Connection
) -> None:
    made = say(member, "money")
    index.index_waiting()
    owner.execute(
        "INSERT INTO audit_search_waiting (day, request_id, tenant_id) SELECT day, id, tenant_id FROM audit_record"
    )
    index.index_waiting()
    entered = owner.execute("SELECT request_id FROM audit_search_entry").fetchall()
    assert entered == [(made,)]


def test_a_record_that_is_gone_waits_no_more(member: Actor, owner: psycopg.Connection) -> None:
    made = say(member, "money")
    for table, column in (
        ("audit_completion", "request_id"),
        ("audit_chunk", "request_id"),
        ("audit_record", "id"),
    ):
        owner.execute(f"DELETE FROM {table} WHERE {column} = %s", [made])
    index.index_waiting()
    assert (_count(owner, "audit_search_waiting"), _count(owner, "audit_search_entry")) == (0, 0)


def test_more_than_a_batch_is_indexed_batch_by_batch(
    member: Actor, owner: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index, "BATCH", 2)
    for _ in range(5):
        say(member, "money")
    assert index.index_batch(member.tenant_id, 2) == 2
    assert index.index_waiting() == 3
    assert index.index_batch(UUID(int=0)) == 0


def test_a_tenant_that_cannot_be_indexed_holds_up_no_other(
    member: Actor, north: Company, owner: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    say(member, "money")
    say(north.actor(north.member), "money")
    really_made = envelope.record_cipher

    def away(tenant_id: UUID, *arguments: Any, **named: Any) -> envelope.RecordCipher:
        if tenant_id == member.tenant_id:
            raise envelope.KeysUnavailable("the provider is away")
        return really_made(tenant_id, *arguments, **named)

    monkeypatch.setattr(envelope, "record_cipher", away)
    assert index.index_waiting() == 1
    assert (_count(owner, "audit_search_waiting"), _count(owner, "audit_search_entry")) == (1, 1)
