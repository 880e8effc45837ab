"""What was acknowledged is there, whichever process is killed at whatever moment."""

import os
import signal
import subprocess
import sys
import time

import psycopg
import pytest
from asgiref.sync import SyncToAsync
from django.db import connection

from audit import record
from audit.record import Handle
from tenants.access import Actor
from tests.audit.conftest import begin
from tests.audit.writer import CHUNKS, text_of
from tests.support.services import Services

pytestmark = pytest.mark.django_db(transaction=True)


def _write_and_kill(tenant_id: object, lines: int, seconds: float) -> list[list[str]]:
    """What a writer said before it was killed, `seconds` after it had said so many lines."""
    writer = subprocess.Popen(
        [sys.executable, "-m", "tests.audit.writer", str(tenant_id)], stdout=subprocess.PIPE
    )
    assert writer.stdout is not None
    try:
        said = [writer.stdout.readline() for _ in range(lines)]
        time.sleep(seconds)
    finally:
        writer.kill()
    said += writer.stdout.readlines()
    writer.stdout.close()
    assert writer.wait() == -signal.SIGKILL
    return [line.decode().split() for line in said if line.endswith(b"\n")]


def test_killing_the_writer_loses_nothing_and_doubles_nothing(
    member: Actor, owner: psycopg.Connection
) -> None:
    acknowledged = []
    for lines, seconds in ((15, 0.001), (16, 0.0035), (17, 0.007)):
        acknowledged += _write_and_kill(member.tenant_id, lines, seconds)
    begun = {words[1] for words in acknowledged if words[0] == "begin"}
    appended = {(words[1], int(words[2])) for words in acknowledged if words[0] == "append"}
    completed = {words[1] for words in acknowledged if words[0] == "complete"}
    assert len(appended) > 20, "the writers must have got somewhere for this test to mean anything"

    records = [str(row[0]) for row in owner.execute("SELECT id FROM audit_record")]
    chunks = owner.execute(
        "SELECT request_id, seq, sealed FROM audit_chunk ORDER BY request_id, seq"
    ).fetchall()
    closed = dict(owner.execute("SELECT request_id::text, chunk_count FROM audit_completion").fetchall())
    places = [(str(request_id), seq) for request_id, seq, _ in chunks]

    assert begun <= set(records) and len(records) == len(set(records))
    assert appended <= set(places) and len(places) == len(set(places))
    assert completed <= set(closed) and set(closed.values()) == {CHUNKS}
    for request_id, seq, sealed in chunks:
        text = record.open_output(Handle(member.tenant_id, request_id), seq=seq, sealed=sealed)
        assert text == text_of(request_id, seq)


@pytest.mark.timeout(400)
def test_killing_the_database_loses_nothing(member: Actor, services: Services) -> None:
    """Even where the role is set to acknowledge before the disk does: the audit's own triggers insist."""
    with psycopg.connect(services.postgres.url, autocommit=True) as owner:
        owner.execute("ALTER ROLE custos_app SET synchronous_commit = off")
        # What the tests before wrote and emptied need not be gone through again after the kill.
        owner.execute("CHECKPOINT")
    connection.close()
    acknowledged = []
    try:
        handle = begin(member)
        for seq in range(1, 40):
            record.append(handle, seq=seq, text=f"chunk {seq}")
            acknowledged.append(seq)
        _kill_the_database(services)
        connection.close()
        with psycopg.connect(services.postgres.url) as owner:
            stored = owner.execute(
                "SELECT seq FROM audit_chunk WHERE request_id = %s ORDER BY seq", [handle.request_id]
            )
            assert [row[0] for row in stored] == acknowledged
        assert record.complete(handle, status="completed").chunk_count == len(acknowledged)
    finally:
        with psycopg.connect(services.postgres.url, autocommit=True) as owner:
            owner.execute("ALTER ROLE custos_app RESET synchronous_commit")
        connection.close()


def _kill_the_database(services: Services) -> None:
    """Every process at once, so that nothing in its memory is written out, and start it again."""
    with psycopg.connect(services.postgres.url, autocommit=True) as owner:
        workers = [row[0] for row in owner.execute("SELECT pid FROM pg_stat_activity WHERE pid IS NOT NULL")]
    postmaster = services.postgres.pid
    assert postmaster is not None
    os.kill(postmaster, signal.SIGSTOP)
    for pid in [*workers, postmaster]:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    while services.postgres.running:
        time.sleep(0.02)
    services.postgres.start()
    # Later tests share this thread: its connection died with the server.
    SyncToAsync.single_thread_executor.submit(lambda: connection.close()).result()
