"""What is found: words, filters, order and pages, in the index and before it."""

from collections.abc import Callable
from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import connection

from audit import output, record
from audit.search import engine, index
from audit.search.engine import Search, SearchTooSlow, Sort, find, iterate
from audit.search.query import BadQuery
from audit.selectors import open_record
from tenants import clock, groups
from tenants.access import Actor
from tenants.ids import time_of
from tenants.models import Membership
from tenants.scope import tenant_scope
from tests.audit.conftest import Usage, begin, id_at
from tests.audit.search.conftest import ids, look, say

pytestmark = pytest.mark.django_db(transaction=True)


def test_words_are_found_in_what_was_asked_and_answered(
    member: Actor, reviewer: Actor, settle: Callable[[], object]
) -> None:
    asked = say(member, "Who launders money?", "Nobody that I know of.")
    other = say(member, "资金来源不明的客户", "需要尽职调查。")
    settle()
    assert ids(reviewer, "launders") == [asked]
    assert ids(reviewer, "nobody MONEY") == [asked]
    assert ids(reviewer, "尽职调查") == [other]
    assert ids(reviewer, "钱") == []
    assert ids(reviewer, "金") == [other]
    assert ids(reviewer, "laund*") == [asked]
    assert ids(reviewer, '"launders money"') == [asked]
    assert ids(reviewer, '"money launders"') == []
    assert ids(reviewer, "money OR 客户") == [other, asked]
    assert ids(reviewer, "-money") == [other]
    assert look(reviewer, "money").facets["user"][0].count == 1


def test_what_is_written_in_several_ways_is_one(
    member: Actor, reviewer: Actor, settle: Callable[[], object]
) -> None:
    grouped = say(
        member,
        "Pay DE89 3704 0044 0532 0130 00 the sum of 1,000,000.50 EUR; write to anna.meier@bank.example",
    )
    compact = say(
        member, "Pay DE89370400440532013000 the sum of 1000000 euros, ＦＵＬＬ ｗｉｄｔｈ, la\u00adundering"
    )
    settle()
    for both in (
        "DE89370400440532013000",
        "DE89 3704 0044 0532 0130 00",
        "1000000",
        "1,000,000",
        "de893704*",
    ):
        assert ids(reviewer, both) == [compact, grouped], both
    assert ids(reviewer, "anna.meier@bank.example") == [grouped]
    assert ids(reviewer, "meier") == [grouped]
    assert ids(reviewer, "full width laundering") == [compact]


def test_words_of_fields_narrow(member: Actor, reviewer: Actor, settle: Callable[[], object]) -> None:
    failed = say(member, "money", status="failed", channel="api", model="qwen3-8b", usage=Usage(5, 900))
    completed = say(reviewer, "money", model="llama", model_version="v2")
    settle()
    for text, found in {
        "user:member": [failed],
        f"user:{member.label}": [failed],
        "user:memb*": [failed],
        "-user:member": [completed],
        "用户：reviewer": [completed],
        "model:qwen3-8b": [failed],
        "version:v2": [completed],
        "status:failed OR model:llama": [completed, failed],
        "状态:失败": [failed],
        "channel:api money": [failed],
        "tokens:>100": [failed],
        "tokens:..": None,
        "tokens:1..100": [completed],
        "before:2020-01-01": [],
        "after:2020-01-01 晚于:2021/01/01": [completed, failed],
        "on:2020-01-01 OR tokens:900": [failed],
        "rule:x": [],
        "-risk:high": [completed, failed],
        "kind:generation": [completed, failed],
    }.items():
        if found is None:
            with pytest.raises(BadQuery):
                ids(reviewer, text)
        else:
            assert ids(reviewer, text) == found, text


def test_filters_narrow_and_combine(member: Actor, reviewer: Actor, settle: Callable[[], object]) -> None:
    first = say(member, "money", status="failed", channel="api", usage=Usage(5, 900))
    second = say(reviewer, "money", model="llama", model_version="v2")
    settle()
    assert ids(reviewer, "money", user=member.label) == [first]
    assert ids(reviewer, "money", model="llama", model_version="v2") == [second]
    assert ids(reviewer, channel="api", status="failed") == [first]
    assert ids(reviewer, least=900) == ids(reviewer, least=6, most=900) == [first]
    assert ids(reviewer, most=899) == [second]
    assert ids(reviewer, since=time_of(second)) == [second]
    assert ids(reviewer, until=time_of(second)) == [first]
    assert ids(reviewer, rule="x") == ids(reviewer, risk="high") == ids(reviewer, group=uuid4()) == []


def test_groups_are_those_of_when_it_was_indexed(
    member: Actor, administrator: Actor, reviewer: Actor
) -> None:
    with tenant_scope(administrator.tenant_id):
        membership = Membership.objects.get(user_id=member.user_id)
    group = groups.create_group(actor=administrator, name="Back office", membership_ids=[membership.pk])
    inside = say(member, "money")
    say(reviewer, "money")
    index.index_waiting()
    groups.remove_members(actor=administrator, group_id=group.pk, membership_ids=[membership.pk])
    assert ids(reviewer, "money", group=group.pk) == [inside]
    assert ids(reviewer, 'group:"back OFFICE" "money"') == [inside]
    assert [(each.label, each.count) for each in look(reviewer, "money").facets["group"]] == [
        ("Back office", 1)
    ]


@pytest.mark.parametrize("text", ["money", '"all money"', "", "mone*"])
def test_pages_follow_each_other_in_every_order(
    member: Actor, reviewer: Actor, settle: Callable[[], object], text: str
) -> None:
    """Across two days; records that are written meanwhile disturb nothing."""
    past = [id_at(clock.now() - timedelta(days=1, seconds=seconds)) for seconds in (9, 5)]
    made = [
        say(member, "all money", usage=Usage(1, tokens), **({"request_id": past[n]} if n < 2 else {}))
        for n, tokens in enumerate((7, 3, 9, 3, 5))
    ]
    settle()
    orders = {
        Sort.NEWEST: made[::-1],
        Sort.OLDEST: made,
        Sort.TOKENS: [made[2], made[0], made[4], made[3], made[1]],
    }
    for sort, expected in orders.items():
        search = Search(text, sort=sort, until=time_of(made[-1]) + timedelta(milliseconds=1))
        seen, cursor = [], ""
        while True:
            found = find(reviewer, search, reason="sample", cursor=cursor, limit=2)
            seen += [hit.summary.id for hit in found.hits]
            assert (found.total, found.total_is_exact) == (5, True)
            say(member, "all money")
            if not (cursor := found.next_cursor):
                break
        assert seen == expected, sort
        assert list(iterate(reviewer, search, batch=2)) == expected, sort


def test_facets_count_what_was_found(member: Actor, reviewer: Actor, settle: Callable[[], object]) -> None:
    for status in ("failed", "completed", "completed"):
        say(member, "money", status=status)
    say(reviewer, "money", model_version="v2", channel="api")
    say(member, "nothing")
    settle()
    found = look(reviewer, '"money"')
    told = {name: [(each.value, each.count) for each in values] for name, values in found.facets.items()}
    assert found.total == 4
    assert told["user"] == [(member.label, 3), (reviewer.label, 1)]
    assert told["status"] == [("completed", 3), ("failed", 1)]
    assert told["model_version"] == [("sha256:0123", 3), ("v2", 1)]
    assert told["channel"] == [("chat", 3), ("api", 1)]
    assert told["day"] == [(clock.today().isoformat(), 4)]


def test_snippets_show_where_it_stands(member: Actor, reviewer: Actor) -> None:
    long = "Nothing of note. " * 30
    say(member, f"{long}Who launders Money here? {long}", "客户甲的资金来源不明，需要尽职调查。")
    (hit,) = look(reviewer, "money 资金来源").hits
    assert [snippet.field for snippet in hit.snippets] == ["input", "output"]
    marked = [[text for text, is_match in snippet.parts if is_match] for snippet in hit.snippets]
    assert marked == [["Money"], ["资金来源"]]
    whole = ["".join(text for text, _ in snippet.parts) for snippet in hit.snippets]
    assert whole[0].startswith("…") and whole[0].endswith("…") and "Who launders Money here?" in whole[0]
    assert whole[1] == "客户甲的资金来源不明，需要尽职调查。"


def test_everything_that_belongs_to_a_record_is_searched(
    member: Actor, reviewer: Actor, settle: Callable[[], object]
) -> None:
    parts = [
        output.Part("a thoughtful thing", kind=output.Kind.REASONING),
        output.Part('{"city": "Vaduz"}', kind=output.Kind.TOOL_CALL, name="look_up_weather", id="1"),
    ]
    made = say(
        member,
        "question",
        output.encode(parts),
        passages=[{"document": "Handbook", "text": "a passage of rules"}],
        attachments=[{"name": "scan.pdf", "media_type": "text/plain", "text": "attached words"}],
    )
    settle()
    for text, field in {
        "thoughtful": "reasoning",
        "vaduz": "tool_call",
        "weather": "tool_call",
        '"passage of rules"': "passage",
        "scan.pdf": "attachment",
        "attached": "attachment",
    }.items():
        (hit,) = look(reviewer, text).hits
        assert (hit.summary.id, hit.snippets[0].field) == (made, field), text


def test_a_record_in_the_making_is_found_already(member: Actor, reviewer: Actor) -> None:
    handle = begin(member, input="unfinished business")
    index.index_waiting()
    assert ids(reviewer, "unfinished status:running") == [handle.request_id]
    record.append(handle, seq=1, text="more of it")
    assert ids(reviewer, "business more") == [handle.request_id]
    record.complete(handle, status="completed")
    index.index_waiting()
    assert ids(reviewer, "unfinished more status:completed") == [handle.request_id]


def test_what_is_not_looked_at_is_said(
    member: Actor, reviewer: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = [say(member, "money") for _ in range(4)]
    monkeypatch.setattr(engine, "WAITING_MOST", 3)
    found = look(reviewer, "money")
    # The search itself waits to be indexed, too.
    assert (found.total, found.total_is_exact, found.waiting) == (2, False, 2)
    assert list(iterate(reviewer, Search("money"))) == made[::-1], "an export leaves nothing out"
    index.index_waiting()
    assert look(reviewer, "money").waiting == 0


def test_readings_are_found_when_asked_for(
    member: Actor, reviewer: Actor, settle: Callable[[], object]
) -> None:
    made = say(member, "money")
    open_record(reviewer, made, reason="suspicion of smurfing")
    settle()
    assert ids(reviewer, "smurfing") == []
    (hit,) = look(reviewer, "smurfing", kinds=("audit.read",)).hits
    assert (hit.summary.kind, hit.summary.subject_id, hit.snippets[0].field) == ("audit.read", made, "detail")
    assert len(look(reviewer, "smurfing", kinds=()).hits) == 4, (
        "the opening, and the searches for it, this one too"
    )


def test_a_search_that_takes_too_long_ends(
    member: Actor, reviewer: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    say(member, "money")
    monkeypatch.setattr(engine, "_DAYS_AT_ONCE", 1)
    monkeypatch.setattr(engine, "TIME_LIMIT", 0.0)
    with pytest.raises(SearchTooSlow):
        find(reviewer, Search('"money"'), reason="sample")
    monkeypatch.setattr(engine, "TIME_LIMIT", 0.05)
    monkeypatch.setattr(engine, "_COUNTS", "SELECT 'total', '', pg_sleep(5)::text::int FROM hits")
    index.index_waiting()
    with pytest.raises(SearchTooSlow, match="narrow"):
        find(reviewer, Search("money"), reason="sample")
    with tenant_scope(reviewer.tenant_id), connection.cursor() as cursor:
        cursor.execute("SHOW statement_timeout")
        assert cursor.fetchone()[0] != "50ms"


@pytest.mark.parametrize("value", ["a\x00b", "\ud800", "x" * 100_000, "' OR true --"])
@pytest.mark.parametrize("column", ["user", "model", "model_version", "channel", "status", "rule", "risk"])
def test_any_text_in_a_filter_finds_nothing_and_fails_nothing(
    member: Actor, reviewer: Actor, column: str, value: str
) -> None:
    say(member, "money")
    index.index_waiting()
    say(member, "money")
    assert ids(reviewer, "money", **{column: value}) == []
