"""Every coming and going is recorded in the person's tenants; nobody comes in unrecorded; attempts fill no audit."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any
from unittest.mock import patch
from uuid import UUID

import pytest
from allauth.usersessions.models import UserSession
from django.contrib.sessions.models import Session
from django.core.cache import cache
from django.test import Client

from audit.models import AuditCompletion, AuditRecord
from audit.record import AuditUnavailable, Keeping, handle_of, keeping_of, open_json
from console.pages import labels
from console.sign_in import sessions, trail
from console.tasks import record_failed_sign_in
from tenants import clock, floods, valkey
from tenants.models import Membership, User
from tenants.scope import tenant_scope
from tests.conftest import PASSWORD, Company, make_user
from tests.sign_in.conftest import add_authenticator_app, sign_in, sign_in_with_code

pytestmark = pytest.mark.django_db

KINDS = (trail.SIGNED_IN, trail.CONFIRMED, trail.FAILED, trail.SIGNED_OUT, trail.SESSION_ENDED)


@pytest.fixture(autouse=True)
def no_flood() -> None:
    client = valkey.sync_client()
    for key in client.scan_iter("custos:flood:*"):
        client.delete(key)


@pytest.fixture(autouse=True)
def sent(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What the worker is sent; it does it at once."""
    found: list[tuple[Any, ...]] = []

    def run(*args: Any) -> None:
        found.append(args)
        record_failed_sign_in.apply(args=args).get()

    monkeypatch.setattr(record_failed_sign_in, "delay", run)
    return found


def trail_of(company: Company) -> list[tuple[str, UUID | None, str, dict[str, Any]]]:
    """(kind, whom it is about, address, detail), oldest first."""
    with tenant_scope(company.tenant.pk):
        rows = AuditRecord.objects.filter(kind__startswith="sign_in.").order_by("id")
        return [
            (
                row.kind,
                row.subject_id,
                row.client_address,
                open_json(handle_of(row), field="input", sealed=row.input),
            )
            for row in rows
        ]


def unrecorded() -> Any:
    return patch("console.sign_in.trail.record_event", side_effect=AuditUnavailable("PostgreSQL is away"))


def test_each_kind_has_words_and_is_kept_with_the_changes() -> None:
    for kind in KINDS:
        assert kind in labels.EVENTS
        assert keeping_of(kind) == Keeping.CHANGES


def test_a_sign_in_by_password_and_a_sign_out(acme: Company, client: Client) -> None:
    sign_in(client, acme.member.email, REMOTE_ADDR="192.0.2.9")
    client.post("/signout/")
    told = trail_of(acme)
    assert [(kind, about) for kind, about, _address, _detail in told] == [
        (trail.SIGNED_IN, acme.member.pk),
        (trail.SIGNED_OUT, acme.member.pk),
    ]
    assert told[0][2] and told[0][3] == {"by": "password", "second_factor": ""}


def test_the_record_names_the_session_that_was_opened(acme: Company, client: Client) -> None:
    sign_in(client, acme.member.email)
    client.post("/signout/")
    with tenant_scope(acme.tenant.pk):
        refs = set(
            AuditRecord.objects.filter(kind__startswith="sign_in.").values_list("session_ref", flat=True)
        )
    assert len(refs) == 1 and "" not in refs


def test_the_second_factor_is_named_and_nothing_is_recorded_before_it(acme: Company, client: Client) -> None:
    add_authenticator_app(acme.member)
    sign_in(client, acme.member.email)
    assert trail_of(acme) == []
    client.post("/signin/second-factor/", {"code": "000000"})
    assert [(kind, detail["by"], detail["why"]) for kind, _about, _address, detail in trail_of(acme)] == [
        (trail.FAILED, "totp", "wrong code")
    ]
    cache.clear()
    client.post("/signin/start-again/")
    sign_in_with_code(client, acme.member)
    assert trail_of(acme)[-1][3] == {"by": "password", "second_factor": "totp"}


def test_who_belongs_to_two_is_recorded_in_both_and_a_stranger_in_none(
    acme: Company, north: Company, stranger: User, client: Client
) -> None:
    with tenant_scope(north.tenant.pk):
        Membership.objects.create(user=acme.member, role="member")
    sign_in(client, acme.member.email)
    assert len(trail_of(acme)) == len(trail_of(north)) == 1
    sign_in(Client(), stranger.email)
    assert len(trail_of(acme)) == len(trail_of(north)) == 1


def test_nobody_comes_in_unrecorded(acme: Company, client: Client) -> None:
    with unrecorded():
        answer = sign_in(client, acme.member.email)
    assert answer.status_code == 503 and "not possible at the moment" in answer.text
    assert client.get("/account/").status_code == 302
    assert sign_in(client, acme.member.email).status_code == 302
    assert client.get("/account/").status_code == 200


def test_nobody_is_kept_from_leaving(acme: Company, client: Client) -> None:
    sign_in(client, acme.member.email)
    with unrecorded():
        assert client.post("/signout/").status_code == 302
    assert client.get("/account/").status_code == 302


def test_a_failed_attempt_is_recorded_for_members_and_sent_off_for_anybody(
    acme: Company, client: Client, sent: list[Any]
) -> None:
    sign_in(client, acme.member.email, "wrong", REMOTE_ADDR="192.0.2.9")
    sign_in(client, "nobody@acme-bank.example", "wrong")
    assert [args[0] for args in sent] == [str(acme.member.pk), ""]
    assert "nobody" not in str(sent) and "wrong" not in [*sent[0][:1], *sent[1][:1]]
    told = trail_of(acme)
    assert [(kind, about) for kind, about, _address, _detail in told] == [(trail.FAILED, acme.member.pk)]
    assert told[0][3] == {"by": "password", "why": "wrong password", "count": 1}
    with tenant_scope(acme.tenant.pk):
        assert AuditCompletion.objects.values_list("status", flat=True).get() == "failed"


def test_the_answer_is_the_same_whether_there_is_such_a_person(acme: Company, client: Client) -> None:
    known = sign_in(client, acme.member.email, "wrong").text.replace(acme.member.email, "")
    unknown = sign_in(client, "nobody@acme-bank.example", "wrong").text.replace(
        "nobody@acme-bank.example", ""
    )
    assert _without_tokens(known) == _without_tokens(unknown)


def _without_tokens(page: str) -> list[str]:
    return [line for line in page.splitlines() if "nonce" not in line and "csrf" not in line]


def test_a_flood_of_attempts_makes_few_records_and_none_goes_unnoticed(acme: Company, client: Client) -> None:
    with patch("tenants.clock.now", return_value=clock.now()):  # One minute.
        for _ in range(40):
            sign_in(client, acme.member.email, "wrong")
    told = [detail for _kind, _about, _address, detail in trail_of(acme)]
    assert [(each["why"], each["count"]) for each in told] == [
        *(("wrong password", count) for count in (1, 2, 4, 8)),
        *(("too many attempts", count) for count in (1, 2, 4, 8, 16)),
    ]


@pytest.fixture
def later() -> Iterator[Callable[[timedelta], Any]]:
    yield lambda ahead: patch("tenants.clock.now", return_value=clock.now() + ahead)


def test_a_flood_is_counted_minute_by_minute_and_apart(later: Callable[[timedelta], Any]) -> None:
    with later(timedelta()):
        assert [floods.due("a", 1) for _ in range(9)] == [1, 2, 0, 4, 0, 0, 0, 8, 0]
        assert floods.due("a", 2) == 1
    with later(timedelta(minutes=1)):
        assert floods.due("a", 1) == 1


def test_without_valkey_each_is_recorded() -> None:
    with patch("tenants.floods.sync_client", side_effect=OSError):
        assert [floods.due("a"), floods.due("a")] == [1, 1]


def test_a_confirmation_is_recorded_and_a_failed_one_too(acme: Company, client: Client) -> None:
    sign_in(client, acme.member.email)
    client.post("/account/confirm/", {"password": "wrong"})
    client.post("/account/confirm/", {"password": PASSWORD})
    told = [(kind, detail.get("by")) for kind, _about, _address, detail in trail_of(acme)]
    assert told == [(trail.SIGNED_IN, "password"), (trail.FAILED, "password"), (trail.CONFIRMED, "password")]


def test_a_session_whose_time_ran_out_is_recorded_once(acme: Company, client: Client) -> None:
    sign_in(client, acme.member.email, HTTP_USER_AGENT="Firefox/140.0 (Windows)")
    client.get("/account/")
    assert UserSession.objects.count() == 1
    assert sessions.forget_ended() == 0
    Session.objects.all().delete()
    with unrecorded():
        assert sessions.forget_ended() == 0
    assert [sessions.forget_ended(), sessions.forget_ended()] == [1, 0]
    kind, about, _address, detail = trail_of(acme)[-1]
    assert (kind, about) == (trail.SESSION_ENDED, acme.member.pk)
    assert set(detail) == {"device", "address", "last_seen"}


def test_a_session_that_its_person_ended_is_not_recorded_twice(acme: Company, client: Client) -> None:
    sign_in(client, acme.member.email)
    client.get("/account/")
    client.post("/signout/")
    assert sessions.forget_ended() == 0
    assert [kind for kind, *_ in trail_of(acme)] == [trail.SIGNED_IN, trail.SIGNED_OUT]


def test_a_company_that_names_somebody_it_does_not_speak_for(acme: Company, north: Company) -> None:
    """It is recorded where the provider is, if the person belongs there, and nowhere else."""
    make_user("x@else.example")
    trail.company_refused(tenant_id=acme.tenant.pk, email=acme.reviewer.email)
    trail.company_refused(tenant_id=acme.tenant.pk, email=north.reviewer.email)
    trail.company_refused(tenant_id=acme.tenant.pk, email="x@else.example")
    assert [(kind, about) for kind, about, *_ in trail_of(acme)] == [(trail.FAILED, acme.reviewer.pk)]
    assert trail_of(north) == []
