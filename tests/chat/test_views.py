"""The chat's pages: who sees what, and what renaming and deleting do."""

from __future__ import annotations

import json
import re
import uuid
from typing import Any

import pytest
from django.test import Client

from audit.output import Kind, Part
from console.chat import selectors, services
from console.chat.models import Conversation, Message
from inference.generation.run import Counts, Ending
from inference.registry.services import ensure_default_registry, ensure_default_route
from tenants.ids import uuid7
from tenants.scope import tenant_scope
from tests.conftest import Company


def make_conversation(
    company: Company, text: str = "What is a river?", answer: str = "Water."
) -> selectors.Exchange:
    """A conversation of the company's member with one answered question."""
    ensure_default_registry()
    with tenant_scope(company.tenant.pk):
        ensure_default_route()
    actor = company.actor(company.member)
    plan = services.plan_ask(actor=actor, client_id=uuid.uuid4(), conversation_id=None, text=text, route=None)
    assert isinstance(plan, services.Plan)
    exchange = services.store(actor=actor, plan=plan, generation=uuid7())
    ending = Ending("completed", finish_reasons={0: "stop"}, usage=Counts(5, 7, 0))
    services.finish_answer(
        tenant_id=company.tenant.pk,
        answer_id=exchange.answer_id,
        parts=[Part(answer)],
        ending=ending,
        resolved=plan.resolved,
    )
    return exchange


def data_of(browser: Client, url: str) -> dict[str, Any]:
    page = browser.get(url)
    assert page.status_code == 200
    found = re.search(r'<script id="chat-data" type="application/json">(.*?)</script>', page.text, re.DOTALL)
    assert found
    return json.loads(found[1])


def test_a_new_chat_offers_the_tenants_models(acme: Company, client_of) -> None:
    make_conversation(acme)
    data = data_of(client_of(acme.administrator), "/t/acme-bank/chat/")
    assert data["tenant"] == {"slug": "acme-bank", "name": "Acme Bank"}
    assert data["routes"] == [
        {"name": "smollm2-135m-instruct", "label": "SmolLM2 135M Instruct", "classes": []}
    ]
    assert data["limits"] == {"text_bytes": 32768, "bases": 8}
    assert (data["conversation"], data["conversations"], data["messages"]) == (None, [], [])


def test_a_conversation_comes_with_its_history(acme: Company, client_of) -> None:
    made = make_conversation(acme)
    data = data_of(client_of(acme.member), f"/t/acme-bank/chat/{made.conversation_id}/")
    assert data["conversation"] == {"id": str(made.conversation_id), "title": "What is a river?"}
    assert [c["title"] for c in data["conversations"]] == ["What is a river?"]
    question, answer = data["messages"]
    assert (question["role"], question["text"], question["answers"]) == ("user", "What is a river?", None)
    assert (answer["role"], answer["text"], answer["status"]) == ("assistant", "Water.", "completed")
    assert (answer["answers"], answer["active"]) == (question["id"], False)
    assert answer["generation"] == str(made.generation)
    assert answer["meta"]["completion_tokens"] == 7


def test_markup_in_a_question_cannot_leave_the_data_block(acme: Company, client_of) -> None:
    text = "</script><script>alert(1)</script><!--"
    made = make_conversation(acme, text=text, answer=text)
    url = f"/t/acme-bank/chat/{made.conversation_id}/"
    assert "<script>alert" not in client_of(acme.member).get(url).text
    assert [m["text"] for m in data_of(client_of(acme.member), url)["messages"]] == [text, text]


@pytest.mark.parametrize("address", ["{id}/", "{id}/rename", "{id}/delete"])
def test_a_conversation_exists_for_its_owner_alone(
    acme: Company, north: Company, stranger, platform_administrator, client_of, address: str
) -> None:
    made = make_conversation(acme)
    path = address.format(id=made.conversation_id)
    others = [acme.administrator, acme.reviewer, north.member, stranger, platform_administrator]
    for person in others:
        for slug in ("acme-bank", "north-fund"):
            browser = client_of(person)
            url = f"/t/{slug}/chat/{path}"
            answer = browser.get(url) if path.endswith("/") else browser.post(url, {"title": "Mine"})
            assert answer.status_code == 404, (person.email, url)
    assert Client().get(f"/t/acme-bank/chat/{made.conversation_id}/").status_code == 302
    data = data_of(client_of(acme.member), f"/t/acme-bank/chat/{made.conversation_id}/")
    assert data["conversation"]["title"] == "What is a river?"


def test_renaming(acme: Company, client_of) -> None:
    made = make_conversation(acme)
    browser = client_of(acme.member)
    url = f"/t/acme-bank/chat/{made.conversation_id}/"
    answer = browser.post(url + "rename", {"title": "  Rivers\n and 河流 "})
    assert answer.json() == {"title": "Rivers and 河流"}
    assert data_of(browser, url)["conversation"]["title"] == "Rivers and 河流"
    assert len(browser.post(url + "rename", {"title": "x" * 500}).json()["title"]) == 120
    for empty in ("", "  \n "):
        refused = browser.post(url + "rename", {"title": empty})
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "title_empty")


def test_deleting_removes_the_messages_and_the_grants(acme: Company, client_of) -> None:
    made, kept = make_conversation(acme), make_conversation(acme, text="Another")
    browser = client_of(acme.member)
    url = f"/t/acme-bank/chat/{made.conversation_id}/"
    assert browser.post(url + "delete").json() == {"deleted": str(made.conversation_id)}
    assert browser.get(url).status_code == 404
    with tenant_scope(acme.tenant.pk):
        assert [c.pk for c in Conversation.objects.all()] == [kept.conversation_id]
        assert Message.objects.count() == 2


def test_changing_needs_a_post_with_a_token(acme: Company) -> None:
    made = make_conversation(acme)
    for action in ("rename", "delete"):
        url = f"/t/acme-bank/chat/{made.conversation_id}/{action}"
        careful = Client(enforce_csrf_checks=True)
        careful.force_login(acme.member, backend="django.contrib.auth.backends.ModelBackend")
        assert careful.post(url, {"title": "x"}).status_code == 403
        assert careful.get(url).status_code == 405


def test_a_repeated_client_id_finds_what_it_asked_and_stays_the_persons_own(acme: Company) -> None:
    client_id = uuid.uuid4()
    ensure_default_registry()
    with tenant_scope(acme.tenant.pk):
        ensure_default_route()
    arguments = {"client_id": client_id, "conversation_id": None, "text": "Once?", "route": None}
    member, colleague = acme.actor(acme.member), acme.actor(acme.administrator)
    plan, simultaneous = (services.plan_ask(actor=member, **arguments) for _ in range(2))
    assert isinstance(plan, services.Plan)
    assert isinstance(simultaneous, services.Plan)
    made = services.store(actor=member, plan=plan, generation=uuid7())
    assert services.plan_ask(actor=member, **arguments) == made
    assert isinstance(services.plan_ask(actor=colleague, **arguments), services.Plan)
    with pytest.raises(services.AlreadyAsked):
        services.store(actor=member, plan=simultaneous, generation=uuid7())


def test_text_is_sealed_and_opens_in_its_own_place_only(acme: Company) -> None:
    from tenants.envelope import Tampered

    first = make_conversation(acme, text="Secret canary one", answer="Answer canary one")
    second = make_conversation(acme, text="Secret canary two", answer="Answer canary two")
    with tenant_scope(acme.tenant.pk):
        for message in Message.objects.all():
            assert b"canary" not in bytes(message.sealed_content)
        for conversation in Conversation.objects.all():
            assert b"canary" not in bytes(conversation.sealed_title)
        one = Message.objects.get(pk=first.answer_id)
        two = Message.objects.get(pk=second.answer_id)
        question = Message.objects.get(pk=first.question_id)
        assert selectors.text_of(one) == "Answer canary one"
        for stolen in (two, question):
            one.sealed_content = stolen.sealed_content
            with pytest.raises(Tampered):
                selectors.text_of(one)


def test_the_history_holds_the_newest_answer_of_each_question_without_its_reasoning(
    acme: Company, client_of
) -> None:
    made = make_conversation(acme, answer="First try.")
    actor = acme.actor(acme.member)
    plan = services.plan_regenerate(
        actor=actor,
        client_id=uuid.uuid4(),
        conversation_id=made.conversation_id,
        answer_id=made.answer_id,
    )
    assert isinstance(plan, services.Plan)
    assert [m["content"] for m in plan.request["messages"]] == ["What is a river?"]
    again = services.store(actor=actor, plan=plan, generation=uuid7())
    services.finish_answer(
        tenant_id=acme.tenant.pk,
        answer_id=again.answer_id,
        parts=[Part("Shorter", kind=Kind.REASONING), Part("Second "), Part("try.")],
        ending=Ending("stopped"),
        resolved=plan.resolved,
    )
    following = services.plan_ask(
        actor=actor,
        client_id=uuid.uuid4(),
        conversation_id=made.conversation_id,
        text="More?",
        route=None,
    )
    assert isinstance(following, services.Plan)
    assert [m["content"] for m in following.request["messages"]] == [
        "What is a river?",
        "Second try.",
        "More?",
    ]
    shown = data_of(client_of(acme.member), f"/t/acme-bank/chat/{made.conversation_id}/")["messages"]
    assert [(m["text"], m["reasoning"]) for m in shown] == [
        ("What is a river?", ""),
        ("First try.", ""),
        ("Second try.", "Shorter"),
    ]
