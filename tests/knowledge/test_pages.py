"""The pages of knowledge bases: what each person finds there, and what a file goes through."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.http import HttpResponse
from django.test import Client

from knowledge import access, bases, documents, sealing, uploads
from knowledge.models import Base, Document, State, Version
from tenants.access import Level, put_grant
from tenants.models import Group, User
from tenants.scope import tenant_scope
from tests.conftest import Company

pytestmark = pytest.mark.django_db
KNOWLEDGE = "/t/acme-bank/knowledge/"
TEXT = "Article 1\nBanks report large payments.\nArticle 2\nThey keep records for ten years.\n"
Browser = Callable[[User], Client]


@pytest.fixture
def filled(acme: Company) -> Document:
    """A base that everyone may ask, with one document whose text was read."""
    actor = acme.actor(acme.curator)
    with tenant_scope(acme.tenant.pk):
        base = bases.make_base(actor=actor, name="Rules", description="What holds for us")
        put_grant(base, Group.objects.get(is_everyone=True), Level.VIEWER)
        version = uploads.upload(actor=actor, base_id=base.pk, name="law.txt", content=TEXT.encode())
        place: dict[str, Any] = {"tenant_id": base.tenant_id, "base_id": base.pk, "row": version.pk}
        layout = {"pages": [{"number": 1, "start": 0}, {"number": 2, "start": TEXT.index("Article 2")}]}
        version.sealed_text = sealing.seal(TEXT, field="text", **place)
        version.sealed_layout = sealing.seal(layout, field="layout", **place)
        version.state = State.READY
        version.save()
        return version.document


def page_of(document: Document, more: str = "") -> str:
    return f"{KNOWLEDGE}documents/{document.pk}/{more}"


def file_of(document: Document) -> str:
    with tenant_scope(document.tenant_id):
        return f"{KNOWLEDGE}versions/{Version.objects.get(document=document).pk}/file"


def restricted(acme: Company, document: Document) -> None:
    with tenant_scope(acme.tenant.pk):
        documents.restrict(actor=acme.actor(acme.curator), document_id=document.pk)


def post_json(browser: Client, path: str, **body: Any) -> HttpResponse:
    return browser.post(path, json.dumps(body), content_type="application/json")  # type: ignore[return-value]


def test_members_find_bases_that_are_shared_with_them_and_change_nothing_there(
    acme: Company, filled: Document, client_of: Browser
) -> None:
    browser = client_of(acme.member)
    page = browser.get(KNOWLEDGE).text
    assert "Rules" in page and "New knowledge base" not in page and "1 ready" in page
    base = browser.get(f"{KNOWLEDGE}{filled.base_id}/").text
    assert "law.txt" in base and "data-upload" not in base and "Settings" not in base
    assert "Delete…" not in browser.get(page_of(filled)).text
    for path in ("settings/", "delete/"):
        assert browser.get(f"{KNOWLEDGE}{filled.base_id}/{path}").status_code == 404
    assert browser.post(page_of(filled), {"name": "Mine"}).status_code == 404
    assert browser.get(page_of(filled, "delete/")).status_code == 404


def test_the_navigation_shows_knowledge_to_those_who_have_some(
    acme: Company, filled: Document, client_of: Browser
) -> None:
    link = f'href="{KNOWLEDGE}"'
    assert link in client_of(acme.member).get("/t/acme-bank/chat/").text
    with tenant_scope(acme.tenant.pk):
        bases.delete_base(actor=acme.actor(acme.curator), base_id=filled.base_id)
    assert link not in client_of(acme.member).get("/t/acme-bank/chat/").text
    assert link in client_of(acme.curator).get("/t/acme-bank/chat/").text
    assert "No knowledge base is shared with you" in client_of(acme.member).get(KNOWLEDGE).text
    assert client_of(acme.reviewer).get(KNOWLEDGE).status_code == 404


def test_a_restricted_document_is_nowhere_for_others(
    acme: Company, filled: Document, client_of: Browser
) -> None:
    restricted(acme, filled)
    browser = client_of(acme.member)
    assert "1 ready" not in browser.get(KNOWLEDGE).text
    base = f"{KNOWLEDGE}{filled.base_id}/"
    for query in ("", "?q=law", "?state=ready", "?sort=name", "?format=csv", "state"):
        assert "law.txt" not in browser.get(base + query).text
    for path in ("", "source/", "state"):
        assert browser.get(page_of(filled, path)).status_code == 404
    assert browser.post(file_of(filled)).status_code == 404
    owner = client_of(acme.curator)
    assert "law.txt" in owner.get(base).text and owner.get(page_of(filled)).status_code == 200
    share = f"{KNOWLEDGE}sharing/document/{filled.pk}/"
    granted = {"group": "", "principal": acme.member.email, "level": "viewer"}
    assert owner.post(share, granted).status_code == 302
    assert browser.get(page_of(filled, "source/")).status_code == 200
    assert browser.get(share).status_code == 404


def test_the_source_marks_exactly_the_passage_with_the_pages_it_stands_on(
    acme: Company, filled: Document, client_of: Browser
) -> None:
    browser = client_of(acme.member)
    start = TEXT.index("large")
    end = TEXT.index("2\nThey")
    page = browser.get(page_of(filled, f"source/?start={start}&end={end}")).text
    assert '<mark id="cited">large payments.\n</mark>' in page
    assert "Page 2</span><mark>Article </mark>2\nThey keep" in page
    assert "Page 1</span>Article 1\nBanks report <mark" in page
    for wrong in ("start=9&end=3", f"start=0&end={len(TEXT) + 1}", "start=x&end=9", "start=3"):
        page = browser.get(page_of(filled, f"source/?{wrong}")).text
        assert "<mark" not in page and "is not in this version" in page
    assert browser.get(page_of(filled, f"source/?version={filled.pk}")).status_code == 404


def test_markup_in_a_text_stays_text(acme: Company, filled: Document, client_of: Browser) -> None:
    version = _version(filled)
    with tenant_scope(acme.tenant.pk):
        version.sealed_text = sealing.seal(
            "<script>alert(1)</script>",
            tenant_id=acme.tenant.pk,
            base_id=filled.base_id,
            row=version.pk,
            field="text",
        )
        version.save()
    page = client_of(acme.member).get(page_of(filled, "source/?start=0&end=8")).text
    assert "&lt;script&gt;</mark>alert(1)" in page


def test_a_file_is_taken_as_it_came_and_no_browser_opens_it(
    acme: Company, filled: Document, client_of: Browser
) -> None:
    answer = client_of(acme.member).post(file_of(filled))
    assert answer.content == TEXT.encode()
    assert answer.headers["Content-Disposition"] == 'attachment; filename="law.txt"'
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Content-Security-Policy"].startswith("sandbox")


def test_a_file_arrives_in_pieces_and_a_second_one_like_it_is_asked_about(
    acme: Company, filled: Document, client_of: Browser
) -> None:
    browser, content = client_of(acme.curator), b"Another law."
    base = f"{KNOWLEDGE}{filled.base_id}/"
    for expected in (200, 409):
        begun = post_json(browser, f"{base}uploads/", name="other.txt", size=len(content)).json()  # type: ignore[attr-defined]
        piece = browser.post(f"{begun['piece_url']}?offset=0", content, "application/octet-stream")
        assert piece.json() == {"received": len(content)}
        assert browser.post(f"{begun['piece_url']}?offset=0", b"x", "text/plain").status_code == 409
        answer = post_json(browser, begun["finish_url"])
        assert answer.status_code == expected
    assert "other.txt" in json.loads(answer.content)["message"]
    assert post_json(browser, begun["finish_url"], twice=True).status_code == 200
    assert browser.get(base).text.count("other.txt</a>") == 2
    refused = post_json(browser, f"{base}uploads/", name="x", size=10**12)
    assert refused.status_code == 422
    for body in ("[]", "{", '{"name": 1, "size": 1}', '{"name": "a", "size": 1, "folder": "x"}'):
        assert browser.post(f"{base}uploads/", body, "application/json").status_code == 400


def test_lists_are_filtered_sorted_and_given_as_csv(
    acme: Company, filled: Document, client_of: Browser
) -> None:
    actor, browser = acme.actor(acme.curator), client_of(acme.curator)
    with tenant_scope(acme.tenant.pk):
        other = uploads.upload(actor=actor, base_id=filled.base_id, name="a.txt", content=b"A").document
        folder = bases.make_folder(actor=actor, base_id=filled.base_id, name="Old")
        documents.change_document(
            actor=actor, document_id=other.pk, name="=A rule", tags=["aml"], folder_id=folder.pk
        )
    base = f"{KNOWLEDGE}{filled.base_id}/"

    def found(query: str) -> list[str]:
        page = browser.get(base + query).text
        places = {name: page.find(f"/{each.pk}/") for name, each in (("law", filled), ("rule", other))}
        return sorted((name for name, at in places.items() if at >= 0), key=lambda name: places[name])

    assert found("?sort=name") == ["rule", "law"] and found("?sort=-name") == ["law", "rule"]
    assert found("?q=RULE") == found("?q=aml") == found("?tag=aml") == found("?state=waiting") == ["rule"]
    assert found(f"?folder={folder.pk}") == ["rule"] and found("?folder=top") == ["law"]
    csv = browser.get(f"{base}?format=csv&sort=name").text
    assert "'=A rule,Old,aml,Waiting,1,1," in csv
    assert "Rules,What holds for us,2,1,0" in browser.get(f"{KNOWLEDGE}?format=csv").text


def test_many_documents_are_moved_and_deleted_after_a_question(
    acme: Company, filled: Document, client_of: Browser
) -> None:
    browser, bulk = client_of(acme.curator), f"{KNOWLEDGE}{filled.base_id}/bulk"
    with tenant_scope(acme.tenant.pk):
        folder = bases.make_folder(actor=acme.actor(acme.curator), base_id=filled.base_id, name="Old")
    chosen: dict[str, Any] = {"selected": [str(filled.pk), "nonsense"]}
    assert "Move 1 document" in browser.post(bulk, {"action": "move", **chosen}).text
    browser.post(bulk, {"action": "move", "confirmed": "yes", "to": str(folder.pk), **chosen})
    with tenant_scope(acme.tenant.pk):
        assert Document.objects.get().folder == folder
    question = browser.post(bulk, {"action": "delete", **chosen}).text
    assert "Delete 1 document?" in question and "law.txt" in question
    browser.post(bulk, {"action": "again", **chosen})
    assert _version(filled).state == State.WAITING
    told = browser.post(bulk, {"action": "again", **chosen}, follow=True).text
    assert "law.txt: It is at work" in told
    browser.post(bulk, {"action": "cancel", **chosen})
    assert _version(filled).state == State.CANCELLED
    browser.post(bulk, {"action": "delete", "confirmed": "yes", **chosen})
    with tenant_scope(acme.tenant.pk):
        assert not Document.objects.exists()


def test_why_a_file_failed_is_told_in_words(acme: Company, filled: Document, client_of: Browser) -> None:
    with tenant_scope(acme.tenant.pk):
        Version.objects.update(state=State.FAILED, error_code="too_many_passages")
    for path in (f"{KNOWLEDGE}{filled.base_id}/", page_of(filled), page_of(filled, "state")):
        assert "Split it into several." in client_of(acme.curator).get(path).text


def test_a_curator_makes_a_base_and_hands_it_round(acme: Company, client_of: Browser) -> None:
    browser = client_of(acme.curator)
    assert browser.post(f"{KNOWLEDGE}new/", {"name": ""}).status_code == 422
    browser.post(f"{KNOWLEDGE}new/", {"name": "Laws", "description": "", "embedding_model": ""})
    with tenant_scope(acme.tenant.pk):
        base = Base.objects.get()
        everyone = Group.objects.get(is_everyone=True)
    home = f"{KNOWLEDGE}{base.pk}/"
    browser.post(f"{home}settings/", {"name": "Rules", "description": "Ours", "embedding_model": ""})
    assert "Ours" in browser.get(home).text
    share = f"{KNOWLEDGE}sharing/base/{base.pk}/"
    browser.post(share, {"group": str(everyone.pk), "principal": "", "level": "viewer"})
    assert client_of(acme.member).get(home).status_code == 200
    assert (
        "last owner"
        in browser.post(f"{share}person/{acme.curator.pk}/level", {"level": "viewer"}, follow=True).text
    )
    browser.post(f"{share}group/{everyone.pk}/remove/", {"confirmed": "yes"})
    assert client_of(acme.member).get(home).status_code == 404
    assert "law" not in browser.get(f"{home}delete/").text
    browser.post(f"{home}delete/", {"confirmed": "yes"})
    assert browser.get(home).status_code == 404


def test_editors_of_one_document_change_that_one_alone(
    acme: Company, filled: Document, client_of: Browser
) -> None:
    restricted(acme, filled)
    with tenant_scope(acme.tenant.pk):
        put_grant(filled, acme.member, Level.EDITOR)
        assert access.access_document(acme.actor(acme.member), filled.pk, access.EDIT)
    browser = client_of(acme.member)
    form = {"name": "The law", "tags": "aml, bank，kyc", "to": "top"}
    assert browser.post(page_of(filled), form).status_code == 302
    page = browser.get(page_of(filled)).text
    assert "The law" in page and all(f'"tag">{tag}<' in page for tag in ("aml", "bank", "kyc"))
    begun = post_json(
        browser, f"{KNOWLEDGE}{filled.base_id}/uploads/", name="b", size=1, document=str(filled.pk)
    )
    assert begun.status_code == 200
    assert post_json(browser, f"{KNOWLEDGE}{filled.base_id}/uploads/", name="b", size=1).status_code == 404


def _version(document: Document) -> Version:
    with tenant_scope(document.tenant_id):
        return Version.objects.get(document=document)


def test_nobody_of_another_tenant_finds_any_of_it(
    acme: Company, north: Company, filled: Document, client_of: Browser
) -> None:
    browser = client_of(north.curator)
    for slug in ("acme-bank", "north-fund"):
        for path in (f"{filled.base_id}/", f"documents/{filled.pk}/", f"documents/{filled.pk}/source/"):
            assert browser.get(f"/t/{slug}/knowledge/{path}").status_code == 404
