"""Questions asked of knowledge bases, over real sockets, answered by the real model."""

from __future__ import annotations

import uuid
from typing import Any

from asgiref.sync import sync_to_async

from audit import record
from audit.models import AuditRecord
from console.chat import selectors
from knowledge import asking
from knowledge.models import Base, Chunk
from knowledge.retrieval import vectors
from tenants import access, hints
from tenants.access import Level
from tenants.ids import day_of
from tenants.scope import tenant_scope
from tests.chat.browser import Browser, Tab
from tests.chat.recorded import count_records, once_closed
from tests.chat.stack import Stack
from tests.chat.test_live_answers import LONG
from tests.conftest import Company
from tests.support.knowledge import make_base, make_document

KEPT = "A bank keeps records of a customer's identity for ten years after the relationship ended."
REPORTED = "Suspicious transactions are reported to the analysis centre within five days."
QUESTION = "For how many years does a bank keep records of a customer's identity?"


def shared_base(company: Company) -> Base:
    base = make_base(company, name="Rules")
    make_document(base, [REPORTED, KEPT], name="Handbook")
    with tenant_scope(company.tenant.pk):
        access.put_grant(base, company.member, Level.VIEWER)
    return base


async def asked(tab: Tab, base: Base, text: str = QUESTION, **fields: Any) -> tuple[dict, dict]:
    accepted = await tab.ask(text, knowledge=[str(base.pk)], **fields)
    return accepted, await tab.until("done")


async def test_an_answer_comes_with_the_passages_that_it_was_given(
    live_acme: Company, browser: Browser
) -> None:
    base = await sync_to_async(shared_base)(live_acme)
    tab = await browser.open(live_acme.member, "acme-bank")
    accepted, done = await asked(tab, base)
    sources = accepted["sources"]
    first = sources["passages"][0]
    assert (first["text"], first["name"], first["number"]) == (KEPT, "Handbook", 1)
    assert sources["is_enough"] and not sources["support"]
    assert done["status"] == "completed" and tab.text_of(accepted["generation"])
    assert done["sources"]["passages"] == sources["passages"]

    closed = await once_closed(live_acme, accepted["generation"])
    assert closed.input[0]["role"] == "system"
    assert KEPT in closed.input[1]["content"] and closed.input[1]["content"].endswith(QUESTION)
    passages = await sync_to_async(recorded_passages)(live_acme, accepted["generation"])
    assert (passages[0]["text"], passages[0]["document"]) == (KEPT, "Handbook")

    def on_the_page() -> list[dict[str, Any]]:
        actor = live_acme.actor(live_acme.member)
        with tenant_scope(actor.tenant_id):
            data = selectors.page_data(actor, uuid.UUID(accepted["conversation"]["id"]))
        assert data["knowledge"] == [{"id": str(base.pk), "name": "Rules"}]
        return data["messages"]

    question, answer = await sync_to_async(on_the_page)()
    assert question["knowledge"] == [str(base.pk)] and question["text"] == QUESTION
    assert answer["sources"] == done["sources"]


def recorded_passages(company: Company, generation: str) -> list[dict[str, Any]]:
    identifier = uuid.UUID(generation)
    with tenant_scope(company.tenant.pk):
        row = AuditRecord.objects.get(day=day_of(identifier), id=identifier)
        assert KEPT.encode() not in bytes(row.context or b"")
        handle = record.Handle(company.tenant.pk, identifier)
        return record.open_json(handle, field="context", sealed=row.context)["passages"]


async def test_what_the_documents_do_not_hold_is_said_and_no_model_is_asked(
    live_acme: Company, browser: Browser
) -> None:
    base = await sync_to_async(shared_base)(live_acme)
    tab = await browser.open(live_acme.member, "acme-bank")
    accepted, done = await asked(tab, base, "Which planets have rings of ice?")
    assert not accepted["sources"]["is_enough"]
    assert "do not seem to hold an answer" in tab.text_of(accepted["generation"])
    assert done["usage"]["completion_tokens"] == 0
    closed = await once_closed(live_acme, accepted["generation"])
    assert closed.status == "completed" and "do not seem" in closed.text

    # The model can be asked all the same, without the documents.
    await tab.send(
        type="regenerate", client_id=str(uuid.uuid4()), conversation=accepted["conversation"]["id"],
        answer=accepted["answer"]["id"], without_documents=True,
    )  # fmt: skip
    again = await tab.until("accepted")
    assert again["sources"] is None
    done = await tab.until(
        lambda frame: frame["type"] == "done" and frame["generation"] == again["generation"]
    )
    assert done["usage"]["completion_tokens"] > 0 and done["sources"] is None


async def test_a_base_that_may_not_be_asked_is_not_there(live_acme: Company, browser: Browser) -> None:
    base = await sync_to_async(make_base)(live_acme)
    tab = await browser.open(live_acme.member, "acme-bank")
    for missing in (base.pk, uuid.uuid4()):
        await tab.send(
            type="ask",
            client_id=str(uuid.uuid4()),
            conversation=None,
            text=QUESTION,
            knowledge=[str(missing)],
        )
        error = await tab.until("error")
        assert error["code"] == "knowledge_not_found"
    assert await sync_to_async(count_records)(live_acme) == 0


async def test_an_answer_ends_when_its_base_may_no_longer_be_asked(
    live_acme: Company, browser: Browser
) -> None:
    base = await sync_to_async(shared_base)(live_acme)
    tab = await browser.open(live_acme.member, "acme-bank")
    await sync_to_async(make_document)(base, [f"How to begin: {LONG}"])
    accepted = await tab.ask(LONG, knowledge=[str(base.pk)])
    await tab.until("delta")

    def take_back() -> None:
        with tenant_scope(live_acme.tenant.pk):
            access.take_grant(base, live_acme.member)
        hints.changed(live_acme.tenant.pk)

    await sync_to_async(take_back)()
    done = await tab.until(lambda frame: frame["type"] in ("done", "error"), timeout_s=10)
    assert done["type"] == "error" or done["status"] != "completed"
    closed = await once_closed(live_acme, accepted["generation"])
    assert closed.status != "completed"


async def test_meaning_finds_what_words_do_not(live_acme: Company, inference_here: Stack) -> None:
    """With the packaged embedding model: the question shares no word with the passage."""

    def embedded() -> Base:
        base = make_base(live_acme, embedding_model="all-minilm-l6-v2")
        make_document(base, [REPORTED, KEPT, "The canteen opens at noon and closes at two."], name="Handbook")
        with tenant_scope(live_acme.tenant.pk):
            chunks = list(Chunk.objects.select_related("version").order_by("ordinal"))
            model = vectors.model_of(base)
        assert model is not None
        texts = [REPORTED, KEPT, "The canteen opens at noon and closes at two."]
        made = vectors.embed(live_acme.tenant.pk, texts, model=model)
        with tenant_scope(live_acme.tenant.pk):
            vectors.store(chunks[0].version, chunks, made, model=model)
        return base

    base = await sync_to_async(embedded)()
    actor = await sync_to_async(live_acme.actor)(live_acme.curator)
    found = await asking.aask(actor, [base.pk], "When is lunch served?")
    assert found.by_meaning
    first = found.passages[0]
    assert first.text.startswith("The canteen") and first.scores.words_rank is None
    assert first.scores.vector_rank == 1 and first.scores.cosine and 0 < first.scores.cosine <= 1
    # Its vectors of Chinese would be noise.
    assert not (await asking.aask(actor, [base.pk], "午饭几点开始？")).by_meaning
