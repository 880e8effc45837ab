"""Knowledge bases asked through the official client."""

from __future__ import annotations

import uuid

import openai
import pytest
from asgiref.sync import sync_to_async

from knowledge.models import Base
from tenants import access
from tenants.access import Level
from tenants.models import Group
from tenants.scope import tenant_scope
from tests.api.client import MODEL, official
from tests.chat.recorded import count_records, once_closed
from tests.chat.stack import Stack
from tests.conftest import Company
from tests.support.knowledge import make_base, make_document

KEPT = "A bank keeps records of a customer's identity for ten years after the relationship ended."
ASKED = [{"role": "user", "content": "For how many years does a bank keep records of a customer's identity?"}]


def open_base(company: Company) -> Base:
    """One that everyone may ask, and so programs, too."""
    base = make_base(company)
    make_document(base, ["Suspicious transactions are reported within five days.", KEPT], name="Handbook")
    with tenant_scope(company.tenant.pk):
        access.put_grant(base, Group.objects.get(is_everyone=True), Level.VIEWER)
    return base


async def test_an_answer_names_the_passages_that_it_was_given(
    live_acme: Company, stack: Stack, key: str
) -> None:
    base = await sync_to_async(open_base)(live_acme)
    asked = {"model": MODEL, "messages": ASKED, "max_tokens": 40, "extra_body": {"knowledge": [str(base.pk)]}}
    async with official(stack, key) as client:
        raw = await client.chat.completions.with_raw_response.create(**asked)
        stream = await client.chat.completions.create(stream=True, **asked)
        chunks = [chunk async for chunk in stream]
    whole = raw.parse()
    assert whole.choices[0].message.content and whole.knowledge["is_enough"]
    first = whole.knowledge["passages"][0]
    assert (first["text"], first["name"]) == (KEPT, "Handbook")
    record = await once_closed(live_acme, raw.headers["x-request-id"])
    assert record.input[0]["role"] == "system" and KEPT in record.input[-1]["content"]

    said = [chunk for chunk in chunks if "knowledge" in (chunk.model_extra or {})]
    assert [chunk.knowledge["passages"][0]["text"] for chunk in said] == [KEPT, KEPT]
    assert said[0] is chunks[0] and said[-1].choices[0].finish_reason


async def test_what_the_documents_do_not_hold_is_said(live_acme: Company, stack: Stack, key: str) -> None:
    base = await sync_to_async(open_base)(live_acme)
    async with official(stack, key) as client:
        answer = await client.chat.completions.create(
            model=MODEL,
            messages=[{"role": "user", "content": "Which planets have rings of ice?"}],
            extra_body={"knowledge": [str(base.pk)]},
        )
    assert not answer.knowledge["is_enough"] and answer.usage.completion_tokens == 0
    assert "do not seem to hold an answer" in answer.choices[0].message.content


async def test_a_base_that_the_key_may_not_ask_is_not_there(
    live_acme: Company, stack: Stack, key: str
) -> None:
    hidden = await sync_to_async(make_base)(live_acme)
    async with official(stack, key) as client:
        for missing in (hidden.pk, uuid.uuid4()):
            with pytest.raises(openai.NotFoundError) as caught:
                await client.chat.completions.create(
                    model=MODEL, messages=ASKED, extra_body={"knowledge": [str(missing)]}
                )
            assert caught.value.code == "knowledge_not_found"
    assert await sync_to_async(count_records)(live_acme) == 0


@pytest.mark.parametrize(
    "fields",
    [
        {"knowledge": []},
        {"knowledge": ["x"]},
        {"knowledge": "all"},
        {"knowledge": [str(uuid.UUID(int=1))] * 9},
        {"knowledge": [str(uuid.UUID(int=1))], "n": 2},
        {
            "knowledge": [str(uuid.UUID(int=1))],
            "messages": [*ASKED, {"role": "assistant", "content": "Ten."}],
        },
        {
            "knowledge": [str(uuid.UUID(int=1))],
            "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
        },
    ],
)
async def test_what_cannot_be_asked_is_a_clear_error(
    live_acme: Company, stack: Stack, key: str, fields: dict
) -> None:
    async with official(stack, key) as client:
        with pytest.raises(openai.BadRequestError) as caught:
            await client.chat.completions.create(model=MODEL, messages=ASKED, extra_body=fields)
    assert caught.value.param and caught.value.param.startswith("knowledge")
