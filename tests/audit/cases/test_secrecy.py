"""Tipping off: whoever is outside of a case sees, of every page, what they would see if there were none.

Two companies live the same life; in one of them a case is opened, worked on, decided and reported. Then everybody outside
of it walks through all pages, lists, searches and exports of both, and the two walks are compared byte by byte, but for
what differs anyway: names of the company, ids, times and tokens.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from html import unescape
from typing import Any
from uuid import UUID

import pytest
from django.http import HttpResponse
from django.test import Client
from django.utils import translation

from audit import secrecy, tree
from audit.cases import attachments, decisions, opening, reminders, selectors, work
from audit.cases.access import cases_of
from audit.cases.models import Case
from audit.cases.report import making
from audit.models import AuditRecord
from audit.review import flags
from audit.selectors import open_record
from inference.registry.services import ensure_default_registry, ensure_default_route
from tenants import keys
from tenants.access import Actor, NotVisible
from tenants.ids import uuid7
from tenants.models import User
from tenants.roles import Role
from tenants.scope import tenant_scope
from tests.audit.cases.conftest import TITLE, ask, join, open_case
from tests.conftest import Company

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(600)]

# What two companies differ by in any case. Order matters: long before short.
_DIFFERENT = (
    (r"(?:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})", "<id>"),
    (r'(name="csrfmiddlewaretoken" value=")[^"]+', r"\1<token>"),
    (r'nonce="[^"]+"', "nonce"),
    (r"\b[0-9a-f]{24,}\b", "<digest>"),
    (r"\+[0-9a-f]{8}\+", "+<key>+"),
    (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d)?(?:\.\d+)?(?:\+00:00|Z)?(?: UTC)?", "<time>"),
    # A root, whole: one that begins with a/ would be cut there by the next.
    (r"[A-Za-z0-9+/]{43}=", "<sealed>"),
    (r"\b[A-Za-z0-9_-]{40,}={0,2}", "<sealed>"),
    (r"[A-Za-z0-9+/]{40,}={0,2}", "<sealed>"),
)
# The heads of a log say how long it is, and every deed of a case has a place in it: see the decision record.
_SIZES = (r"\d[\d,]*", "<size>")
_SHOWS_THE_LOG = ("/audit/proof", "/proof/")
_SIGNED = re.compile(r"^— .*$", re.MULTILINE)
_STEPS = re.compile(r'<ol class="steps">.*?</ol>', re.DOTALL)
# Said once heads have waited for a minute, which a long walk may reach: the tests have no witness.
_WITNESS_AWAY = re.compile(
    r'<div class="notice warn" role="status"><svg[^>]*>(?:(?!</svg>).)*</svg><div><h\d>The witness is away(?:(?!</div>).)*</div></div>',
    re.DOTALL,
)
# Figures of requests to models, by the minute in which they were made and in which one looks.
_BY_THE_MINUTE = r"<tbody.*?</tbody>|\[.*\]|\d+\.\d+"
MOST_PAGES = 105


@dataclass
class World:
    """A company with records, a review under way and, perhaps, a case."""

    company: Company
    investigator: Actor
    people: dict[str, User]
    about: UUID
    own: list[UUID]
    case: Case | None = None
    ids: dict[str, Any] = field(default_factory=dict)


def live(company: Company, *, with_case: bool) -> World:
    ensure_default_registry()
    investigator = company.actor(join(company, f"investigator@{company.tenant.slug}.example", "officer"))
    colleague = join(company, f"colleague@{company.tenant.slug}.example", "reviewer")
    actors = {str(role): company.actor(getattr(company, role)) for role in Role.values}
    with tenant_scope(company.tenant.pk):
        ensure_default_route()
        keys.create_service_account(actor=actors["administrator"], name="nightly")
    about = ask(actors["member"])
    own = [
        ask(actors["officer"], question="The officer’s own."),
        ask(actors["reviewer"], question="His own."),
    ]
    other = ask(actors["curator"])
    flags.raise_flag(
        actor=company.actor(colleague),
        request_id=other,
        source="hand",
        severity="high",
        reason="A look, please.",
    )
    # Somebody reads something on any day; that there is a key of that day's readings tells nothing.
    open_record(investigator, other, reason="A sample.")
    people = {role: getattr(company, role) for role in actors} | {"colleague": colleague}
    world = World(company, investigator, people, about, own, ids={"record": about, "other": other})
    if with_case:
        world.case = whole_case(world, about, *own)
    tree.extend(company.tenant.pk)
    return world


def whole_case(world: World, *request_ids: UUID) -> Case:
    """A case with all that can happen to one, up to a report."""
    actor = world.investigator
    case = open_case(actor, *request_ids, days_to_report=1)
    partner = world.company.actor(
        join(world.company, f"partner@{world.company.tenant.slug}.example", "reviewer")
    )
    assert partner.user_id is not None
    work.set_member(actor=actor, case_id=case.pk, user_id=partner.user_id, role="approver")
    work.add_note(actor=partner, case_id=case.pk, text="A note.")
    attachments.attach(actor=actor, case_id=case.pk, name="a.txt", content=b"text")
    reminders.remind()
    opening.unlink_record(actor=actor, case_id=case.pk, request_id=request_ids[0], reason="For a while.")
    opening.link_records(actor=actor, case_id=case.pk, request_ids=[request_ids[0]], reason="Back.")
    decision = decisions.decide(actor=actor, case_id=case.pk, outcome="report", reason="Clear.")
    decisions.sign(
        actor=partner, case_id=case.pk, decision_id=decision.id, is_approved=True, reason="I agree."
    )
    decisions.reopen(actor=actor, case_id=case.pk, reason="New facts.")
    with tenant_scope(actor.tenant_id):
        selectors.open_one(actor, case.pk)
        making.make_report(actor, case.pk, form="jsonl", language="en")
    return case


@pytest.fixture
def worlds(acme: Company, north: Company) -> tuple[World, World]:
    translation.activate("en")
    # In both there is one reviewer more who has been here, so that lists of people are alike.
    north.actor(join(north, "partner@north-fund.example", "reviewer"))
    return live(acme, with_case=True), live(north, with_case=False)


class TestEveryPage:
    def test_outsiders_see_the_same_bytes_with_a_case_and_without(
        self,
        worlds: tuple[World, World],
        client_of: Callable[[User], Client],
        subtests: pytest.Subtests,
    ) -> None:
        """The officer and the reviewer are outsiders too: it is about them."""
        there, here = worlds
        for who in (*Role.values, "colleague"):
            with subtests.test(who):
                seen, expected = (walk(world, client_of(world.people[who])) for world in (there, here))
                assert list(seen) == list(expected), "the same pages lead to the same pages"
                different = [
                    f"{address}: {_first_difference(seen[address], page)}"
                    for address, page in expected.items()
                    if seen[address] != page
                ]
                assert not different, "\n".join(each[:600] for each in different)
                if who in ("reviewer", "officer", "colleague"):
                    assert any("audit/cases" in address for address in seen)
                    assert len(seen) > 25, "the walk went somewhere"

    def test_the_walk_finds_a_case_where_there_is_one_to_find(
        self, worlds: tuple[World, World], client_of: Callable[[User], Client]
    ) -> None:
        """The control: to whoever is inside the two companies differ, in the list of cases and in the audit's own."""
        there, here = worlds
        seen, expected = (
            walk(world, client_of(User.objects.get(pk=world.investigator.user_id))) for world in (there, here)
        )
        different = {address for address in expected if seen.get(address) != expected[address]}
        assert any(address.startswith("GET /t/X/audit/cases/") for address in different)
        assert any("kind=changes" in address for address in different)

    def test_to_the_platform_both_companies_look_alike(
        self,
        worlds: tuple[World, World],
        platform_administrator: User,
        client_of: Callable[[User], Client],
    ) -> None:
        from tests.isolation.test_every_address import PLATFORM_ADDRESSES

        browser, compared = client_of(platform_administrator), 0
        for address in PLATFORM_ADDRESSES.values():
            if address.method != "get" or "{" in address.path or address.path.startswith("/metrics"):
                continue
            if "acme-bank" in address.path:
                pages = [
                    normal(browser.get(address.path.replace("acme-bank", world.company.tenant.slug)))
                    for world in worlds
                ]
            else:
                page = browser.get(address.path).text
                pages = [
                    (200, "\n".join(plain(row) for row in _rows(page) if world.company.tenant.name in row))
                    for world in worlds
                ]
                compared += bool(pages[0][1])
            assert pages[0] == pages[1], f"{address.path}: {_first_difference(*pages)}"
        assert compared, "some page lists both"


class TestEveryAddress:
    def test_a_case_answers_outsiders_as_one_that_never_was(
        self, worlds: tuple[World, World], client_of: Callable[[User], Client]
    ) -> None:
        there = worlds[0]
        assert there.case is not None
        for who, user in there.people.items():
            browser = client_of(user)
            answers = [
                [normal(answer) for answer in _knock(browser, case_id, there.about)]
                for case_id in (there.case.pk, uuid7())
            ]
            assert answers[0] == answers[1], who
            assert {status for status, _body in answers[0][:-1]} == {404}, who

    def test_a_case_of_their_own_from_the_same_record_is_none_of_the_others(
        self, worlds: tuple[World, World], client_of: Callable[[User], Client]
    ) -> None:
        pages = []
        for world in worlds:
            browser = client_of(world.people["colleague"])
            data = {
                "selected": str(world.about),
                "title": "Mine",
                "typology": "fraud",
                "severity": "low",
                "reason": "Looks odd.",
            }
            answer = browser.post(f"/t/{world.company.tenant.slug}/audit/cases/new/", data, follow=True)
            pages.append(re.sub(r"\d{4}-\d{6}", "<number>", normal(answer)[1]))
        assert pages[0] == pages[1]

    def test_nothing_can_be_done_to_it_from_outside(self, worlds: tuple[World, World]) -> None:
        there = worlds[0]
        case = there.case
        assert case is not None
        for user in there.people.values():
            actor = there.company.actor(user)
            assert user.pk is not None
            for call in (
                lambda actor=actor: work.add_note(actor=actor, case_id=case.pk, text="x"),
                lambda actor=actor: decisions.reopen(actor=actor, case_id=case.pk, reason="x"),
                lambda actor=actor: work.set_member(
                    actor=actor, case_id=case.pk, user_id=actor.user_id, role="lead"
                ),
                lambda actor=actor: opening.link_records(
                    actor=actor, case_id=case.pk, request_ids=[there.ids["other"]], reason="x"
                ),
            ):
                with pytest.raises(NotVisible):
                    call()


class TestWhoIsInside:
    def test_members_and_officers_whom_it_is_not_about(self, worlds: tuple[World, World]) -> None:
        there, here = worlds
        assert there.case is not None
        inside = {"investigator": there.investigator}
        with tenant_scope(there.company.tenant.pk):
            for who, user in there.people.items():
                assert cases_of(there.company.actor(user)) == set(), who
            for actor in inside.values():
                assert cases_of(actor) == {there.case.pk}
                assert there.case.pk in secrecy.inside(actor)
        with tenant_scope(here.company.tenant.pk):
            assert cases_of(here.investigator) == set()

    def test_whoever_it_becomes_about_is_outside_from_then_on(
        self, acme: Company, officer: Actor, case: Case, colleague: Actor
    ) -> None:
        assert colleague.user_id is not None
        work.set_member(actor=officer, case_id=case.pk, user_id=colleague.user_id, role="lead")
        with tenant_scope(acme.tenant.pk):
            assert cases_of(colleague) == {case.pk}
        theirs = ask(colleague)
        opening.link_records(actor=officer, case_id=case.pk, request_ids=[theirs], reason="Theirs, too.")
        with tenant_scope(acme.tenant.pk):
            assert cases_of(colleague) == set()
        opening.unlink_record(actor=officer, case_id=case.pk, request_id=theirs, reason="Not theirs.")
        with tenant_scope(acme.tenant.pk):
            assert cases_of(colleague) == set(), "for good: the timeline still speaks of them"

    def test_whoever_made_a_programs_key_is_behind_its_records(self, acme: Company, officer: Actor) -> None:
        from tenants.access import actor_for_key

        maker = acme.actor(acme.administrator)
        with tenant_scope(acme.tenant.pk):
            account = keys.create_service_account(actor=maker, name="batch")
            _key, text = keys.create_key(actor=maker, name="batch", service_account_id=account.pk)
        program = actor_for_key(text)
        assert program is not None
        case = open_case(officer, ask(program))
        from audit.cases.access import subjects_of

        with tenant_scope(acme.tenant.pk):
            assert subjects_of(case) == {acme.administrator.pk}

    def test_its_events_are_hidden_in_the_database_query_itself(self, worlds: tuple[World, World]) -> None:
        there = worlds[0]
        with tenant_scope(there.company.tenant.pk):
            confined = AuditRecord.objects.exclude(confined_to=None).filter(kind__startswith="case.")
            assert confined.count() > 8
            for user in there.people.values():
                assert not secrecy.visible(there.company.actor(user), confined).exists()


def walk(world: World, browser: Client) -> dict[str, tuple[int, str]]:
    """Every page that can be reached and every search that is tried: normalised request → (status, body)."""
    from tests.isolation.test_every_address import TENANT_ADDRESSES

    slug = world.company.tenant.slug
    unknown = defaultdict(lambda: UUID(int=7 << 76 | 2 << 62), {"record": world.about})
    start = [
        address.path.format_map(unknown).replace("acme-bank", slug)
        for address in TENANT_ADDRESSES.values()
        if address.method == "get"
    ]
    found: dict[str, tuple[int, str]] = {}
    waiting = [*start, *(f"/t/{slug}/audit/{each}/" for each in world.own)]
    while waiting and len(found) < MOST_PAGES:
        path = waiting.pop(0)
        name = f"GET {plain(path)}"
        if name in found:
            continue
        answer = browser.get(path)
        found[name] = normal(answer)
        if f"/t/{slug}/audit/" in path:
            waiting += list(links(answer, path, slug))
    for name, answer in tries(world, browser, slug):
        found[name] = normal(answer)
    return found


def tries(world: World, browser: Client, slug: str) -> Iterator[tuple[str, HttpResponse]]:
    """Searches, openings and exports."""
    audit = f"/t/{slug}/audit/"
    for data in (
        {"kind": "changes"},
        {"kind": "openings"},
        {"text": "limit", "reason": "A sample."},
        {"text": TITLE, "reason": "A sample."},
        {"text": "case", "kind": "changes", "reason": "A sample."},
    ):
        yield f"POST {data}", browser.post(audit, data, follow=True)
    for request_id in (world.about, *world.own, world.ids["other"]):
        yield (
            f"open {world.own.count(request_id)}",
            browser.post(f"{audit}{request_id}/", {"reason": "A sample."}),
        )
    for form in ("csv", "jsonl"):
        data = {"selected": str(world.about), "format": form, "form": form, "reason": "A sample."}
        answer = browser.post(f"{audit}export", data)
        yield f"export {form}", answer


def links(answer: HttpResponse, path: str, slug: str) -> Iterator[str]:
    if not answer.headers.get("Content-Type", "").startswith("text/html"):
        return
    main = answer.text.partition("<main")[2]
    for href in re.findall(r'href="([^"#]+)"', main):
        href = unescape(href)
        href = path.partition("?")[0] + href if href.startswith("?") else href
        if href.startswith(f"/t/{slug}/audit/"):
            yield href


def normal(answer: Any) -> tuple[int, str]:
    """(status, body without what differs between companies and moments)."""
    body = b"".join(answer.streaming_content) if answer.streaming else answer.content
    kind = answer.headers.get("Content-Type", "")
    text = body.decode(errors="replace") if kind.startswith(("text", "application/json")) else ""
    request = getattr(answer, "request", {})
    location = answer.headers.get("Location", "")
    text = plain(f"{kind} {location}\n{text}")
    path = request.get("PATH_INFO", "")
    if any(part in path for part in _SHOWS_THE_LOG):
        text = _WITNESS_AWAY.sub("", _STEPS.sub("<steps>", _SIGNED.sub("— <signature>", text)))
        text = re.sub(*_SIZES, text)
    if "/overview/" in path:
        text = re.sub(_BY_THE_MINUTE, "<figures>", text, flags=re.DOTALL)
    return answer.status_code, text


def plain(text: str) -> str:
    for names in (("acme-bank", "X"), ("north-fund", "X"), ("Acme Bank", "X"), ("North Fund", "X")):
        text = text.replace(*names)
    for pattern, instead in _DIFFERENT:
        text = re.sub(pattern, instead, text)
    return text


def _rows(page: str) -> list[str]:
    """The rows of a page's tables, a line each, without the figures of requests by the minute."""
    rows = re.findall(r"<tr[ >].*?</tr>", page, re.DOTALL)
    return [re.sub(r"\d+\.\d+", "<figure>", re.sub(r"\s*\n\s*", "\n", row)) for row in rows]


def _first_difference(seen: tuple[int, str], expected: tuple[int, str]) -> str:
    pairs = zip(seen[1].splitlines(), expected[1].splitlines(), strict=False)
    found = next((f"{one.strip()} | {other.strip()}" for one, other in pairs if one != other), "")
    return f"{seen[0]} {expected[0]} {found[:1500]}"


def _knock(browser: Client, case_id: UUID, request_id: UUID) -> Iterator[HttpResponse]:
    base = f"/t/acme-bank/audit/cases/{case_id}/"
    for rest in ("", "details/", f"files/{request_id}", f"records/{request_id}/"):
        yield browser.get(base + rest)
    yield browser.post(f"{base}details/", {"title": "x"})
    yield browser.post(f"{base}report", {"form": "pdf"})
    for action in ("note", "link", "member", "decide", "sign", "reopen", "nothing"):
        yield browser.post(f"{base}act/{action}", {"text": "x", "reason": "x"})
    joining = {"selected": str(request_id), "case_id": str(case_id), "reason": "x"}
    yield browser.post("/t/acme-bank/audit/cases/join", joining)
