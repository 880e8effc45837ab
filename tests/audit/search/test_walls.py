"""What nobody may find, count or read: other tenants' records, hidden events, and the index without its keys."""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from django.db import Error, connection

from audit import record, secrecy
from audit.record import AuditUnavailable, Keeping
from audit.search import index
from audit.search.engine import SEARCH, Found, Search, Sort, find, iterate
from audit.selectors import ReasonRequired, RecordFilters, list_records, open_record
from tenants import clock, envelope
from tenants.access import Actor, NotVisible
from tenants.scope import tenant_scope
from tests.audit.conftest import id_at
from tests.audit.search.conftest import ids, look, say
from tests.conftest import Company

pytestmark = pytest.mark.django_db(transaction=True)

WORD = "kryptonite"


def _told(found: Found) -> str:
    """All that a page of hits lets out."""
    return repr(found)


def test_another_tenants_same_words_are_neither_found_nor_counted(
    member: Actor, reviewer: Actor, outsider: Actor, north: Company, settle: Callable[[], object]
) -> None:
    mine = say(member, f"so much {WORD}")
    theirs = say(north.actor(north.member), f"so much {WORD}")
    settle()
    for text in (WORD, f'"much {WORD}"', f"{WORD[:5]}*", "", "-nothing"):
        found = look(reviewer, text)
        assert ([hit.summary.id for hit in found.hits], found.total) == ([mine], 1), text
        assert str(theirs) not in _told(found)
        assert "north" not in _told(found), "no name stands in a facet either"
        assert list(iterate(outsider, Search(text))) == [theirs]


def test_the_function_that_reads_the_index_keeps_to_the_tenant(
    member: Actor, reviewer: Actor, outsider: Actor, owner: psycopg.Connection
) -> None:
    """It runs as the owner, so nothing but itself keeps it from other tenants' entries."""
    say(member, WORD)
    index.index_waiting()
    (words,) = owner.execute("SELECT words FROM audit_search_entry").fetchone()
    plan = {"keeping": "audit", "must": words[:1], "any": [], "none": [], "inside": []}
    plan |= {"low": str(UUID(int=0)), "high": str(UUID(int=(1 << 128) - 1))}
    asked = "SELECT count(*) FROM audit_search_day(%s, %s, 'newest', 10)", [clock.today(), json.dumps(plan)]
    counts = []
    for tenant_id in (reviewer.tenant_id, outsider.tenant_id):
        with tenant_scope(tenant_id), connection.cursor() as cursor:
            cursor.execute(*asked)
            counts.append(cursor.fetchone()[0])
    with connection.cursor() as cursor:
        cursor.execute(*asked)
        counts.append(cursor.fetchone()[0])
    assert counts == [1, 0, 0]


@pytest.mark.parametrize("name", ["rule", "risk", "kinds", "but", "inside", "without"])
def test_values_in_a_plan_are_never_sql(member: Actor, outsider: Actor, name: str) -> None:
    say(member, WORD)
    index.index_waiting()
    plan: dict[str, Any] = {"keeping": "audit' OR true --", "must": [], "any": [], "none": [], "inside": []}
    plan |= {"low": str(UUID(int=0)), "high": str(UUID(int=(1 << 128) - 1)), name: ["' OR true --"]}
    found: list[Any] = []
    with tenant_scope(outsider.tenant_id), connection.cursor() as cursor:
        try:
            cursor.execute(
                "SELECT * FROM audit_search_day(%s, %s, 'newest', 10)", [clock.today(), json.dumps(plan)]
            )
            found = cursor.fetchall()
        except Error as error:
            assert "invalid input syntax" in str(error)
            connection.set_rollback(True)
    assert found == []


def test_the_index_says_nothing_without_the_key(
    member: Actor, outsider: Actor, owner: psycopg.Connection, north: Company
) -> None:
    yesterday = clock.now() - timedelta(days=1)
    for actor in (member, north.actor(north.member)):
        say(actor, f"{WORD} 洗钱风险", conversation_id=None)
        say(actor, f"{WORD} 洗钱风险", request_id=id_at(yesterday))
    index.index_waiting()
    rows = owner.execute(
        "SELECT day, tenant_id, words, to_jsonb(audit_search_entry)::text FROM audit_search_entry"
    ).fetchall()
    assert len(rows) == 4
    for _day, _tenant, words, told in rows:
        assert WORD not in told and "洗钱" not in told
        assert words == sorted(words), "in the order of hashes, not of the text"
    sets = [set(words) for _, _, words, _ in rows]
    for place, first in enumerate(sets):
        for second in sets[place + 1 :]:
            assert not first & second, "equal words of two days or tenants have nothing in common"


def test_equal_words_of_one_day_and_tenant_are_equal(member: Actor, owner: psycopg.Connection) -> None:
    """The other side of the test above: it must be able to see what is in common."""
    say(member, WORD)
    say(member, WORD)
    index.index_waiting()
    first, second = (set(words) for (words,) in owner.execute("SELECT words FROM audit_search_entry"))
    assert first == second


def test_when_a_days_key_is_destroyed_nothing_is_found_and_nothing_fails(
    member: Actor, reviewer: Actor, owner: psycopg.Connection, settle: Callable[[], object]
) -> None:
    gone = say(member, f"{WORD} long ago", request_id=id_at(clock.now() - timedelta(days=1)))
    left = say(member, WORD)
    settle()
    texts = (WORD, f'"{WORD}"', f"{WORD[:4]}*", "")
    assert all(ids(reviewer, text) == [left, gone] for text in texts)
    day = clock.today() - timedelta(days=1)
    owner.execute("DELETE FROM tenants_datakey WHERE day = %s AND purpose = %s", [day, Keeping.REQUESTS])
    envelope.cache.clear()
    for text in texts[:3]:
        found = look(reviewer, text)
        assert ([hit.summary.id for hit in found.hits], found.total) == ([left], 1), text


def test_a_record_that_cannot_be_read_is_no_obstacle(
    member: Actor, reviewer: Actor, owner: psycopg.Connection, settle: Callable[[], object]
) -> None:
    spoilt, whole = say(member, f"all {WORD}"), say(member, f"all {WORD}")
    owner.execute("ALTER TABLE audit_record DISABLE TRIGGER ALL")
    owner.execute("UPDATE audit_record SET input = '\\x01' WHERE id = %s", [spoilt])
    owner.execute("ALTER TABLE audit_record ENABLE TRIGGER ALL")
    settle()
    assert ids(reviewer, f'"all {WORD}"') == [whole]


def test_events_of_a_case_are_hidden_from_those_outside(
    member: Actor, reviewer: Actor, settle: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    case = uuid4()
    handle = record.record_event(actor=member, kind="case.note", detail={"text": WORD}, confined_to=case)
    settle()
    search = Search(f"{WORD} -reason", kinds=("case.note",))
    found = find(reviewer, search, reason="sample")
    assert (found.hits, found.total) == ([], 0)
    assert not any(found.facets.values())
    assert list(iterate(reviewer, search)) == []
    monkeypatch.setattr(secrecy, "inside", lambda actor: {case})
    inside = find(reviewer, search, reason="sample")
    assert ([hit.summary.id for hit in inside.hits], inside.total) == ([handle.request_id], 1)


def test_searching_takes_a_permission_and_a_reason(member: Actor, reviewer: Actor, acme: Company) -> None:
    for user in (acme.member, acme.auditor, acme.administrator):
        with pytest.raises(NotVisible):
            find(acme.actor(user), Search("x"), reason="sample")
        with pytest.raises(NotVisible):
            list(iterate(acme.actor(user), Search("x")))
    with pytest.raises(ReasonRequired):
        find(reviewer, Search("x"), reason="  ")
    assert list_records(reviewer, RecordFilters(kinds=(SEARCH,))).records == []


def test_who_searched_for_what_and_why_is_recorded_once(member: Actor, reviewer: Actor) -> None:
    for _ in range(3):
        say(member, WORD)
    search = Search(WORD, status="completed")
    first = find(reviewer, search, reason=" case 7 ", limit=2, client_address="192.0.2.9")
    find(reviewer, search, reason="case 7", limit=2, cursor=first.next_cursor)
    (event,) = list_records(reviewer, RecordFilters(kinds=(SEARCH,))).records
    assert (event.user_id, event.client_address) == (reviewer.user_id, "192.0.2.9")
    assert open_record(reviewer, event.id, reason="why").input == {
        "search": {"text": WORD, "status": "completed", "kinds": list(record.REQUESTS), "sort": "newest"},
        "reason": "case 7",
    }


def test_a_cursor_shows_nothing_that_came_after_the_search(member: Actor, reviewer: Actor) -> None:
    """The search that is recorded found what was there; for what comes later another is recorded."""
    first, second = say(member, WORD), say(member, WORD)
    search = Search(WORD, sort=Sort.OLDEST)
    found = find(reviewer, search, reason="x", limit=1)
    assert [hit.summary.id for hit in found.hits] == [first]
    later = say(member, WORD)
    page = find(reviewer, search, reason="x", limit=1, cursor=found.next_cursor)
    assert ([hit.summary.id for hit in page.hits], page.next_cursor, page.total) == ([second], "", 2)
    # The control: another search finds it.
    assert later in [hit.summary.id for hit in find(reviewer, search, reason="x").hits]


def test_a_cursor_belongs_to_one_person_and_one_search(
    member: Actor, reviewer: Actor, outsider: Actor, acme: Company
) -> None:
    for _ in range(3):
        say(member, WORD)
    cursor = look(reviewer, WORD).next_cursor or find(reviewer, Search(WORD), reason="x", limit=1).next_cursor
    assert find(reviewer, Search(WORD), reason="x", cursor=cursor).hits
    for actor, search, place in (
        (reviewer, Search(f"{WORD} -x"), cursor),
        (acme.actor(acme.officer), Search(WORD), cursor),
        (outsider, Search(WORD), cursor),
        (reviewer, Search(WORD), cursor[:-2] + "xx"),
        (reviewer, Search(WORD), "x"),
    ):
        with pytest.raises(NotVisible):
            find(actor, search, reason="x", cursor=place)


def test_nothing_is_opened_when_the_search_cannot_be_recorded(
    member: Actor,
    reviewer: Actor,
    owner: psycopg.Connection,
    monkeypatch: pytest.MonkeyPatch,
    settle: Callable[[], object],
) -> None:
    say(member, f"all {WORD}")
    settle()
    opened = []
    really_open = envelope.RecordCipher.open

    def watched(cipher: envelope.RecordCipher, *arguments: Any) -> bytes:
        opened.append(arguments)
        return really_open(cipher, *arguments)

    monkeypatch.setattr(envelope.RecordCipher, "open", watched)
    owner.execute("REVOKE INSERT ON audit_completion FROM custos_app")
    try:
        with pytest.raises(AuditUnavailable):
            look(reviewer, f'"all {WORD}"')
    finally:
        owner.execute("GRANT INSERT ON audit_completion TO custos_app")
    assert opened == []
    assert look(reviewer, f'"all {WORD}"').total == 1
    assert opened != [], "the watch must be able to see an opening"


@pytest.mark.parametrize(
    "statement", ["UPDATE audit_search_entry SET words = '{}'", "DELETE FROM audit_search_entry"]
)
def test_the_application_changes_no_entry(member: Actor, statement: str) -> None:
    say(member, WORD)
    index.index_waiting()
    with (
        pytest.raises(Error, match="permission denied"),
        tenant_scope(member.tenant_id),
        connection.cursor() as cursor,
    ):
        cursor.execute(statement)


def test_only_entries_of_records_that_are_gone_are_forgotten(
    member: Actor, reviewer: Actor, owner: psycopg.Connection, outsider: Actor
) -> None:
    gone, left = say(member, WORD), say(member, WORD)
    index.index_waiting()
    with tenant_scope(member.tenant_id):
        assert index.forget(clock.today()) == 0
    owner.execute("DELETE FROM audit_record WHERE id = %s", [gone])
    with tenant_scope(outsider.tenant_id):
        assert index.forget(clock.today()) == 0
    with tenant_scope(member.tenant_id):
        assert index.forget(clock.today()) == 1
    assert owner.execute(
        "SELECT request_id FROM audit_search_entry WHERE request_id = ANY(%s)", [[gone, left]]
    ).fetchall() == [(left,)]
    assert ids(reviewer, WORD) == [left]
