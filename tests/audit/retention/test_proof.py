"""The log stays sound whatever goes, and what is restored from a backup opens no more."""

import json
from collections.abc import Callable
from datetime import date, timedelta
from uuid import uuid4

import psycopg
import pytest

from audit import secrecy
from audit.record import Handle
from audit.retention import destruction, erasure, holds
from audit.selectors import State, open_record
from audit.tree import sequencer, verification
from tenants import envelope
from tenants.access import Actor
from tests.audit.conftest import generation
from tests.audit.retention.conftest import Clocks

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.parametrize("metadata", ["kept", "pseudonymised"])
def test_a_log_with_tombstones_erasures_and_holds_is_sound(
    old: Handle,
    member: Actor,
    reviewer: Actor,
    officer: Actor,
    second_officer: Actor,
    yesterday: date,
    clocks: Clocks,
    pass_days: Callable[..., None],
    owner: psycopg.Connection,
    monkeypatch: pytest.MonkeyPatch,
    metadata: str,
) -> None:
    case_id = uuid4()
    monkeypatch.setattr(secrecy, "_insides", [lambda actor: {case_id}])
    later = generation(member)
    holds.place(actor=officer, request_ids=[old.request_id], case_id=case_id, reason="Evidence")
    deed = erasure.request(
        actor=officer, user_id=member.user_id, basis="pipl_47", metadata=metadata, reason="They asked"
    )
    erasure.approve(actor=second_officer, deed_id=deed.pk, reason="Agreed")
    clocks.shift(timedelta(hours=25))
    destruction.run_all()
    assert open_record(reviewer, later.request_id, reason="r").state == State.ERASED
    pass_days(yesterday, 7)
    assert destruction.run_all() == 1
    clocks.reset()
    sequencer.extend(member.tenant_id, sign_now=True)
    report = verification.verify(member.tenant_id)
    assert report.is_sound, report
    assert report.gone == 2
    owner.execute("UPDATE audit_record SET model = 'another' WHERE id = %s", [later.request_id])
    if metadata == "kept":
        assert not verification.verify(member.tenant_id).is_sound, "an erasure excuses no other change"


def test_rows_and_keys_restored_from_a_backup_show_nothing(
    old: Handle,
    reviewer: Actor,
    yesterday: date,
    pass_days: Callable[..., None],
    owner: psycopg.Connection,
) -> None:
    tables = ("audit_record", "audit_chunk", "audit_completion", "tenants_datakey")
    backup = {
        table: owner.execute(f"SELECT to_jsonb(t) FROM {table} AS t WHERE day = %s", [yesterday]).fetchall()
        for table in tables
    }
    assert [len(rows) for rows in backup.values()] == [1, 2, 1, 1]
    pass_days(yesterday, 7)
    assert destruction.run_all() == 1
    owner.execute("SET session_replication_role = replica")
    for table in ("audit_record", "audit_chunk", "audit_completion"):
        owner.execute(
            f"CREATE TABLE IF NOT EXISTS {table}_{yesterday:%Y%m%d} PARTITION OF {table} "
            f"FOR VALUES FROM ('{yesterday}') TO ('{yesterday + timedelta(days=1)}')"
        )
    for table, rows in backup.items():
        for (row,) in rows:
            owner.execute(
                f"INSERT INTO {table} SELECT * FROM jsonb_populate_record(NULL::{table}, %s)",
                [json.dumps(row)],
            )
    owner.execute("SET session_replication_role = origin")
    envelope.cache.clear()
    view = open_record(reviewer, old.request_id, reason="from the backup")
    assert (view.state, view.input, view.output) == (State.GONE, None, [])
