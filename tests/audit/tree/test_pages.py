"""The Proof page tells the state of the log in words, and how one record is proven."""

import json
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from django.test import Client

from audit import tree
from audit.models import AuditRecord
from audit.tree import checks, sequencer, signing
from audit.tree.models import Check
from console import tasks
from tenants import clock
from tenants.access import Actor
from tenants.ids import uuid7
from tenants.models import User
from tenants.scope import tenant_scope
from tests.audit.conftest import begin, generation
from tests.audit.tree.conftest import WitnessProcess
from tests.conftest import Company
from tests.support.services import Services

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("witness")]

PROOF = "/t/acme-bank/audit/proof/"


@pytest.fixture
def auditor(acme: Company, client_of: Callable[[User], Client]) -> Client:
    return client_of(acme.auditor)


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker does what it is asked for at once."""
    monkeypatch.setattr(tasks.check_log, "delay", lambda *arguments: tasks.check_log(*arguments))


def text_of(response: Any) -> str:
    return " ".join(response.content.decode().split())


def test_before_the_first_record_nothing_is_proven(auditor: Client) -> None:
    page = text_of(auditor.get(PROOF))
    assert "Nothing is proven yet" in page and "Nobody asked for a check yet" in page


def test_the_page_tells_what_the_log_shows(auditor: Client, member: Actor) -> None:
    generation(member)
    tree.extend(member.tenant_id)
    page = text_of(auditor.get(PROOF))
    assert "Nothing is proven yet" not in page
    assert str(signing.verifier(member.tenant_id)) in page.replace("&#x2B;", "+")
    assert "/witness+" in page and "The witness is away" not in page


@pytest.mark.usefixtures("at_once")
def test_a_check_is_asked_for_recorded_and_its_result_told(
    auditor: Client, acme: Company, member: Actor
) -> None:
    generation(member)
    tree.extend(member.tenant_id)
    assert auditor.post(PROOF + "check").headers["Location"] == PROOF
    page = text_of(auditor.get(PROOF))
    assert "Sound" in page and "The witness has seen the same log." in page
    with tenant_scope(member.tenant_id):
        event = AuditRecord.objects.get(kind="proof.checked")
        assert event.user_id == acme.auditor.pk


@pytest.mark.usefixtures("at_once")
def test_findings_are_told_as_sentences(auditor: Client, member: Actor, services: Services) -> None:
    generation(member)
    tree.extend(member.tenant_id)
    with psycopg.connect(services.postgres.url, autocommit=True) as owner:
        owner.execute("UPDATE audit_record SET model = 'x'")
    auditor.post(PROOF + "check")
    assert "Entry 0: the record was altered after it was closed." in text_of(auditor.get(PROOF))


@pytest.mark.usefixtures("at_once")
def test_without_the_witness_a_check_is_not_whole(
    auditor: Client, member: Actor, witness: WitnessProcess
) -> None:
    generation(member)
    tree.extend(member.tenant_id)
    witness.kill()
    auditor.post(PROOF + "check")
    page = text_of(auditor.get(PROOF))
    assert "Not fully checked" in page and "The witness did not answer." in page


def test_a_second_check_waits_for_the_first(
    auditor: Client, member: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[Any] = []
    monkeypatch.setattr(tasks.check_log, "delay", lambda *arguments: sent.append(arguments))
    auditor.post(PROOF + "check")
    auditor.post(PROOF + "check")
    assert len(sent) == 1
    page = text_of(auditor.get(PROOF))
    assert "The check is under way." in page and "<progress" in page and "Check now" not in page
    assert json.loads(auditor.get(PROOF + "progress").content) == {"done": 0, "total": 0, "running": True}
    with tenant_scope(member.tenant_id):
        Check.objects.update(heard=clock.now() - checks.LOST_AFTER)
    assert "did not come to its end" in text_of(auditor.get(PROOF))
    auditor.post(PROOF + "check")
    assert len(sent) == 2


def test_alarms_stand_on_the_page(
    auditor: Client,
    member: Actor,
    services: Services,
    witness: WitnessProcess,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sequencer, "SIGN_LEAVES", 1)
    generation(member)
    tree.extend(member.tenant_id)
    witness.kill()
    generation(member)
    tree.extend(member.tenant_id)
    with psycopg.connect(services.postgres.url, autocommit=True) as owner:
        owner.execute("UPDATE audit_checkpoint SET created = now() - interval '2 minutes'")
        assert "The witness is away" in text_of(auditor.get(PROOF))
        owner.execute("SET session_replication_role = replica")
        owner.execute("UPDATE audit_leaf SET hash = sha256(hash) WHERE seq = 0")
    witness.start()
    generation(member)
    tree.extend(member.tenant_id)
    assert "The witness refuses this log" in text_of(auditor.get(PROOF))
    generation(member)
    with psycopg.connect(services.postgres.url, autocommit=True) as owner:
        owner.execute("UPDATE audit_pending SET since = now() - interval '2 minutes'")
    assert "Closed records are not in the log" in text_of(auditor.get(PROOF))


def test_a_records_proof_is_explained_step_by_step(
    auditor: Client, acme: Company, member: Actor, client_of: Callable[[User], Client]
) -> None:
    handles = [generation(member) for _ in range(5)]
    running = begin(member)
    assert "Not in the log yet" in text_of(auditor.get(f"{PROOF}{handles[0].request_id}/"))
    tree.extend(member.tenant_id)
    page = auditor.get(f"{PROOF}{handles[2].request_id}/")
    assert page.context["steps"][-1]["result"] == page.context["root"]
    assert "and by the witness" in text_of(page)
    assert "still running" in text_of(auditor.get(f"{PROOF}{running.request_id}/"))
    assert auditor.get(f"{PROOF}{uuid7()}/").status_code == 404
    # Who may export is shown the way to a bundle; the record's own page leads here.
    assert "Export with proof" not in text_of(page)
    officer = client_of(acme.officer)
    assert "Export with proof" in text_of(officer.get(f"{PROOF}{handles[2].request_id}/"))
    record = text_of(officer.get(f"/t/acme-bank/audit/{handles[2].request_id}/"))
    assert f'href="{PROOF}{handles[2].request_id}/"' in record


def test_an_event_of_a_case_has_no_proof_for_those_outside(auditor: Client, member: Actor) -> None:
    from audit.record import record_event

    event = record_event(actor=member, kind="case.opened", detail={}, confined_to=uuid7())
    tree.extend(member.tenant_id)
    assert auditor.get(f"{PROOF}{event.request_id}/").status_code == 404


def test_keys_checkpoint_and_verifier_can_be_taken_along(auditor: Client, member: Actor) -> None:
    assert auditor.get(PROOF + "checkpoint").content == b""
    generation(member)
    tree.extend(member.tenant_id)
    assert str(signing.verifier(member.tenant_id)) in auditor.get(PROOF + "keys").content.decode()
    assert auditor.get(PROOF + "checkpoint").content.startswith(signing.origin(member.tenant_id).encode())
    program = auditor.get(PROOF + "verifier")
    assert program.content.startswith(b"#!/usr/bin/env python3")
