"""Knowledge bases and documents through the API, with a curator's own key."""

from typing import Any

import pytest

from knowledge.ingestion import tasks
from tenants.keys import create_key
from tenants.models import User
from tenants.roles import Scope
from tenants.scope import tenant_scope
from tests.conftest import Company
from tests.support.keys import Caller

pytestmark = pytest.mark.django_db
LAW = b"Banks report large payments."


def caller(company: Company, user: User, media_type: str = "application/json") -> Caller:
    with tenant_scope(company.tenant.pk):
        _key, text = create_key(
            actor=company.actor(user),
            name=f"{user.email} {media_type}",
            scopes=[Scope.KNOWLEDGE_READ, Scope.KNOWLEDGE_WRITE],
        )
    return Caller(text, media_type=media_type)


@pytest.fixture
def api(acme: Company) -> Caller:
    return caller(acme, acme.curator)


@pytest.fixture
def sending(acme: Company) -> Caller:
    """The same person's program, whose bodies are files."""
    return caller(acme, acme.curator, "application/octet-stream")


@pytest.fixture
def base(api: Caller) -> dict[str, Any]:
    return api.post("/knowledge-bases", name="Rules", description="Ours").json()


def test_a_base_is_made_changed_and_deleted(api: Caller, base: dict[str, Any]) -> None:
    path = f"/knowledge-bases/{base['id']}"
    assert (base["name"], base["documents"], base["embedding_model"]) == ("Rules", {}, "")
    assert api.patch(path, name="Laws").json()["name"] == "Laws"
    assert api.get(path).json()["description"] == "Ours"
    assert [each["name"] for each in api.get("/knowledge-bases", search="law").json()["items"]] == ["Laws"]
    assert api.get("/knowledge-bases", search="nothing").json()["total"] == 0
    assert api.post("/knowledge-bases", name=" ").status_code == 422
    assert api.delete(path).status_code == 204
    assert api.get(path).status_code == 404


def test_a_document_is_uploaded_read_and_found(api: Caller, sending: Caller, base: dict[str, Any]) -> None:
    path = f"/knowledge-bases/{base['id']}/documents"
    made = sending("post", f"{path}?name=law.txt&valid_from=2025-01-01", LAW)
    assert made.status_code == 201, made.content
    document = made.json()  # type: ignore[attr-defined]
    (version,) = document["versions"]
    assert (document["name"], version["state"], version["valid_from"]) == ("law.txt", "waiting", "2025-01-01")
    again = sending("post", f"{path}?name=copy.txt", LAW)
    assert again.status_code == 422 and "law.txt" in again.json()["detail"]  # type: ignore[attr-defined]
    assert sending("post", f"{path}?name=copy.txt&twice=true", LAW).status_code == 201
    one = f"/documents/{document['id']}"
    assert api.post(f"{one}/reindex").status_code == 409
    tasks.read_documents()
    assert api.get(path, state="ready").json()["total"] == 2
    assert [each["name"] for each in api.get(path, search="copy").json()["items"]] == ["copy.txt"]
    assert api.patch(one, name="The law", tags=["aml"]).json()["tags"] == ["aml"]
    sending("post", f"{path}?name=new.txt&document_id={document['id']}", b"Anew.")
    assert [each["number"] for each in api.get(one).json()["versions"]] == [2, 1]
    assert api.post(f"/knowledge-bases/{base['id']}/reindex").json() == {"versions": 2}
    assert api.delete(one).status_code == 204
    assert api.get(one).status_code == 404


def test_a_large_file_is_sent_in_pieces(acme: Company, sending: Caller, base: dict[str, Any]) -> None:
    content = b"Report it. " * 150_000
    # An upload is theirs who began it: the same key throughout.
    text = sending._headers
    api = Caller(text["Authorization"].removeprefix("Bearer "))
    begun = api.post(f"/knowledge-bases/{base['id']}/uploads", name="law.txt", size=len(content)).json()
    path, piece = f"/uploads/{begun['id']}", begun["piece"]
    for offset in range(0, len(content), piece):
        sent = sending("put", f"{path}?offset={offset}", content[offset : offset + piece])
        assert sent.status_code == 200, sent.content
        repeated = sending("put", f"{path}?offset={offset}", content[offset : offset + piece])
        assert repeated.json()["received"] == sent.json()["received"]  # type: ignore[attr-defined]
    document = api.post(f"{path}/finish").json()
    assert document["versions"][0]["size"] == len(content)
    assert api.delete(path).status_code == 404
    begun = api.post(f"/knowledge-bases/{base['id']}/uploads", name="b.txt", size=9).json()
    assert caller(acme, acme.member).delete(f"/uploads/{begun['id']}").status_code == 404
    assert api.delete(f"/uploads/{begun['id']}").status_code == 204


def test_a_person_who_curates_nothing_reaches_nothing(acme: Company, base: dict[str, Any]) -> None:
    api = caller(acme, acme.member)
    assert api.get("/knowledge-bases").json()["total"] == 0
    assert api.get(f"/knowledge-bases/{base['id']}").status_code == 404
    assert api.post("/knowledge-bases", name="Mine").status_code == 404
