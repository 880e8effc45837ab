"""Listing and opening records: what a reviewer sees, and what is written down about the reviewer."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from django.db import connection

from audit import record
from audit.output import text_of
from audit.record import AuditUnavailable
from audit.selectors import (
    READ,
    ReasonRequired,
    RecordFilters,
    State,
    find_record,
    list_records,
    open_record,
    survey,
    views,
)
from tenants import clock, envelope
from tenants.access import Actor, NotVisible
from tenants.ids import time_of, uuid7
from tenants.scope import tenant_scope
from tests.audit.conftest import SMALL_TABLES, Explain, begin, generation, id_at

pytestmark = pytest.mark.django_db(transaction=True)


def _ids(reviewer: Actor, **filters: object) -> list[UUID]:
    return [found.id for found in list_records(reviewer, RecordFilters(**filters)).records]


def test_the_newest_record_comes_first(member: Actor, reviewer: Actor) -> None:
    handles = [generation(member) for _ in range(3)]
    assert _ids(reviewer) == [handle.request_id for handle in reversed(handles)]


def test_a_summary_has_what_a_list_shows_and_no_content(member: Actor, reviewer: Actor) -> None:
    handle = generation(member)
    summary = list_records(reviewer).records[0]
    assert (summary.id, summary.created) == (handle.request_id, time_of(handle.request_id))
    assert (summary.user_label, summary.model, summary.status) == (
        "member@acme-bank.example",
        "smollm2-135m-instruct",
        "completed",
    )
    assert summary.completion is not None
    assert (summary.completion.completion_tokens, summary.completion.tokens_per_s) == (5, 80.0)
    assert not hasattr(summary, "input")


def test_each_filter_narrows_and_they_combine(member: Actor, administrator: Actor, reviewer: Actor) -> None:
    now = clock.now()
    by_admin = generation(administrator, status="failed", model="other", channel="api").request_id
    by_member = generation(member).request_id
    running = begin(member, channel="api").request_id
    yesterday = generation(member, request_id=id_at(now - timedelta(days=1))).request_id

    assert _ids(reviewer) == [running, by_member, by_admin, yesterday]
    assert _ids(reviewer, user="admin@acme-bank.example") == []
    assert _ids(reviewer, user=administrator.label) == [by_admin]
    assert _ids(reviewer, model="other") == [by_admin]
    assert _ids(reviewer, channel="api") == [running, by_admin]
    assert _ids(reviewer, status="failed") == [by_admin]
    assert _ids(reviewer, status="completed") == [by_member, yesterday]
    assert _ids(reviewer, status="running") == [running]
    assert _ids(reviewer, until=now - timedelta(hours=1)) == [yesterday]
    assert _ids(reviewer, since=now - timedelta(hours=1)) == [running, by_member, by_admin]
    assert _ids(reviewer, channel="api", status="running", user=member.label) == [running]
    assert _ids(reviewer, channel="chat", status="running") == []


def test_since_is_included_and_until_is_not(member: Actor, reviewer: Actor) -> None:
    at = time_of(generation(member).request_id)
    assert len(_ids(reviewer, since=at)) == 1
    assert _ids(reviewer, until=at) == []
    assert _ids(reviewer, since=at + timedelta(microseconds=1)) == []
    assert len(_ids(reviewer, until=at + timedelta(microseconds=1))) == 1


def test_openings_are_listed_when_asked_for(member: Actor, reviewer: Actor) -> None:
    handle = generation(member)
    open_record(reviewer, handle.request_id, reason="sample")
    assert _ids(reviewer) == [handle.request_id]
    opening = list_records(reviewer, RecordFilters(kinds=(READ,))).records[0]
    assert (opening.user_label, opening.subject_id) == (reviewer.label, handle.request_id)
    assert len(_ids(reviewer, kinds=())) == 2


def test_pages_follow_each_other_while_new_records_arrive(member: Actor, reviewer: Actor) -> None:
    """Across midnight, too: two of the records are yesterday's."""
    past = [id_at(clock.now() - timedelta(days=1, seconds=s)) for s in (9, 5)]
    expected = [generation(member, request_id=request_id).request_id for request_id in past]
    expected += [generation(member).request_id for _ in range(5)]
    expected.reverse()
    seen: list[UUID] = []
    cursor = ""
    while True:
        page = list_records(reviewer, RecordFilters(), cursor, limit=3)
        seen += [found.id for found in page.records]
        generation(member)
        cursor = page.next_cursor
        if not cursor:
            break
    assert seen == expected


def test_the_last_full_page_has_no_next(member: Actor, reviewer: Actor) -> None:
    for _ in range(3):
        generation(member)
    assert list_records(reviewer, limit=3).next_cursor == ""
    assert list_records(reviewer, limit=2).next_cursor != ""


@pytest.mark.parametrize(
    "cursor", ["x", "00000000-0000-4000-8000-000000000000", "ffffffff-ffff-7fff-bfff-ffffffffffff"]
)
def test_a_cursor_that_is_none_is_not_found(reviewer: Actor, cursor: str) -> None:
    with pytest.raises(NotVisible):
        list_records(reviewer, RecordFilters(), cursor)


def test_a_survey_counts_what_is_present(member: Actor, administrator: Actor, reviewer: Actor) -> None:
    generation(member, model="b", status="failed")
    generation(administrator, model="a")
    generation(administrator, model="a", channel="api")
    begin(member, model="a")
    record.record_event(actor=reviewer, kind="probe", detail={})
    found = survey(reviewer)
    assert found.total == 4
    assert dict(found.facets["user"]) == {administrator.label: 2, member.label: 2}
    assert found.facets["model"] == [("a", 3), ("b", 1)]
    assert dict(found.facets["channel"]) == {"chat": 3, "api": 1}
    assert dict(found.facets["status"]) == {"completed": 2, "failed": 1, "running": 1}
    assert survey(reviewer, RecordFilters(status="failed")).total == 1


def test_another_tenants_reviewer_sees_nothing(member: Actor, outsider: Actor) -> None:
    handle = generation(member)
    assert _ids(outsider, kinds=()) == []
    assert (survey(outsider).total, survey(outsider).facets) == (0, {})
    assert views(outsider, [handle.request_id]) == []
    with pytest.raises(NotVisible):
        open_record(outsider, handle.request_id, reason="curious")
    with pytest.raises(NotVisible):
        find_record(outsider, handle.request_id)
    assert _ids(outsider, kinds=()) == [], "nothing was opened"


@pytest.mark.parametrize("role", ["member", "administrator"])
def test_only_reviewers_read_the_audit(
    request: pytest.FixtureRequest, member: Actor, role: str, rows: Callable[[str, UUID], int]
) -> None:
    actor = request.getfixturevalue(role)
    handle = generation(member)
    for attempt in (
        lambda: list_records(actor),
        lambda: survey(actor),
        lambda: views(actor, [handle.request_id]),
        lambda: find_record(actor, handle.request_id),
        lambda: open_record(actor, handle.request_id, reason="curious"),
    ):
        with pytest.raises(NotVisible):
            attempt()


def test_opening_shows_what_was_asked_and_answered(member: Actor, reviewer: Actor) -> None:
    handle = generation(member, texts=("Whoever ", "profits", "。"))
    view = open_record(reviewer, handle.request_id, reason="sample")
    assert view.state == State.INTACT
    assert view.input == [{"role": "user", "content": "What is a beneficial owner?"}]
    assert view.parameters == {"temperature": 0.2, "stop": ["END"]}
    assert text_of(view.output) == "Whoever profits。"
    assert view.summary.client_address == "192.0.2.7"


def test_opening_is_recorded_with_who_why_and_which(
    member: Actor, reviewer: Actor, owner: psycopg.Connection
) -> None:
    handle = generation(member)
    open_record(reviewer, handle.request_id, reason="  case 7  ", client_address="192.0.2.9")
    opening = list_records(reviewer, RecordFilters(kinds=(READ,))).records[0]
    assert (opening.user_id, opening.client_address) == (reviewer.user_id, "192.0.2.9")
    assert opening.status == "completed"
    assert open_record(reviewer, opening.id, reason="who was that").input == {
        "record": str(handle.request_id),
        "reason": "case 7",
    }


def test_a_record_shows_who_opened_it_before(member: Actor, reviewer: Actor) -> None:
    handle, other = generation(member), generation(member)
    open_record(reviewer, handle.request_id, reason="first")
    open_record(reviewer, other.request_id, reason="another record")
    history = open_record(reviewer, handle.request_id, reason="second").history
    assert [(reading.user_label, reading.reason) for reading in history] == [
        (reviewer.label, "second"),
        (reviewer.label, "first"),
    ]
    assert clock.now() - history[0].created < timedelta(seconds=30)


@pytest.mark.parametrize("reason", ["", "   "])
def test_a_record_is_not_opened_without_a_reason(member: Actor, reviewer: Actor, reason: str) -> None:
    handle = generation(member)
    with pytest.raises(ReasonRequired):
        open_record(reviewer, handle.request_id, reason=reason)
    assert _ids(reviewer, kinds=(READ,)) == []


@pytest.mark.parametrize("request_id", [uuid4(), uuid7(), UUID("ffffffff-ffff-7fff-bfff-ffffffffffff")])
def test_a_record_that_does_not_exist_is_not_found(reviewer: Actor, request_id: UUID) -> None:
    with pytest.raises(NotVisible):
        open_record(reviewer, request_id, reason="sample")
    with pytest.raises(NotVisible):
        find_record(reviewer, request_id)


def test_finding_a_record_shows_no_content_and_leaves_no_trace(member: Actor, reviewer: Actor) -> None:
    handle = generation(member)
    assert find_record(reviewer, handle.request_id) == list_records(reviewer).records[0]
    assert _ids(reviewer, kinds=(READ,)) == []


def test_counting_stops_where_nobody_needs_it_exactly(
    member: Actor, reviewer: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(4):
        generation(member)
    monkeypatch.setattr("audit.selectors.COUNT_MOST", 2)
    assert survey(reviewer).total == 3


def test_many_records_are_read_as_one_is(member: Actor, reviewer: Actor, owner: psycopg.Connection) -> None:
    handles = [generation(member, texts=(f"answer {number}", "!")) for number in range(3)]
    open_one = begin(member)
    wanted = [handles[2].request_id, open_one.request_id, handles[0].request_id, uuid7()]
    found = views(reviewer, wanted)
    assert [view.summary.id for view in found] == wanted[:3]
    assert [text_of(view.output) for view in found] == ["answer 2!", "", "answer 0!"]
    assert all(view.state == State.INTACT for view in found)
    # The control: what is altered is not shown here either.
    owner.execute("ALTER TABLE audit_chunk DISABLE TRIGGER USER")
    owner.execute(
        "UPDATE audit_chunk SET sealed = sealed || '\\x00' WHERE request_id = %s", [handles[0].request_id]
    )
    owner.execute("ALTER TABLE audit_chunk ENABLE TRIGGER USER")
    assert [view.state for view in views(reviewer, wanted)] == [State.INTACT, State.INTACT, State.ALTERED]


def test_nothing_is_decrypted_when_the_opening_cannot_be_recorded(
    member: Actor, reviewer: Actor, owner: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = generation(member)
    opened = []
    really_open = envelope.RecordCipher.open

    def watched(cipher: envelope.RecordCipher, *arguments: Any) -> bytes:
        opened.append(arguments)
        return really_open(cipher, *arguments)

    monkeypatch.setattr(envelope.RecordCipher, "open", watched)
    owner.execute("REVOKE INSERT ON audit_completion FROM custos_app")
    try:
        with pytest.raises(AuditUnavailable):
            open_record(reviewer, handle.request_id, reason="sample")
    finally:
        owner.execute("GRANT INSERT ON audit_completion TO custos_app")
    assert opened == []
    open_record(reviewer, handle.request_id, reason="sample")
    assert opened != [], "the watch must be able to see an opening"


def test_the_opening_is_committed_before_anything_is_decrypted(
    member: Actor, reviewer: Actor, rows: Callable[[str, UUID], int], owner: psycopg.Connection
) -> None:
    handle = generation(member)
    committed = []

    class Stop(Exception):
        pass

    def look(*_: object, **__: object) -> None:
        found = owner.execute(
            "SELECT count(*) FROM audit_completion JOIN audit_record USING (day) "
            "WHERE request_id = id AND subject_id = %s",
            [handle.request_id],
        )
        committed.append(found.fetchone()[0])
        raise Stop

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Stop):
        patch.setattr(envelope.RecordCipher, "open", look)
        open_record(reviewer, handle.request_id, reason="sample")
    assert committed == [1]


def test_inside_a_page_the_opening_is_part_of_its_transaction(
    member: Actor, reviewer: Actor, owner: psycopg.Connection
) -> None:
    handle = generation(member)
    with tenant_scope(reviewer.tenant_id):
        assert text_of(open_record(reviewer, handle.request_id, reason="sample").output) == "Whoever profits."
    assert len(_ids(reviewer, kinds=(READ,))) == 1


def test_a_list_reads_only_the_partitions_of_its_days(member: Actor, reviewer: Actor) -> None:
    """The first page stops at the newest day that fills it, and walks an index instead of sorting."""
    for _ in range(2):
        generation(member)
    plans = Explain(SMALL_TABLES)
    with connection.execute_wrapper(plans):
        list_records(reviewer, limit=1)
    listing = next(plan for sql, plan in plans.found if "ORDER BY" in sql and "audit_record" in sql)
    assert "Sort" not in listing
    assert "tenant_id_day_id_idx" in listing
    assert "never executed" in listing, "older days must not be read when the newest fills the page"
