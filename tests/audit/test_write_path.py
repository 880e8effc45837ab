"""Begin, append, complete: durable, in order, once, and refusing whatever cannot be recorded."""

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID, uuid4

import psycopg
import pytest
from django.db import connection, connections, transaction
from prometheus_client import REGISTRY

from audit import leaf, record
from audit.models import AuditChunk, AuditCompletion, AuditRecord
from audit.record import AuditRefused, AuditUnavailable, Handle, Timings
from tenants.access import Actor
from tenants.ids import time_of, uuid7
from tenants.scope import tenant_scope
from tests.audit.conftest import Usage, begin, generation

pytestmark = pytest.mark.django_db(transaction=True)


def test_the_intent_is_committed_when_begin_returns(member: Actor, rows: Callable[[str, UUID], int]) -> None:
    handle = begin(member)
    assert rows("audit_record", handle.request_id) == 1


def test_the_intent_says_who_when_and_with_what(member: Actor) -> None:
    conversation = uuid7()
    handle = begin(member, conversation_id=conversation)
    with tenant_scope(handle.tenant_id):
        intent = AuditRecord.objects.get(day=handle.day, id=handle.request_id)
    assert intent.tenant_id == member.tenant_id
    assert (intent.user_id, intent.user_label) == (member.user_id, "member@acme-bank.example")
    assert (intent.kind, intent.channel, intent.model) == ("generation", "chat", "smollm2-135m-instruct")
    assert (intent.model_version, intent.route, intent.route_reason) == (
        "sha256:0123",
        "default",
        "only route",
    )
    assert (intent.client_address, intent.conversation_id) == ("192.0.2.7", conversation)
    assert intent.created == time_of(handle.request_id)
    assert intent.session_ref not in ("", "test"), "a session's name is kept as a fingerprint only"


def test_an_appended_chunk_opens_again_from_its_two_ids(member: Actor) -> None:
    handle = begin(member)
    sealed = record.append(handle, seq=1, text="受益所有人 ✓")
    assert "受益所有人".encode() not in sealed
    again = Handle(tenant_id=handle.tenant_id, request_id=handle.request_id)
    assert record.open_output(again, seq=1, sealed=sealed) == "受益所有人 ✓"


def test_what_append_returns_is_what_is_stored(member: Actor, owner: psycopg.Connection) -> None:
    handle = begin(member)
    sealed = record.append(handle, seq=1, text="text")
    stored = owner.execute("SELECT sealed, size FROM audit_chunk WHERE request_id = %s", [handle.request_id])
    assert stored.fetchone() == (sealed, 4)


def test_a_lone_surrogate_in_the_input_is_recorded_as_sent(member: Actor) -> None:
    handle = begin(member, input="\ud800")
    with tenant_scope(handle.tenant_id):
        intent = AuditRecord.objects.get(day=handle.day, id=handle.request_id)
        assert record.open_json(handle, field="input", sealed=intent.input) == "\ud800"


def test_complete_keeps_status_usage_and_timings(member: Actor) -> None:
    handle = begin(member)
    record.append(handle, seq=1, text="é")
    record.append(handle, seq=2, text="fin")
    completion = record.complete(
        handle,
        status="stopped",
        finish_reason="stop",
        usage=Usage(12, 5, 4),
        timings=Timings(queue_ms=3, ttft_ms=40, total_ms=90, itl_p50_ms=9.5),
        error_code="none",
    )
    with tenant_scope(handle.tenant_id):
        stored = AuditCompletion.objects.get(day=handle.day, request_id=handle.request_id)
    for row in (completion, stored):
        assert (row.status, row.finish_reason, row.error_code) == ("stopped", "stop", "none")
        assert (row.prompt_tokens, row.completion_tokens, row.cached_tokens) == (12, 5, 4)
        assert (row.queue_ms, row.ttft_ms, row.total_ms, row.itl_p50_ms) == (3, 40, 90, 9.5)
        assert (row.chunk_count, row.output_bytes) == (2, 5)


def test_the_ciphertext_digest_covers_every_sealed_part_in_order(
    member: Actor, owner: psycopg.Connection
) -> None:
    handle = generation(member, texts=("one", "two", "three"))
    of = [handle.request_id]
    parts = list(owner.execute("SELECT input, parameters FROM audit_record WHERE id = %s", of).fetchone())
    parts += [
        row[0]
        for row in owner.execute("SELECT sealed FROM audit_chunk WHERE request_id = %s ORDER BY seq", of)
    ]
    expected = hashlib.sha256(b"".join(len(part).to_bytes(8, "big") + part for part in parts)).digest()
    stored = owner.execute("SELECT ciphertext_digest FROM audit_completion WHERE request_id = %s", of)
    assert stored.fetchone()[0] == expected


def test_a_leaf_can_be_computed_again_from_the_stored_columns(member: Actor) -> None:
    handle = generation(member, timings=Timings(queue_ms=1, ttft_ms=2, total_ms=3, itl_p50_ms=0.1 + 0.2))
    with tenant_scope(handle.tenant_id):
        intent = AuditRecord.objects.get(day=handle.day, id=handle.request_id)
        completion = AuditCompletion.objects.get(day=handle.day, request_id=handle.request_id)
    assert leaf.digest(intent, completion) == bytes(completion.leaf_digest)


@pytest.mark.parametrize(
    ("row", "column", "value"),
    [
        ("intent", "user_label", "somebody@else.example"),
        ("intent", "model", "another"),
        ("intent", "client_address", "198.51.100.1"),
        ("completion", "status", "failed"),
        ("completion", "completion_tokens", 6),
        ("completion", "ciphertext_digest", bytes(32)),
    ],
)
def test_a_leaf_changes_with_any_column(member: Actor, row: str, column: str, value: object) -> None:
    handle = generation(member)
    with tenant_scope(handle.tenant_id):
        found = {
            "intent": AuditRecord.objects.get(day=handle.day, id=handle.request_id),
            "completion": AuditCompletion.objects.get(day=handle.day, request_id=handle.request_id),
        }
    before = leaf.digest(found["intent"], found["completion"])
    setattr(found[row], column, value)
    assert leaf.digest(found["intent"], found["completion"]) != before


def test_every_plain_column_is_part_of_the_leaf() -> None:
    """Digests and ciphertexts aside; a column added later must be thought about here."""
    covered = set(leaf.RECORD_FIELDS) | set(leaf.COMPLETION_FIELDS)
    plain = {
        field.attname for model in (AuditRecord, AuditCompletion) for field in model._meta.concrete_fields
    }
    ciphertext = {"input", "parameters", "context", "ciphertext_digest", "leaf_digest"}
    assert covered == plain - ciphertext - {"request_id", "pk"}


def test_a_second_completion_returns_the_first(member: Actor, rows: Callable[[str, UUID], int]) -> None:
    handle = begin(member)
    first = record.complete(handle, status="completed")
    second = record.complete(handle, status="failed", error_code="late")
    assert (second.status, second.error_code) == ("completed", "")
    assert bytes(second.leaf_digest) == bytes(first.leaf_digest)
    assert rows("audit_completion", handle.request_id) == 1


def test_completing_at_once_from_many_threads_closes_once(
    member: Actor, rows: Callable[[str, UUID], int]
) -> None:
    handle = begin(member)
    record.append(handle, seq=1, text="x")
    statuses = ["completed", "stopped", "failed", "interrupted", "timed_out", "disconnected"]

    def close(status: str) -> str:
        try:
            return record.complete(handle, status=status).status
        finally:
            connections.close_all()

    with ThreadPoolExecutor(len(statuses)) as threads:
        returned = set(threads.map(close, statuses))
    assert len(returned) == 1
    assert rows("audit_completion", handle.request_id) == 1


@pytest.mark.parametrize(("written", "refused"), [(0, 0), (0, 2), (1, 1), (1, 3), (2, 1)])
def test_a_chunk_out_of_order_is_refused(
    member: Actor, rows: Callable[[str, UUID], int], written: int, refused: int
) -> None:
    handle = begin(member)
    for seq in range(1, written + 1):
        record.append(handle, seq=seq, text="x")
    with pytest.raises(AuditRefused):
        record.append(handle, seq=refused, text="y")
    assert rows("audit_chunk", handle.request_id) == written


def test_nothing_is_appended_to_a_closed_record(member: Actor, rows: Callable[[str, UUID], int]) -> None:
    handle = generation(member, texts=("one",))
    with pytest.raises(AuditRefused):
        record.append(handle, seq=2, text="two")
    assert rows("audit_chunk", handle.request_id) == 1


def test_closing_while_chunks_arrive_leaves_none_outside_of_the_digest(
    member: Actor, rows: Callable[[str, UUID], int]
) -> None:
    """The reaper closes a record in one process while another still writes to it."""
    handle = begin(member)

    def write() -> int:
        try:
            for seq in range(1, 400):
                record.append(handle, seq=seq, text="x")
            return 399
        except AuditRefused:
            return seq - 1
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as thread:
        written = thread.submit(write)
        while rows("audit_chunk", handle.request_id) < 20:
            pass
        completion = record.complete(handle, status="interrupted")
    assert 20 <= completion.chunk_count == written.result() < 399
    assert rows("audit_chunk", handle.request_id) == completion.chunk_count


def test_a_chunk_needs_an_intent(member: Actor) -> None:
    with pytest.raises(AuditRefused):
        record.append(Handle(member.tenant_id, uuid7()), seq=1, text="x")


def test_a_completion_needs_an_intent(member: Actor) -> None:
    with pytest.raises(AuditRefused):
        record.complete(Handle(member.tenant_id, uuid7()), status="completed")


def test_one_request_is_begun_once(member: Actor) -> None:
    handle = begin(member)
    with pytest.raises(AuditRefused):
        begin(member, request_id=handle.request_id)


def test_an_id_without_a_day_is_refused(member: Actor) -> None:
    with pytest.raises(ValueError, match="version 7"):
        begin(member, request_id=uuid4())


def test_a_refused_request_is_a_whole_record(member: Actor, rows: Callable[[str, UUID], int]) -> None:
    handle = begin(member, channel="api", input="too much")
    record.complete(handle, status="refused", error_code="quota_exceeded")
    assert rows("audit_completion", handle.request_id) == 1


def test_recording_inside_another_transaction_is_a_mistake(member: Actor) -> None:
    with tenant_scope(member.tenant_id), pytest.raises(RuntimeError, match="durable"):
        begin(member)


def test_an_event_shares_the_fate_of_the_deed_it_records(
    member: Actor, rows: Callable[[str, UUID], int]
) -> None:
    with pytest.raises(ZeroDivisionError), tenant_scope(member.tenant_id):
        handle = record.record_event(actor=member, kind="key.created", detail={"name": "ci"})
        raise ZeroDivisionError
    assert rows("audit_record", handle.request_id) == 0
    with tenant_scope(member.tenant_id):
        handle = record.record_event(actor=member, kind="key.created", detail={"name": "ci"})
    assert rows("audit_record", handle.request_id) == rows("audit_completion", handle.request_id) == 1


def test_audit_rows_are_on_disk_when_committed_even_where_the_session_says_otherwise(member: Actor) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET synchronous_commit = off")
    try:
        with tenant_scope(member.tenant_id):
            record.record_event(actor=member, kind="probe", detail={})
            with connection.cursor() as cursor:
                cursor.execute("SHOW synchronous_commit")
                assert cursor.fetchone() == ("on",)
    finally:
        connection.close()


class Lost:
    """Makes the database refuse the application's writes to one table, as a full disk or a lock would."""

    def __init__(self, owner: psycopg.Connection) -> None:
        self._owner = owner
        self._table = ""

    def __call__(self, table: str) -> "Lost":
        self._table = table
        return self

    def __enter__(self) -> None:
        self._owner.execute(f"REVOKE INSERT ON {self._table} FROM custos_app")

    def __exit__(self, *_: object) -> None:
        self._owner.execute(f"GRANT INSERT ON {self._table} TO custos_app")


@pytest.fixture
def lost(owner: psycopg.Connection) -> Lost:
    return Lost(owner)


def test_what_cannot_be_recorded_raises(member: Actor, lost: Lost) -> None:
    with lost("audit_record"), pytest.raises(AuditUnavailable, match="PostgreSQL"):
        begin(member)
    handle = begin(member)
    with lost("audit_chunk"), pytest.raises(AuditUnavailable):
        record.append(handle, seq=1, text="x")
    record.append(handle, seq=1, text="x")
    with lost("audit_completion"), pytest.raises(AuditUnavailable):
        record.complete(handle, status="completed")
    assert record.complete(handle, status="completed").chunk_count == 1


def test_a_lost_connection_raises_and_the_next_call_recovers(
    member: Actor, owner: psycopg.Connection
) -> None:
    handle = begin(member)
    owner.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'custos_app'")
    with pytest.raises(AuditUnavailable):
        record.append(handle, seq=1, text="x")
    connection.close_if_unusable_or_obsolete()
    record.append(handle, seq=1, text="x")


def test_failures_and_times_are_counted(member: Actor, lost: Lost) -> None:
    def value(name: str) -> float:
        return REGISTRY.get_sample_value(name, {"operation": "begin"}) or 0.0

    failed, timed = value("custos_audit_failures_total"), value("custos_audit_append_seconds_count")
    with lost("audit_record"), pytest.raises(AuditUnavailable):
        begin(member)
    begin(member)
    assert value("custos_audit_failures_total") == failed + 1
    assert value("custos_audit_append_seconds_count") == timed + 1


def test_a_failed_piece_leaves_nothing_behind(member: Actor, rows: Callable[[str, UUID], int]) -> None:
    handle = begin(member)
    with pytest.raises(AuditRefused):
        record.append(handle, seq=7, text="x")
    assert transaction.get_connection().in_atomic_block is False
    assert rows("audit_chunk", handle.request_id) == 0
    with tenant_scope(handle.tenant_id):
        assert not AuditChunk.objects.exists()
