"""Audit review: lists without content, openings with a reason, each of them recorded."""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from unittest.mock import patch

import pytest
from django.test import Client

from audit import selectors
from audit.output import Kind, Part, encode
from audit.record import AuditUnavailable
from audit.search.asked import Asked
from console.pages import labels
from tenants import clock, lifecycle
from tenants.models import Group, GroupMember, Membership, User
from tenants.scope import tenant_scope
from tests.audit.conftest import Usage, begin, generation
from tests.conftest import Company
from tests.pages.conftest import ANSWER, QUESTION
from tests.support.services import REPOSITORY

pytestmark = pytest.mark.django_db(transaction=True)

LIST = "/t/acme-bank/audit/"


def openings(company: Company) -> list[selectors.Summary]:
    filters = selectors.RecordFilters(kinds=(selectors.READ,))
    return selectors.list_records(company.actor(company.reviewer), filters).records


def test_the_list_names_who_and_what_but_no_content(
    recorded: str, acme: Company, reviewer_browser: Client
) -> None:
    page = reviewer_browser.get(LIST).text
    assert f'href="{LIST}{recorded}/"' in page
    assert "member@acme-bank.example" in page
    assert "1 record" in page
    assert "harbour" not in page
    assert openings(acme) == []


def test_a_record_stays_closed_until_a_reason_is_stated(
    recorded: str, acme: Company, reviewer_browser: Client
) -> None:
    address = f"{LIST}{recorded}/"
    closed = reviewer_browser.get(address).text
    refused = reviewer_browser.post(address, {"reason": "  "}).text
    assert "The content is closed" in closed
    assert "State a reason" in refused
    assert "harbour" not in closed + refused
    assert openings(acme) == []


def test_opening_records_the_reason_and_shows_the_text_as_text(
    recorded: str, acme: Company, reviewer_browser: Client
) -> None:
    page = reviewer_browser.post(f"{LIST}{recorded}/", {"reason": "Routine sample"}).text
    assert QUESTION in page
    assert "The harbour belongs to &lt;b&gt;nobody&lt;/b&gt; &amp; everyone." in page
    assert ANSWER not in page
    assert "This opening was recorded with your reason: Routine sample" in page
    (opening,) = openings(acme)
    assert (opening.user_label, str(opening.subject_id)) == (acme.reviewer.email, recorded)


def test_a_prompt_of_token_ids_can_be_read(acme: Company, reviewer_browser: Client) -> None:
    handle = generation(acme.actor(acme.member), channel="api", texts=(ANSWER,), input=[504, 3575, 30])
    page = reviewer_browser.post(f"{LIST}{handle.request_id}/", {"reason": "Routine sample"})
    assert page.status_code == 200
    assert "[504, 3575, 30]" in page.text
    assert "harbour" in page.text


def test_answers_reasoning_and_tool_calls_can_be_told_apart(acme: Company, reviewer_browser: Client) -> None:
    call = {
        "id": "call_1",
        "type": "function",
        "function": {"name": "weather", "arguments": '{"city":"Oslo"}'},
    }
    asked = [
        {"role": "user", "content": "Which port?"},
        {"role": "assistant", "reasoning_content": "a forecast helps", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "<b>storm</b>"},
    ]
    said = [
        Part("the storm", kind=Kind.REASONING),
        Part("The harbour."),
        Part('{"port":"Oslo"}', 1, Kind.TOOL_CALL, id="call_2", name="close_port"),
    ]
    texts = (encode(said[:2]), encode(said[2:]))
    handle = generation(
        acme.actor(acme.member), channel="api", texts=texts, input=asked, parameters={"n": 2, "tools": [call]}
    )
    page = reviewer_browser.post(f"{LIST}{handle.request_id}/", {"reason": "Routine sample"}).text
    seen = " ".join(re.sub("<[^>]+>", " ", page).split())
    for words in (
        "Question Which port?",
        "Earlier answer · Reasoning a forecast helps",
        "Earlier answer · Call of weather {&quot;city&quot;:&quot;Oslo&quot;}",
        "Result of a tool &lt;b&gt;storm&lt;/b&gt;",
        "Answer 1 · Reasoning the storm Answer 1 The harbour.",
        "Answer 2 · Call of close_port {&quot;port&quot;:&quot;Oslo&quot;}",
        "n 2 tools [{&quot;id&quot;: &quot;call_1&quot;",
    ):
        assert words in seen


def test_an_embedding_shows_its_texts_and_that_no_numbers_are_kept(
    acme: Company, reviewer_browser: Client
) -> None:
    handle = generation(
        acme.actor(acme.member), kind="embedding", texts=(), input=["The harbour.", "A ship."], channel="api"
    )
    assert str(handle.request_id) in reviewer_browser.get(LIST).text
    page = reviewer_browser.post(f"{LIST}{handle.request_id}/", {"reason": "Routine sample"}).text
    assert "The harbour." in page and "A ship." in page
    assert "numbers, which are not kept" in page
    assert "Nothing was delivered" not in page


def test_the_next_reason_is_proposed(recorded: str, reviewer_browser: Client) -> None:
    reviewer_browser.post(f"{LIST}{recorded}/", {"reason": "Case 7"})
    assert 'value="Case 7"' in reviewer_browser.get(f"{LIST}{recorded}/").text


def test_a_reason_does_not_lie_readable_in_the_session(recorded: str, reviewer_browser: Client) -> None:
    reviewer_browser.post(f"{LIST}{recorded}/", {"reason": "Suspicion against John Doe"})
    assert "audit_reason" in reviewer_browser.session, "the control: something is kept"
    assert "John Doe" not in str(dict(reviewer_browser.session.items()))


def test_nothing_is_shown_that_could_not_be_recorded(recorded: str, reviewer_browser: Client) -> None:
    with patch("audit.selectors.record_event", side_effect=AuditUnavailable):
        page = reviewer_browser.post(f"{LIST}{recorded}/", {"reason": "Routine sample"})
    assert page.status_code == 503
    assert "could not be recorded" in page.text
    assert "harbour" not in page.text


def test_another_companys_record_is_not_there(
    recorded: str, north: Company, client_of: Callable[[User], Client]
) -> None:
    neighbour = client_of(north.reviewer)
    for browse in (neighbour.get, neighbour.post):
        assert browse(f"/t/north-fund/audit/{recorded}/", {"reason": "x"}).status_code == 404
    assert "member@acme-bank.example" not in neighbour.get("/t/north-fund/audit/").text


def test_an_administrator_cannot_open_a_record(recorded: str, administrator_browser: Client) -> None:
    assert administrator_browser.post(f"{LIST}{recorded}/", {"reason": "x"}).status_code == 404


@pytest.mark.parametrize(
    "request_id", ["01a20d55-bceb-7310-bde8-36ce23635dc0", "0b0e8f0a-6f0f-4b63-9a06-6b0a54d4f6d2"]
)
def test_an_unknown_id_is_not_there(request_id: str, reviewer_browser: Client) -> None:
    assert reviewer_browser.get(f"{LIST}{request_id}/").status_code == 404


def asked_for(browser: Client, **values: str) -> Any:
    """The page that a sent form leads to."""
    return browser.post(LIST, values, follow=True)


def test_filters_narrow_the_list(acme: Company, reviewer_browser: Client) -> None:
    generation(acme.actor(acme.member), status="failed", usage=Usage(10, 20))
    generation(acme.actor(acme.administrator), channel="api", model_version="sha256:4567")
    begin(acme.actor(acme.member))
    with tenant_scope(acme.tenant.pk):
        everyone = Group.objects.get(is_everyone=True).pk
        group = Group.objects.create(name="Treasury")
        administrator = Membership.objects.get(user=acme.administrator)
        GroupMember.objects.create(group=group, membership=administrator)
    wanted: list[tuple[dict[str, str], int]] = [
        ({}, 3),
        ({"status": "failed"}, 1),
        ({"status": "running"}, 1),
        ({"channel": "api"}, 1),
        ({"user": "member@acme-bank.example"}, 2),
        ({"user": "member@acme-bank.example", "status": "completed"}, 0),
        ({"user": "nobody"}, 0),
        ({"group": str(group.pk)}, 1),
        ({"group": str(everyone)}, 3),
        ({"version": "sha256:4567"}, 1),
        ({"least": "30"}, 1),
        ({"least": "31"}, 0),
        ({"most": "30", "status": "failed"}, 1),
        ({"when": "today"}, 3),
        ({"when": "yesterday"}, 0),
        ({"day": clock.today().isoformat()}, 3),
        ({"until": "2020-01-01T00:00"}, 0),
        ({"since": "2020-01-01T00:00", "zone": "Asia/Shanghai"}, 3),
    ]
    for values, count in wanted:
        page = asked_for(reviewer_browser, **values)
        assert page.text.count('class="linked"') == count, values
        if not count:
            assert "No record matches" in page.text


def test_what_says_nothing_about_anybody_may_stand_in_an_address(
    acme: Company, reviewer_browser: Client
) -> None:
    generation(acme.actor(acme.member), status="failed")
    generation(acme.actor(acme.member))
    assert reviewer_browser.get(f"{LIST}?status=failed").text.count('class="linked"') == 1
    # Who is looked for does, so it is not taken from there.
    assert reviewer_browser.get(f"{LIST}?user=nobody").text.count('class="linked"') == 2


def test_facets_count_and_narrow(acme: Company, reviewer_browser: Client) -> None:
    generation(acme.actor(acme.member), status="failed")
    generation(acme.actor(acme.member))
    generation(acme.actor(acme.administrator))
    page = reviewer_browser.get(LIST).text
    shown = dict(re.findall(r'value="status=(\w+)".*?<span class="num">(\d+)</span>', page))
    assert shown == {"completed": "2", "failed": "1"}
    narrowed = asked_for(reviewer_browser, set="status=failed")
    assert narrowed.text.count('class="linked"') == 1
    assert 'name="drop" value="status"' in narrowed.text
    assert asked_for(reviewer_browser, status="failed", drop="status").text.count('class="linked"') == 3
    assert asked_for(reviewer_browser, status="failed", set="status=failed").text.count('class="linked"') == 3


def test_times_are_meant_in_the_readers_zone() -> None:
    asked = Asked(since="2026-03-01T08:00", zone="Asia/Shanghai")
    assert asked.span() == (datetime(2026, 3, 1, tzinfo=UTC), None)


@pytest.mark.parametrize(
    "values",
    [
        {"status": "odd"},
        {"since": "yesterday"},
        {"group": "nonsense"},
        {"least": "-1"},
        {"least": "9", "most": "8"},
        {"day": "2026-02-30"},
        {"kind": "nothing", "status": "odd"},
        {"since": "2026-02-01T00:00", "until": "2026-01-01T00:00"},
    ],
)
def test_a_filter_that_makes_no_sense_is_marked(
    values: dict[str, str], recorded: str, reviewer_browser: Client
) -> None:
    page = reviewer_browser.post(LIST, values)
    assert page.status_code == 422
    assert "A filter does not make sense" in page.text
    assert page.text.count('aria-invalid="true"') == 1


@pytest.mark.parametrize("zone", ["UTC", "Asia/Shanghai", "America/New_York"])
@pytest.mark.parametrize("name", ["since", "until", "day"])
@pytest.mark.parametrize("time", ["0001-01-01T00:00", "1969-12-31T23:59", "9999-12-31T23:59"])
def test_times_that_no_record_can_have_are_no_error(
    time: str, name: str, zone: str, recorded: str, reviewer_browser: Client
) -> None:
    value = time[:10] if name == "day" else time
    page = asked_for(reviewer_browser, **{name: value, "zone": zone})
    assert page.status_code in (200, 422)


@pytest.mark.parametrize("zone", ["Nowhere/Land", "../../etc/passwd", "x" * 90, "\x00"])
def test_a_zone_that_is_none_means_utc(zone: str, recorded: str, reviewer_browser: Client) -> None:
    assert reviewer_browser.get(LIST, {"zone": zone}).text.count('class="linked"') == 1


@pytest.mark.parametrize("sort", ["", "oldest"])
def test_pages_follow_each_other_without_overlap(
    sort: str, acme: Company, reviewer_browser: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = [str(generation(acme.actor(acme.member)).request_id) for _ in range(5)]
    monkeypatch.setattr("console.pages.audit.records.PAGE_SIZE", 2)
    seen: list[str] = []
    page = asked_for(reviewer_browser, channel="chat", sort=sort, user="member@acme-bank.example")
    while page:
        seen += [str(record.id) for record in page.context["records"]]
        older = page.context["older_query"]
        page = reviewer_browser.get(f"{LIST}?{older}") if older else None
    assert seen == (made if sort else made[::-1])


@pytest.mark.parametrize("cursor", ["nonsense", "0b0e8f0a-6f0f-4b63-9a06-6b0a54d4f6d2"])
def test_a_cursor_that_is_none_is_not_there(cursor: str, reviewer_browser: Client) -> None:
    assert reviewer_browser.get(f"{LIST}?after={cursor}").status_code == 404


class TestChanges:
    """What the administration changed is found beside the requests, and opened with what was there before."""

    @pytest.fixture
    def changed(self, acme: Company, recorded: str) -> str:
        """The address of the record of a changed setting."""
        actor = acme.actor(acme.owner)
        lifecycle.update_settings(
            actor=actor, accent="rose", registration_domains=["acme.example", "bank.example"]
        )
        found = selectors.list_records(acme.actor(acme.reviewer), selectors.CHANGES).records
        return f"{LIST}{next(each.id for each in found if each.kind == 'tenant.settings_changed')}/"

    def test_are_listed_on_their_own(self, recorded: str, changed: str, reviewer_browser: Client) -> None:
        requests, changes = reviewer_browser.get(LIST).text, reviewer_browser.get(f"{LIST}?kind=changes").text
        assert recorded in requests and changed not in requests
        assert recorded not in changes and changed in changes and "Settings changed" in changes
        assert 'id="model"' in requests and 'id="model"' not in changes
        assert "owner@acme-bank.example" not in requests, "who asked nothing is no filter of requests"
        by_owner = reviewer_browser.get(f"{LIST}?kind=changes&user=owner@acme-bank.example").text
        assert changed in by_owner

    def test_are_opened_with_before_and_after(self, changed: str, reviewer_browser: Client) -> None:
        closed = reviewer_browser.get(changed).text
        assert "Settings changed" in closed and ">rose<" not in closed and "Delivery" not in closed
        page = reviewer_browser.post(changed, {"reason": "Routine sample"}).text
        row = re.search(r">accent</th>(.*?)</tr>", page)
        assert row is not None
        assert re.findall(r">([^<]*)</td>", row[1]) == ["blue", "rose"]
        assert "acme.example, bank.example" in page
        openings = reviewer_browser.get(f"{LIST}?kind=readings").text
        assert "Record opened" in openings and changed not in openings

    def test_are_listed_but_not_opened_by_auditors(
        self, changed: str, acme: Company, client_of: Callable[[User], Client]
    ) -> None:
        browser = client_of(acme.auditor)
        assert changed in browser.get(f"{LIST}?kind=changes").text
        assert "opens none" in browser.get(changed).text
        assert browser.post(changed, {"reason": "Routine sample"}).status_code == 404

    def test_of_a_kind_that_is_none_are_told(self, recorded: str, reviewer_browser: Client) -> None:
        assert "A filter does not make sense" in reviewer_browser.get(f"{LIST}?kind=nothing").text

    def test_have_words_for_every_kind(self) -> None:
        told = re.compile(r'"([a-z_]+\.[a-z_]*(?:ed|made|left|set))"')
        folders = ("tenants", "audit", "console", "inference", "knowledge")
        sources = [path for folder in folders for path in (REPOSITORY / folder).rglob("*.py")]
        texts = [path.read_text() for path in sources if path.name != "labels.py"]
        areas = {kind.split(".")[0] for kind in labels.EVENTS}
        kinds = {kind for text in texts for kind in told.findall(text) if kind.split(".")[0] in areas}
        assert kinds <= set(labels.EVENTS)
        # Deeds of reviews and cases are named without their area, and floods put theirs together.
        unmade = [kind for kind in labels.EVENTS if not any(f'"{kind}"' in text for text in texts)]
        deeds = [kind.split(".")[1] for kind in unmade if kind.split(".")[0] in ("review", "case", "quota")]
        assert len(deeds) == len(unmade)
        assert [deed for deed in deeds if not any(f'"{deed}"' in text for text in texts)] == []
