"""Records whose process died are closed, and no others."""

import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from uuid import UUID

import psycopg
import pytest
import redis
from django.conf import settings

from audit import reaper, record, tasks
from audit.models import AuditCompletion
from audit.record import AuditRefused, Handle
from tenants import clock
from tenants.access import Actor
from tenants.models import Tenant
from tenants.scope import tenant_scope
from tests.audit.conftest import begin, generation, id_at

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def valkey() -> Iterator[redis.Redis]:
    with redis.Redis.from_url(settings.REDIS_URL) as client:
        client.flushdb()
        yield client
        client.flushdb()


def _begun(actor: Actor, *, ago_s: float, kind: str = record.GENERATION) -> Handle:
    return begin(actor, request_id=id_at(clock.now() - timedelta(seconds=ago_s)), kind=kind)


def _completion(handle: Handle) -> AuditCompletion | None:
    with tenant_scope(handle.tenant_id):
        return AuditCompletion.objects.filter(day=handle.day, request_id=handle.request_id).first()


def _status(handle: Handle) -> str | None:
    completion = _completion(handle)
    return completion.status if completion else None


def test_an_orphan_is_closed_as_interrupted_with_what_was_recorded(
    member: Actor,
) -> None:
    handle = _begun(member, ago_s=21)
    record.append(handle, seq=1, text="half an ")
    record.append(handle, seq=2, text="answer")
    assert reaper.close_orphans() == 1
    completion = _completion(handle)
    assert completion is not None
    assert (completion.status, completion.error_code) == ("interrupted", "runner_lost")
    assert (completion.chunk_count, completion.output_bytes) == (2, 14)
    assert completion.completion_tokens is None, "nobody is left who counted them"
    assert 20_000 < completion.total_ms < 30_000, "until its last recorded chunk"
    with pytest.raises(AuditRefused):
        record.append(handle, seq=3, text=" from the dead")


@pytest.mark.parametrize("kind", record.REQUESTS)
def test_an_orphan_that_never_answered_is_closed(member: Actor, kind: str) -> None:
    handle = _begun(member, ago_s=21, kind=kind)
    tasks.close_orphans()
    completion = _completion(handle)
    assert completion is not None and completion.status == "interrupted"
    assert completion.total_ms is None


def test_what_lives_is_young_or_closed_is_left_alone(member: Actor, valkey: redis.Redis) -> None:
    alive, young, closed = _begun(member, ago_s=500), _begun(member, ago_s=10), generation(member)
    event = record.record_event(actor=member, kind="probe", detail={})
    valkey.set(f"custos:{member.tenant_id}:generation:{alive.request_id}:alive", "1", ex=15)
    assert reaper.close_orphans() == 0
    assert [_status(handle) for handle in (alive, young, closed, event)] == [
        None,
        None,
        "completed",
        "completed",
    ]
    valkey.flushdb()
    assert reaper.close_orphans() == 1
    assert _status(alive) == "interrupted"


def test_every_tenant_is_served_even_a_suspended_one(member: Actor, outsider: Actor) -> None:
    handles = [_begun(actor, ago_s=30) for actor in (member, outsider)]
    Tenant.objects.filter(pk=outsider.tenant_id).update(status=Tenant.Status.SUSPENDED)
    assert reaper.close_orphans() == 2
    assert [_status(handle) for handle in handles] == ["interrupted", "interrupted"]


def test_nobody_is_declared_dead_while_valkey_is_away(
    member: Actor, settings: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> None:
    handle = _begun(member, ago_s=30)
    settings.REDIS_URL = "redis://127.0.0.1:9/0"
    assert reaper.close_orphans() == 0
    assert _status(handle) is None
    assert "Valkey does not answer" in caplog.text


def test_a_record_that_cannot_be_closed_holds_up_no_other(
    member: Actor, owner: psycopg.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    stuck, other = _begun(member, ago_s=40), _begun(member, ago_s=30)
    owner.execute(
        f"ALTER TABLE audit_completion ADD CONSTRAINT stuck CHECK (request_id <> '{stuck.request_id}')"
    )
    try:
        assert reaper.close_orphans() == 1
    finally:
        owner.execute("ALTER TABLE audit_completion DROP CONSTRAINT stuck")
    assert (_status(stuck), _status(other)) == (None, "interrupted")
    assert f"record {stuck.request_id}, whose process is gone, could not be closed" in caplog.text
    assert reaper.close_orphans() == 1


def test_orphans_of_yesterday_are_found(member: Actor) -> None:
    handle = _begun(member, ago_s=24 * 3600)
    assert reaper.close_orphans() == 1
    assert _status(handle) == "interrupted"


def test_looking_again_starts_where_everything_is_closed(member: Actor, valkey: redis.Redis) -> None:
    """Yet an old generation that still runs, and one begun since, are found later."""
    old, middle = _begun(member, ago_s=3 * 3600), _begun(member, ago_s=2 * 3600)
    valkey.set(reaper.alive_key(old), "1")
    assert reaper.close_orphans() == 1
    new = _begun(member, ago_s=30)
    assert reaper.close_orphans() == 1
    valkey.delete(reaper.alive_key(old))
    assert reaper.close_orphans() == 1
    assert [_status(handle) for handle in (old, middle, new)] == ["interrupted"] * 3
    reaper.close_orphans()
    assert reaper._settled[member.tenant_id] > clock.now() - timedelta(hours=2)


def test_a_killed_process_leaves_an_orphan_that_is_closed(member: Actor, owner: psycopg.Connection) -> None:
    orphans: list[UUID] = []
    for _ in range(10):
        _write_a_little_and_die(member.tenant_id)
        orphans = [
            row[0]
            for row in owner.execute(
                "SELECT id FROM audit_record WHERE id NOT IN (SELECT request_id FROM audit_completion)"
            )
        ]
        if orphans:
            break
    assert reaper.close_orphans(older_than=timedelta()) == len(orphans) == 1
    assert _status(Handle(member.tenant_id, orphans[0])) == "interrupted"


def _write_a_little_and_die(tenant_id: UUID) -> None:
    command = [sys.executable, "-m", "tests.audit.writer", str(tenant_id)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        for _ in range(3):
            writer.stdout.readline()
        writer.kill()
