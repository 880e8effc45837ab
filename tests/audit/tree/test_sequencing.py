"""Closed records get their places in order and without gaps, heads are signed, and nothing is lost or doubled."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import psycopg
import pytest
from django.db import connection, connections, transaction

from audit import record, tree
from audit.models import AuditCompletion
from audit.tree import merkle, selectors, sequencer, signing, statements, stored
from audit.tree.models import Checkpoint, Leaf, Node, Pending
from audit.tree.notes import Checkpoint as Head
from audit.tree.notes import Note
from tenants.access import Actor
from tenants.scope import tenant_scope
from tests.audit.conftest import begin, generation
from tests.support.services import Services

pytestmark = pytest.mark.django_db(transaction=True)


def hashes(tenant_id: UUID) -> list[bytes]:
    with tenant_scope(tenant_id):
        return [bytes(each) for each in Leaf.objects.order_by("seq").values_list("hash", flat=True)]


def test_a_closed_record_gets_the_next_place_and_a_head_covers_it(member: Actor) -> None:
    handles = [generation(member) for _ in range(3)]
    tree.extend(member.tenant_id)
    with tenant_scope(member.tenant_id):
        places = [selectors.place_of(handle.request_id) for handle in handles]
        assert [place.sequence for place in places if place] == [0, 1, 2]
        assert not Pending.objects.exists()
        for place, handle in zip(places, handles, strict=True):
            assert place is not None and place.checkpoint is not None
            completion = AuditCompletion.objects.get(day=handle.day, request_id=handle.request_id)
            assert place.leaf == bytes(completion.leaf_digest)
            assert place.checkpoint.size == 3
        note = Note.parse(Checkpoint.objects.get().note)
    head = Head.parse(note.text)
    assert note.signed_by(signing.verifier(member.tenant_id))
    assert head == Head(signing.origin(member.tenant_id), 3, merkle.root(hashes(member.tenant_id)))


def test_a_record_that_is_not_closed_has_no_place(member: Actor) -> None:
    handle = begin(member)
    tree.extend(member.tenant_id)
    with tenant_scope(member.tenant_id):
        assert selectors.place_of(handle.request_id) is None


def test_a_record_is_proven_to_be_in_the_log(member: Actor) -> None:
    handles = [generation(member) for _ in range(5)]
    tree.extend(member.tenant_id)
    with tenant_scope(member.tenant_id):
        for handle in handles:
            proof = selectors.proof_of(handle.request_id)
            assert proof is not None
            head = proof.checkpoint
            assert merkle.verify_inclusion(proof.leaf, proof.sequence, head.size, proof.path, head.root)


def test_a_head_waits_for_ten_seconds_or_256_leaves(member: Actor, monkeypatch: pytest.MonkeyPatch) -> None:
    def sizes() -> list[int]:
        with tenant_scope(member.tenant_id):
            return sorted(Checkpoint.objects.values_list("size", flat=True))

    generation(member)
    tree.extend(member.tenant_id)
    generation(member)
    tree.extend(member.tenant_id)
    assert sizes() == [1]
    monkeypatch.setattr(sequencer, "SIGN_LEAVES", 2)
    generation(member)
    tree.extend(member.tenant_id)
    assert sizes() == [1, 3]
    generation(member)
    monkeypatch.setattr(sequencer, "SIGN_EVERY", sequencer.SIGN_EVERY * 0)
    tree.extend(member.tenant_id)
    assert sizes() == [1, 3, 4]


def test_kept_hashes_of_subtrees_give_the_same_roots_and_proofs(member: Actor) -> None:
    leaves = [merkle.leaf_hash(number.to_bytes(4)) for number in range(70_000)]
    rows = [(leaf, UUID(int=number), _today(), "audit") for number, leaf in enumerate(leaves)]
    with tenant_scope(member.tenant_id):
        first = 0
        for count in (1, 254, 2, 700, 65_000, 4_043):
            first = stored.append(first, rows[first : first + count], member.tenant_id)
        assert first == 70_000
        assert Node.objects.filter(level=8).count() == 70_000 >> 8
        assert Node.objects.filter(level=16).count() == 1
        kept = stored.Stored()
        for size in (1, 255, 256, 257, 65_535, 65_536, 65_537, 70_000):
            assert kept.root(size) == merkle.root(leaves[:size])
        for index, size in ((0, 70_000), (69_999, 70_000), (300, 65_537), (65_536, 65_537)):
            found = merkle.inclusion_proof(kept.subtree, index, size)
            assert found == merkle.inclusion_proof(merkle.over(leaves), index, size)
        assert merkle.consistency_proof(kept.subtree, 777, 70_000) == merkle.consistency_proof(
            merkle.over(leaves), 777, 70_000
        )


def test_a_statement_is_a_leaf_and_shares_the_fate_of_its_deed(member: Actor) -> None:
    with pytest.raises(ZeroDivisionError), tenant_scope(member.tenant_id):
        statements.state("hold", {"count": 1})
        raise ZeroDivisionError
    with tenant_scope(member.tenant_id):
        statement = statements.state("hold", {"count": 2})
    tree.extend(member.tenant_id)
    assert hashes(member.tenant_id) == [statement.hash]
    with tenant_scope(member.tenant_id):
        place = selectors.place_of(statement.id)
        assert place is not None and place.keeping == "statement"
    assert statement.hash == merkle.leaf_hash(statement.text.encode())


def test_a_statement_that_the_application_did_not_make_gets_no_place(
    member: Actor, northerner: Actor, services: Services
) -> None:
    """Else two rows in the database would be a tombstone, and whatever it names could be deleted."""
    with tenant_scope(northerner.tenant_id):
        statements.state("tombstone", {"count": 1})
    with psycopg.connect(services.postgres.url, autocommit=True) as owner:
        columns = "kind, text, signature, created"
        for change in ("text", "replace(text, '1', '2')"):
            owner.execute(
                f"INSERT INTO audit_statement (id, tenant_id, {columns}) SELECT gen_random_uuid(), %s, "
                f"{columns.replace('text', change)} FROM audit_statement LIMIT 1",
                [member.tenant_id],
            )
        owner.execute("UPDATE audit_pending SET since = now() - interval '61 seconds'")
    tree.extend(member.tenant_id)
    assert hashes(member.tenant_id) == []
    with tenant_scope(member.tenant_id):
        assert selectors.alarms().late == 2


def test_a_statement_needs_a_deed(member: Actor) -> None:
    with pytest.raises(RuntimeError), transaction.atomic():
        statements.state("hold", {})


def test_the_extent_of_a_day_tells_of_all_its_records_of_a_kind(member: Actor) -> None:
    handles = [generation(member) for _ in range(3)]
    record.record_event(actor=member, kind="group.created", detail={})
    handles.append(generation(member))
    tree.extend(member.tenant_id)
    with tenant_scope(member.tenant_id):
        assert selectors.is_sequenced(handles[0].day)
        extent = selectors.extent(handles[0].day, record.Keeping.REQUESTS)
    all_leaves = hashes(member.tenant_id)
    assert extent["root"] == merkle.root([all_leaves[place] for place in (0, 1, 2, 4)]).hex()
    assert (extent["first"], extent["last"], extent["count"]) == (0, 4, 4)


def test_tenants_have_logs_of_their_own(member: Actor, northerner: Actor) -> None:
    generation(member)
    generation(northerner)
    sequencer.extend_all()
    for actor in (member, northerner):
        assert len(hashes(actor.tenant_id)) == 1
    assert hashes(member.tenant_id) != hashes(northerner.tenant_id)


def test_one_log_that_cannot_be_extended_holds_up_no_other(
    member: Actor, northerner: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    generation(northerner)
    original = sequencer.extend

    def failing(tenant_id: UUID, **options: Any) -> None:
        if tenant_id == member.tenant_id:
            raise stored.Broken("as it were")
        original(tenant_id, **options)

    monkeypatch.setattr(sequencer, "extend", failing)
    sequencer.extend_all()
    assert len(hashes(northerner.tenant_id)) == 1


def test_a_record_whose_outbox_row_was_taken_away_is_found(
    member: Actor, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    generation(member)
    tree.extend(member.tenant_id)
    generation(member)
    with psycopg.connect(services.postgres.url, autocommit=True) as owner:
        owner.execute("DELETE FROM audit_pending")
    tree.extend(member.tenant_id)
    assert len(hashes(member.tenant_id)) == 1  # It is looked for once a minute.
    sequencer._looked[member.tenant_id] -= sequencer._LOOK_EVERY
    tree.extend(member.tenant_id)
    assert len(hashes(member.tenant_id)) == 2


def test_a_record_without_place_after_a_minute_is_an_alarm(member: Actor, services: Services) -> None:
    generation(member)
    with psycopg.connect(services.postgres.url, autocommit=True) as owner:
        owner.execute("UPDATE audit_pending SET since = now() - interval '61 seconds'")
    with tenant_scope(member.tenant_id):
        assert selectors.alarms().late == 1
    tree.extend(member.tenant_id)
    with tenant_scope(member.tenant_id):
        assert selectors.alarms().late == 0


def test_many_processes_at_once_lose_and_double_nothing(member: Actor) -> None:
    handles = [generation(member) for _ in range(40)]

    def work(_: int) -> None:
        try:
            tree.extend(member.tenant_id)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(6)))
    with tenant_scope(member.tenant_id):
        placed = list(Leaf.objects.order_by("seq").values_list("seq", "request_id"))
    assert [seq for seq, _ in placed] == list(range(40))
    assert {request_id for _, request_id in placed} == {handle.request_id for handle in handles}


def test_a_run_that_ends_in_the_middle_is_taken_up_by_the_next(
    member: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    generation(member)
    with monkeypatch.context() as broken:
        broken.setattr(stored, "append", _killed)
        with pytest.raises(KeyboardInterrupt):
            tree.extend(member.tenant_id)
    assert hashes(member.tenant_id) == []
    with monkeypatch.context() as broken:
        broken.setattr(sequencer, "_sign", _killed)
        with pytest.raises(KeyboardInterrupt):
            tree.extend(member.tenant_id)
    assert len(hashes(member.tenant_id)) == 1
    tree.extend(member.tenant_id)
    assert len(hashes(member.tenant_id)) == 1
    with tenant_scope(member.tenant_id):
        assert Checkpoint.objects.count() == 1


def test_a_log_is_not_extended_inside_a_transaction(member: Actor) -> None:
    with pytest.raises(RuntimeError), tenant_scope(member.tenant_id):
        tree.extend(member.tenant_id)


def test_the_application_may_not_alter_the_log(member: Actor) -> None:
    generation(member)
    tree.extend(member.tenant_id)
    for table in ("audit_leaf", "audit_node", "audit_checkpoint", "audit_statement", "audit_anchoring"):
        with (
            pytest.raises(Exception, match="permission denied"),
            tenant_scope(member.tenant_id),
            connection.cursor() as cursor,
        ):
            cursor.execute(f"DELETE FROM {table}")


def _killed(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


def _today() -> Any:
    from tenants import clock

    return clock.today()
