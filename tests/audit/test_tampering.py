"""Ciphertext moved or changed behind Custos's back is noticed, never shown."""

from collections.abc import Callable
from datetime import timedelta

import psycopg
import pytest

from audit import record
from audit.output import text_of
from audit.record import Handle
from audit.selectors import State, open_record
from tenants import clock, envelope
from tenants.access import Actor
from tenants.scope import tenant_scope
from tests.audit.conftest import begin, generation, id_at

pytestmark = pytest.mark.django_db(transaction=True)

# (what is done to the stored rows of record %(a)s, %(b)s being another record of the same tenant and day)
TAMPERINGS = {
    "input of another record": "UPDATE audit_record SET input = "
    "(SELECT input FROM audit_record WHERE id = %(b)s) WHERE id = %(a)s",
    "input and parameters exchanged": "UPDATE audit_record SET input = parameters, parameters = input "
    "WHERE id = %(a)s",
    "chunk of another record": "UPDATE audit_chunk SET sealed = (SELECT sealed FROM audit_chunk "
    "WHERE request_id = %(b)s AND seq = 1) WHERE request_id = %(a)s AND seq = 1",
    "two chunks exchanged": "UPDATE audit_chunk one SET sealed = other.sealed FROM audit_chunk other "
    "WHERE one.request_id = %(a)s AND other.request_id = %(a)s AND one.seq <> other.seq AND one.seq < 3 "
    "AND other.seq < 3",
    "output as input": "UPDATE audit_record SET input = (SELECT sealed FROM audit_chunk "
    "WHERE request_id = %(a)s AND seq = 1) WHERE id = %(a)s",
    "a bit": "UPDATE audit_chunk SET sealed = set_bit(sealed, 200, 1 - get_bit(sealed, 200)) "
    "WHERE request_id = %(a)s AND seq = 2",
    "last chunk removed": "DELETE FROM audit_chunk WHERE request_id = %(a)s AND seq = 3",
    "chunk in the middle removed": "DELETE FROM audit_chunk WHERE request_id = %(a)s AND seq = 2",
    "who asked": "UPDATE audit_record SET user_label = 'somebody@else.example' WHERE id = %(a)s",
    "how it ended": "UPDATE audit_completion SET status = 'failed' WHERE request_id = %(a)s",
    "how many tokens": "UPDATE audit_completion SET completion_tokens = 1 WHERE request_id = %(a)s",
}


# What a running record's encryption alone must notice: it has no digest yet.
WHILE_RUNNING = (
    "input of another record",
    "input and parameters exchanged",
    "chunk of another record",
    "two chunks exchanged",
    "output as input",
    "a bit",
)


@pytest.mark.parametrize("tampering", TAMPERINGS)
def test_an_altered_record_is_named_so_and_shows_no_content(
    member: Actor, reviewer: Actor, owner: psycopg.Connection, tampering: str
) -> None:
    one = generation(member, texts=("one", "two", "three"))
    other = generation(member, texts=("uno", "due", "tre"))
    assert open_record(reviewer, one.request_id, reason="before").state == State.INTACT
    owner.execute(TAMPERINGS[tampering], {"a": one.request_id, "b": other.request_id})
    view = open_record(reviewer, one.request_id, reason="after")
    assert view.state == State.ALTERED
    assert (view.input, view.parameters, view.output) == (None, {}, [])
    assert open_record(reviewer, other.request_id, reason="other").state == State.INTACT


@pytest.mark.parametrize("tampering", WHILE_RUNNING)
def test_a_running_record_is_checked_by_its_encryption_alone(
    member: Actor, reviewer: Actor, owner: psycopg.Connection, tampering: str
) -> None:
    handle, other = begin(member), begin(member)
    for each in (handle, other):
        record.append(each, seq=1, text="one")
        record.append(each, seq=2, text="two")
    assert text_of(open_record(reviewer, handle.request_id, reason="before").output) == "onetwo"
    owner.execute(TAMPERINGS[tampering], {"a": handle.request_id, "b": other.request_id})
    assert open_record(reviewer, handle.request_id, reason="after").state == State.ALTERED


def test_a_chunk_does_not_open_in_another_place(member: Actor, outsider: Actor) -> None:
    handle, other = begin(member), begin(member)
    foreign = begin(outsider)
    sealed = record.append(handle, seq=1, text="one")
    record.append(foreign, seq=1, text="uno")
    moves: dict[str, Callable[[], object]] = {
        "sequence": lambda: record.open_output(handle, seq=2, sealed=sealed),
        "request": lambda: record.open_output(other, seq=1, sealed=sealed),
        "tenant": lambda: record.open_output(
            Handle(outsider.tenant_id, handle.request_id), seq=1, sealed=sealed
        ),
        "field": lambda: _open_as_input(handle, sealed),
    }
    for name, move in moves.items():
        with pytest.raises(envelope.Tampered):
            move()
            pytest.fail(f"opened under another {name}")
    assert record.open_output(handle, seq=1, sealed=sealed) == "one"


def _open_as_input(handle: Handle, sealed: bytes) -> object:
    with tenant_scope(handle.tenant_id):
        return record.open_json(handle, field="input", sealed=sealed)


def test_content_whose_key_is_destroyed_is_gone_and_its_record_stays(
    member: Actor, reviewer: Actor, owner: psycopg.Connection
) -> None:
    yesterday = id_at(clock.now() - timedelta(days=1))
    handle = generation(member, request_id=yesterday)
    assert open_record(reviewer, yesterday, reason="while it can be read").state == State.INTACT
    owner.execute("DELETE FROM tenants_datakey WHERE purpose = 'audit' AND day = %s", [handle.day])
    envelope.cache.clear()
    view = open_record(reviewer, yesterday, reason="afterwards")
    assert view.state == State.GONE
    assert (view.input, view.output) == (None, [])
    assert view.summary.completion is not None and view.summary.completion.completion_tokens == 5
    assert [reading.reason for reading in view.history] == ["afterwards", "while it can be read"]
