"""Whatever is done to the database behind the application's back is found, and nothing else is."""

import os
import random
from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest
from django.core.management import call_command
from django.db import connection

from audit import leaf, record, tree
from audit.models import AuditCompletion, AuditRecord
from audit.tree import (
    merkle,
    recomputed,
    selectors,
    sequencer,
    signing,
    statements,
    stored,
    verification,
)
from audit.tree.models import Leaf
from audit.tree.notes import Checkpoint as Head
from audit.tree.notes import Signer, signed
from audit.tree.verification import Code, Report, WitnessState
from tenants import clock
from tenants.access import Actor
from tenants.scope import tenant_scope
from tests.audit.conftest import Usage, begin, generation
from tests.audit.tree.conftest import WitnessProcess
from tests.support.services import Services

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("witness")]

Owner = psycopg.Connection[Any]


@pytest.fixture
def owner(services: Services) -> Any:
    """The database as somebody holds it who has all of it, and no key."""
    with psycopg.connect(services.postgres.url, autocommit=True) as connection:
        connection.execute("SET session_replication_role = replica")  # No trigger stands in the way.
        yield connection


@pytest.fixture
def log(member: Actor, monkeypatch: pytest.MonkeyPatch) -> UUID:
    """A tenant's log of 14 entries under three heads."""
    monkeypatch.setattr(sequencer, "SIGN_LEAVES", 1)
    for number in range(12):
        if number == 6:
            record.record_event(actor=member, kind="group.created", detail={"name": "“x”\n"})
        generation(member, texts=("a", "b" * number), usage=Usage(3, number))
        if number % 4 == 3:
            tree.extend(member.tenant_id)
    with tenant_scope(member.tenant_id):
        statements.state("hold", {"commitment": "0" * 64})
    tree.extend(member.tenant_id)
    return member.tenant_id


def codes(report: Report) -> set[Code]:
    return {finding.code for finding in report.findings}


def test_an_untouched_log_is_sound(log: UUID) -> None:
    seen: list[tuple[int, int]] = []
    report = verification.verify(log, lambda done, total: seen.append((done, total)))
    assert report.findings == []
    assert (report.leaves, report.records, report.statements, report.heads) == (14, 13, 1, 4)
    assert report.witness == WitnessState.AGREES and report.witness_size == 14
    assert seen == [(14, 14)]


def test_an_empty_log_is_sound(member: Actor) -> None:
    report = verification.verify(member.tenant_id)
    assert report.is_sound and report.leaves == 0


def test_what_is_open_or_just_closed_is_no_finding(member: Actor, log: UUID) -> None:
    begin(member)
    generation(member)
    assert verification.verify(log).is_sound


def test_the_databases_leaves_are_those_of_the_application(member: Actor) -> None:
    """Values that the two might write differently."""
    odd = 'quote " backslash \\ tab \t newline \n nul-like \x01\x1f del \x7f é 漢字 \u2028 😀 </script>'
    for gap in (None, 0.0, 12.0, 12.5, 1e-7, 1e15, 1e16, 1.2345678901234567, 123456789.123):
        generation(member, model=odd, route_reason=odd, timings=record.Timings(1, None, None, itl_p50_ms=gap))
    tree.extend(member.tenant_id)
    with tenant_scope(member.tenant_id):
        for row in AuditRecord.objects.all():
            completion = AuditCompletion.objects.get(day=row.day, request_id=row.id)
            metadata = leaf.canonical(leaf.metadata(row, completion)).decode()
            with connection.cursor() as cursor:
                expression = recomputed._metadata(row.schema, leaf.FIELDS[row.schema])
                cursor.execute(
                    f"SELECT {expression} FROM audit_record AS r, audit_completion AS c "
                    "WHERE r.id = %s AND c.request_id = r.id",
                    [row.id],
                )
                # Figures beyond 10^15 are written differently; such rows are looked at once more.
                gap = completion.itl_p50_ms
                if gap is None or 1e-4 < gap < 1e15:
                    assert cursor.fetchone()[0] == metadata
    assert verification.verify(member.tenant_id).is_sound


TAMPERINGS: dict[str, tuple[str, set[Code]]] = {
    "the user of a record": ("UPDATE audit_record SET user_label = 'x' WHERE id = {record}", {Code.ALTERED}),
    "its model": ("UPDATE audit_record SET model = 'x' WHERE id = {record}", {Code.ALTERED}),
    "its time": (
        "UPDATE audit_record SET created = created + interval '1 microsecond' WHERE id = {record}",
        {Code.ALTERED},
    ),
    "whom it is confined to": (
        "UPDATE audit_record SET confined_to = id WHERE id = {record}",
        {Code.ALTERED},
    ),
    "its schema": ("UPDATE audit_record SET schema = 1 WHERE id = {record}", {Code.ALTERED}),
    "its question": ("UPDATE audit_record SET input = input || '\\x00' WHERE id = {record}", {Code.ALTERED}),
    "a context that it had not": (
        "UPDATE audit_record SET context = '\\x00' WHERE id = {record}",
        {Code.ALTERED},
    ),
    "a piece of the answer": (
        "UPDATE audit_chunk SET sealed = set_byte(sealed, 20, get_byte(sealed, 20) # 1) WHERE request_id = {record} AND seq = 1",
        {Code.ALTERED},
    ),
    "an exchange of two pieces": (
        "UPDATE audit_chunk SET seq = 10 - seq WHERE request_id = {record}",
        {Code.ALTERED},
    ),
    "a piece cut off": ("DELETE FROM audit_chunk WHERE request_id = {record} AND seq = 2", {Code.ALTERED}),
    "the status": (
        "UPDATE audit_completion SET status = 'failed' WHERE request_id = {record}",
        {Code.ALTERED},
    ),
    "the tokens": (
        "UPDATE audit_completion SET completion_tokens = 99 WHERE request_id = {record}",
        {Code.ALTERED},
    ),
    "the digest in the row": (
        "UPDATE audit_completion SET leaf_digest = sha256(leaf_digest) WHERE request_id = {record}",
        {Code.ALTERED},
    ),
    "a record deleted": ("DELETE FROM audit_record WHERE id = {record}", {Code.MISSING}),
    "its end deleted": ("DELETE FROM audit_completion WHERE request_id = {record}", {Code.MISSING}),
    "two records exchanged": (
        (
            "UPDATE audit_leaf SET hash = CASE seq WHEN 3 THEN (SELECT hash FROM audit_leaf WHERE seq = 5) "
            "ELSE (SELECT hash FROM audit_leaf WHERE seq = 3) END WHERE seq IN (3, 5)"
        ),
        {Code.ALTERED, Code.ROOT, Code.WITNESS_DIFFERS},
    ),
    "a leaf": (
        "UPDATE audit_leaf SET hash = sha256(hash) WHERE seq = 2",
        {Code.ALTERED, Code.ROOT, Code.WITNESS_DIFFERS},
    ),
    "a leaf deleted": ("DELETE FROM audit_leaf WHERE seq = 7", {Code.CUT}),
    "the log cut": ("DELETE FROM audit_leaf WHERE seq >= 10", {Code.CUT, Code.WITNESS_AHEAD}),
    "the log and its heads cut": (
        "WITH cut AS (DELETE FROM audit_leaf WHERE seq >= 10) DELETE FROM audit_checkpoint WHERE size > 10",
        {Code.WITNESS_AHEAD},
    ),
    "the log emptied": (
        (
            "WITH a AS (DELETE FROM audit_leaf), b AS (DELETE FROM audit_record), c AS (DELETE FROM audit_completion), "
            "d AS (DELETE FROM audit_anchoring) DELETE FROM audit_checkpoint"
        ),
        {Code.WITNESS_AHEAD},
    ),
    "a head's root": ("UPDATE audit_checkpoint SET root = sha256(root) WHERE size = 4", {Code.SIGNATURE}),
    "a head's signature": (
        "UPDATE audit_checkpoint SET note = replace(note, '— ', '— x') WHERE size = 4",
        {Code.SIGNATURE},
    ),
    "a head of another size": ("UPDATE audit_checkpoint SET size = 5 WHERE size = 4", {Code.SIGNATURE}),
    "a statement": ("UPDATE audit_statement SET text = replace(text, '0', '1')", {Code.STATEMENT}),
    "a statement's signature": ("UPDATE audit_statement SET signature = ''", {Code.STATEMENT}),
    "a statement deleted": ("DELETE FROM audit_statement", {Code.STATEMENT}),
    "a kept hash": (
        "INSERT INTO audit_node (tenant_id, level, position, hash) SELECT tenant_id, 8, 0, hash FROM audit_leaf WHERE seq = 0",
        set(),
    ),
}


@pytest.mark.parametrize("name", TAMPERINGS)
def test_every_tampering_is_found(log: UUID, owner: Owner, name: str) -> None:
    statement, expected = TAMPERINGS[name]
    with tenant_scope(log):
        chosen = Leaf.objects.get(seq=5).request_id
    done = owner.execute(statement.replace("{record}", f"'{chosen}'").encode())
    assert done.rowcount
    found = codes(verification.verify(log))
    assert found >= expected
    assert found or not expected


def test_a_wrong_hash_kept_for_proofs_is_found(member: Actor, owner: Owner) -> None:
    with tenant_scope(member.tenant_id):
        rows = [
            (merkle.leaf_hash(bytes([n % 256])), UUID(int=n), clock.today(), "statement") for n in range(300)
        ]
        stored.append(0, rows, member.tenant_id)
    owner.execute("UPDATE audit_node SET hash = sha256(hash)")
    assert Code.KEPT_HASH in codes(verification.verify(member.tenant_id))
    owner.execute("DELETE FROM audit_node")
    assert Code.KEPT_HASH in codes(verification.verify(member.tenant_id))


def test_the_whole_database_rewritten_is_noticed(log: UUID, owner: Owner, member: Actor) -> None:
    """Rows, leaves and heads, all consistent with each other: two statements defeat a chain in its own database."""
    with tenant_scope(log):
        chosen = Leaf.objects.get(seq=5).request_id
        row = AuditRecord.objects.get(id=chosen)
        completion = AuditCompletion.objects.get(request_id=chosen)
        row.user_label = "somebody.else@acme-bank.example"
        forged = leaf.digest(row, completion)
        leaves = [bytes(each) for each in Leaf.objects.order_by("seq").values_list("hash", flat=True)]
    leaves[5] = forged
    owner.execute("UPDATE audit_record SET user_label = %s WHERE id = %s", [row.user_label, chosen])
    owner.execute("UPDATE audit_completion SET leaf_digest = %s WHERE request_id = %s", [forged, chosen])
    owner.execute("UPDATE audit_leaf SET hash = %s WHERE seq = 5", [forged])
    for (size,) in owner.execute("SELECT size FROM audit_checkpoint").fetchall():
        root = merkle.root(leaves[:size])
        owner.execute("UPDATE audit_checkpoint SET root = %s WHERE size = %s", [root, size])
    # Without the log's key no head is signed …
    assert Code.SIGNATURE in codes(verification.verify(log))
    # … and even with it, the witness remembers.
    signer = signing.signer(log)
    for (size,) in owner.execute("SELECT size FROM audit_checkpoint").fetchall():
        head = str(Head(signer.name, size, merkle.root(leaves[:size])))
        note = signed(head, [signer.line(head)])
        owner.execute("UPDATE audit_checkpoint SET note = %s WHERE size = %s", [note, size])
    assert codes(verification.verify(log)) == {Code.WITNESS_DIFFERS}
    # The next head is refused, which is an alarm that stands until somebody looks.
    generation(member)
    tree.extend(log)
    with tenant_scope(log):
        assert selectors.alarms().refusals
    assert Code.WITNESS_DIFFERS in codes(verification.verify(log))


def test_heads_of_another_key_are_found(log: UUID, owner: Owner) -> None:
    thief = Signer(signing.origin(log), 1, bytes(32))
    for size, root in owner.execute("SELECT size, root FROM audit_checkpoint").fetchall():
        head = str(Head(thief.name, size, bytes(root)))
        owner.execute(
            "UPDATE audit_checkpoint SET note = %s WHERE size = %s", [signed(head, [thief.line(head)]), size]
        )
    assert codes(verification.verify(log)) == {Code.SIGNATURE}


def test_without_the_witness_it_is_said_that_it_was_not_asked(log: UUID, witness: WitnessProcess) -> None:
    witness.kill()
    report = verification.verify(log)
    assert report.is_sound and not report.is_complete
    assert report.witness == WitnessState.AWAY


def test_a_witness_that_was_made_to_forget_is_found(log: UUID, witness: WitnessProcess) -> None:
    for path in (witness.state / "heads").iterdir():
        path.unlink()
    assert codes(verification.verify(log)) == {Code.WITNESS_FORGOT}


def test_a_witness_that_was_put_back_to_an_older_head_is_found(
    log: UUID, witness: WitnessProcess, member: Actor
) -> None:
    (path,) = (path for path in (witness.state / "heads").iterdir() if str(log) in path.read_text())
    old = path.read_text()
    generation(member)
    tree.extend(log)
    assert verification.verify(log).is_sound
    path.write_text(old)
    assert codes(verification.verify(log)) == {Code.WITNESS_FORGOT}


def test_what_a_tombstone_tells_of_is_not_missing(log: UUID, owner: Owner) -> None:
    with tenant_scope(log):
        first = Leaf.objects.get(seq=0)
        extent = selectors.extent(first.day, first.keeping)
        statements.state(statements.TOMBSTONE, {**extent, "reason": "retention"})
    tree.extend(log)
    assert verification.verify(log).is_sound
    ids = owner.execute("SELECT request_id FROM audit_leaf WHERE keeping = 'audit'").fetchall()
    for table, column in (
        ("audit_record", "id"),
        ("audit_completion", "request_id"),
        ("audit_chunk", "request_id"),
    ):
        owner.execute(f"DELETE FROM {table} WHERE {column} = ANY(%s)", [[each for (each,) in ids]])
    report = verification.verify(log)
    assert report.findings == []
    assert (report.gone, report.records) == (12, 1)


def test_a_tombstone_tells_of_what_is_gone_before_it_has_its_place(log: UUID, owner: Owner) -> None:
    with tenant_scope(log):
        first = Leaf.objects.get(seq=0)
        statements.state(statements.TOMBSTONE, selectors.extent(first.day, first.keeping))
    owner.execute("DELETE FROM audit_record WHERE kind = 'generation'")
    assert verification.verify(log).findings == []


def test_a_statement_that_was_kept_out_of_the_log_is_found(
    log: UUID, owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tenant_scope(log):
        statements.state("hold", {"commitment": "1" * 64})
    owner.execute("DELETE FROM audit_pending")
    with monkeypatch.context() as late:
        late.setattr(selectors, "LATE_AFTER", timedelta(0))
        assert codes(verification.verify(log)) == {Code.UNPLACED}
    # The worker finds it, too.
    sequencer._looked.clear()
    tree.extend(log)
    assert verification.verify(log).statements == 2


@pytest.mark.parametrize(
    "change",
    [{"count": 11}, {"root": "00" * 32}, {"keeping": "audit.changes"}, {"root": 5}, {"sequences": [[0, 3]]}],
)
def test_a_tombstone_that_tells_wrongly_is_found(log: UUID, owner: Owner, change: dict[str, Any]) -> None:
    with tenant_scope(log):
        first = Leaf.objects.get(seq=0)
        extent = selectors.extent(first.day, first.keeping)
        statements.state(statements.TOMBSTONE, {**extent, **change})
    tree.extend(log)
    owner.execute("DELETE FROM audit_record")
    assert codes(verification.verify(log)) == {Code.TOMBSTONE, Code.MISSING}


def test_what_was_erased_on_request_is_accounted_for(log: UUID, owner: Owner) -> None:
    with tenant_scope(log):
        hashes = [
            bytes(each)
            for each in Leaf.objects.filter(seq__in=[2, 3, 9]).order_by("seq").values_list("hash", flat=True)
        ]
        chosen = list(Leaf.objects.filter(seq__in=[2, 3, 9]).values_list("request_id", flat=True))
        body = {
            "sequences": [[2, 3], [9, 9]],
            "count": 3,
            "root": merkle.root(hashes).hex(),
            "metadata": "kept",
        }
        statements.state(statements.ERASURE, body)
    tree.extend(log)
    owner.execute("DELETE FROM audit_chunk WHERE request_id = ANY(%s)", [chosen])
    owner.execute("UPDATE audit_record SET input = '' WHERE id = ANY(%s)", [chosen])
    report = verification.verify(log)
    assert report.findings == [] and report.gone == 3
    # Only the content may be gone: who asked what, when, stays as it was.
    owner.execute("UPDATE audit_record SET user_label = 'x' WHERE id = %s", [chosen[0]])
    assert codes(verification.verify(log)) == {Code.ALTERED}


def test_a_closed_record_that_was_kept_out_of_the_log_is_found(
    member: Actor, log: UUID, owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    generation(member)
    owner.execute("DELETE FROM audit_pending")
    monkeypatch.setattr(selectors, "LATE_AFTER", timedelta(0))
    assert codes(verification.verify(log)) == {Code.UNPLACED}


def test_leaves_that_nobody_signs_are_found(
    member: Actor, log: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    generation(member)
    monkeypatch.setattr(sequencer, "_sign", lambda *_: None)
    tree.extend(log)
    assert verification.verify(log).is_sound
    monkeypatch.setattr(verification, "UNSIGNED_AFTER", timedelta(0))
    assert codes(verification.verify(log)) == {Code.UNSIGNED}


def test_random_tamperings_are_all_found_and_nothing_else_is(log: UUID, owner: Owner) -> None:
    times = int(os.environ.get("CUSTOS_TAMPERINGS", "60"))  # `make soak` asks for more.
    assert tamper_at_random(log, owner, times=times, chance=random.Random(5)) == (times, 0)


def tamper_at_random(log: UUID, owner: Owner, *, times: int, chance: random.Random) -> tuple[int, int]:
    """(tamperings found, false alarms) of so many, each undone before the next."""
    found = wrong = done = 0
    while done < times:
        table, column = chance.choice(COLUMNS)
        row = chance.choice(
            owner.execute(
                f"SELECT ctid, tableoid::regclass::text FROM {table} WHERE tenant_id = %s", [log]
            ).fetchall()
        )
        before = owner.execute(f"SELECT {column} FROM {row[1]} WHERE ctid = %s", [row[0]]).fetchone()
        if before is None or before[0] is None:
            continue
        done += 1
        after = _other(before[0], chance)
        new = owner.execute(
            f"UPDATE {row[1]} SET {column} = %s WHERE ctid = %s RETURNING ctid", [after, row[0]]
        ).fetchone()
        found += not verification.verify(log).is_sound
        owner.execute(f"UPDATE {row[1]} SET {column} = %s WHERE ctid = %s", [before[0], new and new[0]])
        wrong += not verification.verify(log).is_sound
    return found, wrong


# Whatever a leaf or head covers.
COLUMNS = [
    *(
        ("audit_record", name)
        for name in (
            "kind",
            "channel",
            "user_id",
            "user_label",
            "api_key_id",
            "session_ref",
            "model",
            "model_version",
            "adapter",
            "deployment",
            "route",
            "route_reason",
            "client_address",
            "conversation_id",
            "subject_id",
            "confined_to",
            "created",
            "input",
            "parameters",
            "context",
        )
    ),
    *(
        ("audit_completion", name)
        for name in (
            "finish_reason",
            "error_code",
            "prompt_tokens",
            "completion_tokens",
            "cached_tokens",
            "queue_ms",
            "ttft_ms",
            "total_ms",
            "itl_p50_ms",
            "chunk_count",
            "output_bytes",
            "ciphertext_digest",
            "leaf_digest",
            "created",
        )
    ),
    ("audit_chunk", "sealed"),
    ("audit_leaf", "hash"),
    ("audit_checkpoint", "root"),
    ("audit_statement", "text"),
]


def _other(value: Any, chance: random.Random) -> Any:
    """A value of the same kind that is not the same."""
    match value:
        case bytes() if value:
            place = chance.randrange(len(value))
            return value[:place] + bytes([value[place] ^ (1 << chance.randrange(8))]) + value[place + 1 :]
        case bytes() | memoryview():
            return b"\x00"
        case str():
            return value + chance.choice("x \n0")
        case int() | float():
            return value + chance.choice((1, 2, 1000))
        case UUID():
            return UUID(int=value.int ^ (1 << chance.randrange(128)))
        case _:
            return value + timedelta(microseconds=1)


def test_the_command_says_what_it_found(
    log: UUID, owner: Owner, capsys: pytest.CaptureFixture[str], witness: WitnessProcess
) -> None:
    call_command("verify_audit", tenant="acme-bank")
    assert "acme-bank: sound. 14 entries" in capsys.readouterr().out
    witness.kill()
    with pytest.raises(SystemExit) as status:
        call_command("verify_audit")
    assert status.value.code == 2
    witness.start()
    owner.execute("UPDATE audit_record SET model = 'x'")
    with pytest.raises(SystemExit) as status:
        call_command("verify_audit", tenant="acme-bank")
    assert status.value.code == 1
    assert "altered after it was closed" in capsys.readouterr().out


def test_public_keys_are_shown_by_a_command(log: UUID, capsys: pytest.CaptureFixture[str]) -> None:
    call_command("audit_keys")
    shown = capsys.readouterr().out
    assert str(signing.verifier(log)) in shown and "/witness+" in shown
