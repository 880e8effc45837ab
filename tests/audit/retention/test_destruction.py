"""A day's records go when they are due: not before, not without a tombstone, and never half."""

from collections.abc import Callable
from datetime import date, timedelta
from uuid import UUID

import psycopg
import pytest
from django.db import DatabaseError, connection

from audit import record
from audit.models import AuditChunk, AuditCompletion, AuditRecord
from audit.record import Handle, Keeping
from audit.retention import destruction, policies, schedule
from audit.retention.models import Tombstone
from audit.selectors import State, open_record
from audit.tree.models import Leaf, Statement
from tenants import envelope
from tenants.access import Actor, NotVisible
from tenants.models import DataKey
from tenants.scope import tenant_scope
from tests.audit.conftest import begin, generation, id_at
from tests.audit.retention.conftest import Clocks, due_at
from tests.support.retention import announced

pytestmark = pytest.mark.django_db(transaction=True)

Rows = Callable[[str, UUID], int]
TABLES = ("audit_record", "audit_chunk", "audit_completion")


def test_a_day_goes_at_its_end_and_its_policys_days_to_the_minute(
    old: Handle, yesterday: date, clocks: Clocks, rows: Rows
) -> None:
    for before in (timedelta(days=3), timedelta(hours=25), timedelta(hours=1), timedelta(minutes=1)):
        clocks.to(due_at(yesterday, 7) - before)
        assert destruction.run_all() == 0
        assert [rows(table, old.request_id) for table in TABLES] == [1, 2, 1], before
    clocks.to(due_at(yesterday, 7) + timedelta(seconds=5))
    assert destruction.run_all() == 1
    assert [rows(table, old.request_id) for table in TABLES] == [0, 0, 0]
    assert destruction.run_all() == 0, "and only once"


def test_its_leaf_stays_a_tombstone_stands_and_reading_says_it_is_gone(
    old: Handle,
    yesterday: date,
    member: Actor,
    reviewer: Actor,
    clocks: Clocks,
    pass_days: Callable[..., None],
) -> None:
    other = generation(member)
    pass_days(yesterday, 7)
    destruction.run_all()
    view = open_record(reviewer, old.request_id, reason="too late")
    assert (view.state, view.input, view.output) == (State.GONE, None, [])
    assert view.summary.is_gone and view.summary.user_label == ""
    with tenant_scope(member.tenant_id):
        leaf = Leaf.objects.get(request_id=old.request_id)
        [tombstone] = Tombstone.objects.all()
        statement = Statement.objects.get(pk=tombstone.statement)
        assert not DataKey.objects.filter(purpose="audit", day=yesterday).exists()
    assert (tombstone.keeping, tombstone.day, tombstone.count) == ("audit", yesterday, 1)
    assert (tombstone.first, tombstone.last) == (leaf.seq, leaf.seq)
    assert bytes(tombstone.root) == bytes(leaf.hash), "the root over a single leaf is that leaf"
    assert f'"key":"audit/{yesterday}"' in statement.text and "member@" not in statement.text
    assert open_record(reviewer, other.request_id, reason="today's").state == State.INTACT


def test_what_was_never_there_is_not_gone(reviewer: Actor, noon: object) -> None:
    with pytest.raises(NotVisible):
        open_record(reviewer, id_at(noon), reason="a guess")  # type: ignore[arg-type]


def test_a_row_that_went_without_a_tombstone_is_told_as_altered(
    old: Handle, reviewer: Actor, owner: psycopg.Connection, clocks: Clocks
) -> None:
    clocks.reset()
    destruction.tree.extend(reviewer.tenant_id)
    for table, column in (
        ("audit_chunk", "request_id"),
        ("audit_completion", "request_id"),
        ("audit_record", "id"),
    ):
        owner.execute(f"DELETE FROM {table} WHERE {column} = %s", [old.request_id])
    assert open_record(reviewer, old.request_id, reason="where is it").state == State.ALTERED


def test_each_keeping_goes_by_its_own_policy(
    old: Handle, member: Actor, yesterday: date, pass_days: Callable[..., None], owner: psycopg.Connection
) -> None:
    """A change and an opening of the same day stay when the requests of that day go."""
    for kind in ("tenant.settings_changed", "audit.read"):
        record.record_event(actor=member, kind=kind, detail={})
    owner.execute("ALTER TABLE audit_record DISABLE TRIGGER USER")
    pass_days(yesterday + timedelta(days=1), 7)
    destruction.run_all()
    owner.execute("ALTER TABLE audit_record ENABLE TRIGGER USER")
    with tenant_scope(member.tenant_id):
        assert sorted(AuditRecord.objects.values_list("kind", flat=True)) == [
            "audit.read",
            "tenant.settings_changed",
        ]
        assert not AuditChunk.objects.exists()


def test_what_nobody_closed_is_closed_before_it_goes(
    member: Actor, noon: object, yesterday: date, pass_days: Callable[..., None], rows: Rows
) -> None:
    handle = begin(member, request_id=id_at(noon))  # type: ignore[arg-type]
    record.append(handle, seq=1, text="half")
    pass_days(yesterday, 7)
    assert destruction.run_all() == 1
    assert rows("audit_record", handle.request_id) == 0
    with tenant_scope(member.tenant_id):
        assert Leaf.objects.filter(request_id=handle.request_id).exists()
        assert Tombstone.objects.get().count == 1


def test_two_tenants_with_different_policies_share_a_partition_until_both_are_through(
    old: Handle,
    member: Actor,
    outsider: Actor,
    north: object,
    noon: object,
    yesterday: date,
    clocks: Clocks,
    pass_days: Callable[..., None],
    rows: Rows,
    owner: psycopg.Connection,
) -> None:
    theirs = generation(outsider, request_id=id_at(noon))  # type: ignore[arg-type]
    officer = north.actor(north.officer)  # type: ignore[attr-defined]
    policies.set_policy(
        actor=officer, keeping=Keeping.REQUESTS, days=9, reason="Longer, as our regulator asks"
    )
    pass_days(yesterday, 7)
    assert destruction.run_all() == 1
    assert (rows("audit_record", old.request_id), rows("audit_record", theirs.request_id)) == (0, 1)
    assert _partition(owner, "audit_chunk", yesterday), "the other tenant's rows are in it"
    pass_days(yesterday, 9)
    assert destruction.run_all() == 1
    assert rows("audit_record", theirs.request_id) == 0
    for table in TABLES:
        assert not _partition(owner, table, yesterday), f"{table}: empty of every tenant, so dropped"


def test_chunks_go_as_a_whole_partition_while_changes_of_that_day_stay(
    old: Handle, member: Actor, yesterday: date, pass_days: Callable[..., None], owner: psycopg.Connection
) -> None:
    owner.execute(
        "UPDATE audit_record SET kind = 'x.changed' WHERE id = %s",
        [
            generation(
                member, request_id=id_at(schedule.end_of(yesterday) - timedelta(hours=1)), texts=()
            ).request_id
        ],
    )
    with tenant_scope(member.tenant_id):
        envelope.seal(
            tenant_id=member.tenant_id, purpose=Keeping.CHANGES, day=yesterday, plaintext=b"", aad={}
        )
    destruction.tree.extend(member.tenant_id)
    owner.execute("UPDATE audit_leaf SET keeping = 'audit.changes' WHERE seq = 1")
    pass_days(yesterday, 7)
    destruction.run_all()
    assert [_partition(owner, table, yesterday) for table in TABLES] == [True, False, True]


def _partition(owner: psycopg.Connection, table: str, day: date) -> bool:
    found = owner.execute("SELECT to_regclass(%s) IS NOT NULL", [f"public.{table}_{day:%Y%m%d}"])
    return bool(found.fetchone()[0])


class TestCrashes:
    """Whatever ends in the middle is mended by the next run, and nothing goes twice."""

    STEPS = ("close", "extend", "state", "destroy_key", "delete", "commit")

    @pytest.mark.parametrize("step", STEPS)
    def test_are_mended(
        self,
        step: str,
        old: Handle,
        member: Actor,
        yesterday: date,
        pass_days: Callable[..., None],
        rows: Rows,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        pass_days(yesterday, 7)

        class Crash(Exception):
            pass

        def crash(*_args: object, **_kwargs: object) -> None:
            raise Crash

        with monkeypatch.context() as broken:
            match step:
                case "close":
                    broken.setattr(destruction, "_close_open", crash)
                case "extend":
                    broken.setattr(destruction.tree, "extend", crash)
                case "state":
                    broken.setattr(destruction.statements, "state", crash)
                case "destroy_key":
                    broken.setattr(envelope, "destroy", crash)
                case "delete":
                    broken.setattr(destruction, "_delete", crash)
                case "commit":  # The database is through; the part of the key outside of it is still there.
                    broken.setattr(envelope.data_keys, "_remove_shard", crash)
            destruction.run_all()
        is_through = step == "commit"
        assert rows("audit_record", old.request_id) == (0 if is_through else 1)
        with tenant_scope(member.tenant_id):
            assert Tombstone.objects.count() == (1 if is_through else 0)
            assert DataKey.objects.filter(purpose="audit", day=yesterday).exists() != is_through
        shard = envelope.data_keys.shards.path_of(member.tenant_id, "audit", yesterday)
        assert shard.exists()
        destruction.run_all()
        assert rows("audit_record", old.request_id) == 0 and not shard.exists()
        with tenant_scope(member.tenant_id):
            assert Tombstone.objects.count() == 1
            assert Statement.objects.filter(kind="tombstone").count() == 1

    def test_of_one_tenant_hold_up_no_other(
        self,
        old: Handle,
        outsider: Actor,
        noon: object,
        yesterday: date,
        pass_days: Callable[..., None],
        rows: Rows,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        theirs = generation(outsider, request_id=id_at(noon))  # type: ignore[arg-type]
        pass_days(yesterday, 7)
        real = destruction.tree.extend

        def fails_for_one(tenant_id: UUID) -> None:
            if tenant_id == old.tenant_id:
                raise DatabaseError("no")
            real(tenant_id)

        monkeypatch.setattr(destruction.tree, "extend", fails_for_one)
        assert destruction.run_all() == 1
        assert (rows("audit_record", old.request_id), rows("audit_record", theirs.request_id)) == (1, 0)


class TestEarly:
    """A captured application destroys nothing before its time, whatever functions it calls itself."""

    CALLS = {
        "delete": "SELECT audit_retention_delete('audit', %(day)s)",
        "key": "SELECT tenants_destroy_key('audit', %(day)s, 'retention')",
        "erase": "SELECT audit_erase(gen_random_uuid())",
        "release": "SELECT audit_release(gen_random_uuid())",
        "rows": "DELETE FROM audit_record",
        "chunks": "DELETE FROM audit_chunk",
        "content": "UPDATE audit_record SET input = ''",
        "keys": "DELETE FROM tenants_datakey",
        "clock": "CREATE OR REPLACE FUNCTION audit_now() RETURNS timestamptz LANGUAGE sql AS 'SELECT now()'",
        "policy": "UPDATE audit_retention_policy SET days = 1",
        "notices": "UPDATE audit_retention_notice SET announced = '2000-01-01'",
        "leaves": "DELETE FROM audit_leaf",
        "tombstones": "UPDATE audit_retention_tombstone SET count = 0",
        "erased": "INSERT INTO audit_erased (id, tenant_id, deed_id, request_id, day) "
        "VALUES (gen_random_uuid(), %(tenant)s, gen_random_uuid(), gen_random_uuid(), %(day)s)",
        "partition": "DROP TABLE audit_chunk",
        "other partitions": "SELECT audit_drop_empty('audit_chunk', (now() AT TIME ZONE 'UTC')::date)",
    }

    @pytest.mark.parametrize("call", CALLS)
    def test_is_refused(self, call: str, old: Handle, yesterday: date, clocks: Clocks, rows: Rows) -> None:
        announced(clocks.owner, old.tenant_id, "audit", yesterday)
        with tenant_scope(old.tenant_id):
            Tombstone.objects.create(keeping="audit", day=yesterday, count=1, root=b"", days=7)
        values = {"day": yesterday, "tenant": old.tenant_id}
        with pytest.raises(DatabaseError), tenant_scope(old.tenant_id), connection.cursor() as cursor:
            cursor.execute(self.CALLS[call], values)
        assert [rows(table, old.request_id) for table in TABLES] == [1, 2, 1]

    def test_not_even_a_minute(self, old: Handle, yesterday: date, clocks: Clocks) -> None:
        announced(clocks.owner, old.tenant_id, "audit", yesterday)
        with tenant_scope(old.tenant_id):
            Tombstone.objects.create(keeping="audit", day=yesterday, count=1, root=b"", days=7)
        clocks.to(due_at(yesterday, 7) - timedelta(minutes=1))
        with pytest.raises(DatabaseError, match="not due"):
            self._delete(old, yesterday)
        clocks.to(due_at(yesterday, 7))
        assert self._delete(old, yesterday) == 1

    def test_a_shorter_policy_waits_for_a_day_whatever_the_application_writes(
        self, old: Handle, yesterday: date, clocks: Clocks
    ) -> None:
        with tenant_scope(old.tenant_id), connection.cursor() as cursor:
            cursor.execute(
                "INSERT INTO audit_retention_policy (id, tenant_id, keeping, days, number, created, effective, "
                "decided_label) VALUES (gen_random_uuid(), %s, 'audit', 1, 99, '2000-01-01', '2000-01-01', 'x')",
                [old.tenant_id],
            )
            cursor.execute("SELECT audit_retention_days('audit')")
            assert cursor.fetchone() == (7,)
        clocks.shift(timedelta(hours=25))
        with tenant_scope(old.tenant_id), connection.cursor() as cursor:
            cursor.execute("SELECT audit_retention_days('audit')")
            assert cursor.fetchone() == (1,)

    def test_not_without_a_tombstone_for_just_these_records(
        self, old: Handle, member: Actor, noon: object, yesterday: date, clocks: Clocks
    ) -> None:
        clocks.to(due_at(yesterday, 7) + timedelta(minutes=1))
        announced(clocks.owner, old.tenant_id, "audit", yesterday)
        with pytest.raises(DatabaseError, match="no tombstone"):
            self._delete(old, yesterday)
        with tenant_scope(old.tenant_id):
            Tombstone.objects.create(keeping="audit", day=yesterday, count=2, root=b"", days=7)
        with pytest.raises(DatabaseError, match="stand for 2 records, and there are 1"):
            self._delete(old, yesterday)

    def test_not_of_another_tenant(
        self, old: Handle, outsider: Actor, yesterday: date, clocks: Clocks
    ) -> None:
        clocks.to(due_at(yesterday, 7) + timedelta(minutes=1))
        announced(clocks.owner, outsider.tenant_id, "audit", yesterday)
        with tenant_scope(outsider.tenant_id):
            Tombstone.objects.create(keeping="audit", day=yesterday, count=0, root=b"", days=7)
        assert self._delete(Handle(outsider.tenant_id, old.request_id), yesterday) == 0
        with tenant_scope(old.tenant_id):
            assert AuditCompletion.objects.filter(request_id=old.request_id).exists()

    @staticmethod
    def _delete(handle: Handle, day: date) -> int:
        with tenant_scope(handle.tenant_id), connection.cursor() as cursor:
            cursor.execute("SELECT audit_retention_delete('audit', %s)", [day])
            found: int = cursor.fetchone()[0]
        return found


def test_rows_of_a_tenant_that_was_deleted_go_in_their_time(
    old: Handle, acme: object, owner: psycopg.Connection, yesterday: date, clocks: Clocks, rows: Rows
) -> None:
    """Its keys went with it, so its days are found by their rows."""
    destruction.tree.extend(old.tenant_id)
    owner.execute("DELETE FROM tenants_datakey WHERE tenant_id = %s", [old.tenant_id])
    owner.execute("DELETE FROM tenants_tenantkey WHERE tenant_id = %s", [old.tenant_id])
    owner.execute("UPDATE tenants_tenant SET status = 'deleted' WHERE id = %s", [old.tenant_id])
    clocks.to(due_at(yesterday, 7) - timedelta(hours=24, minutes=30))
    destruction.run_all()
    assert rows("audit_record", old.request_id) == 1
    clocks.to(due_at(yesterday, 7) + timedelta(minutes=1))
    assert destruction.run_all() == 1
    assert rows("audit_record", old.request_id) == 0
    assert destruction.run_all() == 0
