"""Embeddings are audited like answers; counting tokens needs a key and leaves no record."""

from __future__ import annotations

import math
from typing import Any

import pytest
from asgiref.sync import sync_to_async

from audit.models import AuditRecord
from tenants.scope import tenant_scope
from tests.api.client import EMBEDDER, MODEL, SHORT, http, official
from tests.chat.recorded import Withdrawn, count_records, once_closed
from tests.chat.stack import Stack
from tests.conftest import Company

TEXTS = ["A river runs to the sea.", "Streams flow into the ocean.", "The audit is on Friday."]


def likeness(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True)) / math.hypot(*one) / math.hypot(*other)


async def test_texts_become_vectors_and_are_recorded(live_acme: Company, stack: Stack, key: str) -> None:
    async with official(stack, key) as client:
        raw = await client.embeddings.with_raw_response.create(model=EMBEDDER, input=TEXTS)
    answer = raw.parse()
    rivers, streams, audit = (item.embedding for item in answer.data)
    assert likeness(rivers, streams) > likeness(rivers, audit) + 0.2
    assert (len(rivers), answer.model) == (384, EMBEDDER)
    record = await once_closed(live_acme, raw.headers["x-request-id"])
    assert (record.input, record.parts, record.status) == (TEXTS, [], "completed")
    assert record.completion is not None
    assert record.completion.prompt_tokens == answer.usage.prompt_tokens == answer.usage.total_tokens > 9
    assert await sync_to_async(kinds)(live_acme) == ["embedding"]


def kinds(company: Company) -> list[str]:
    with tenant_scope(company.tenant.pk):
        return list(AuditRecord.objects.values_list("kind", flat=True))


async def test_without_a_record_nothing_is_embedded(live_acme: Company, stack: Stack, key: str) -> None:
    async with http(stack, key) as client:
        with Withdrawn("INSERT", "audit_record"):
            refused = await client.post("/v1/embeddings", json={"model": EMBEDDER, "input": "canary"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "audit_unavailable")
    assert "data" not in refused.json()


@pytest.mark.parametrize(
    ("body", "status", "code", "param"),
    [
        ({"model": EMBEDDER, "input": ["x"] * 257}, 400, "invalid_value", "input"),
        ({"model": EMBEDDER, "input": []}, 400, "invalid_type", "input"),
        ({"model": EMBEDDER, "input": ["x" * 1_000_000]}, 413, "request_too_large", None),
        ({"model": MODEL, "input": "x"}, 404, "model_not_found", "model"),
        ({"model": EMBEDDER}, 400, "missing_parameter", "input"),
    ],
    ids=["too many", "none", "too large", "a model that chats", "no input"],
)
async def test_a_bad_request_is_refused_before_it_is_recorded(
    live_acme: Company, stack: Stack, key: str, body: Any, status: int, code: str, param: str | None
) -> None:
    async with http(stack, key) as client:
        refused = await client.post("/v1/embeddings", json=body)
    error = refused.json()["error"]
    assert (refused.status_code, error["code"], error["param"]) == (status, code, param)
    assert await sync_to_async(count_records)(live_acme) == 0


async def test_what_the_service_refuses_is_recorded_as_refused(
    live_acme: Company, stack: Stack, key: str
) -> None:
    async with http(stack, key) as client:
        refused = await client.post("/v1/embeddings", json={"model": EMBEDDER, "input": ["a", "word " * 600]})
    error = refused.json()["error"]
    assert (refused.status_code, error["code"], error["param"]) == (
        400,
        "context_length_exceeded",
        "input[1]",
    )
    record = await once_closed(live_acme, refused.headers["x-request-id"])
    assert (record.status, record.error_code) == ("refused", "context_length_exceeded")


async def test_the_embedding_model_does_not_chat(live_acme: Company, stack: Stack, key: str) -> None:
    async with http(stack, key) as client:
        refused = await client.post("/v1/chat/completions", json={"model": EMBEDDER, "messages": SHORT})
    assert (refused.status_code, refused.json()["error"]["code"]) == (404, "model_not_found")


async def test_tokens_there_and_back_leave_no_record(live_acme: Company, stack: Stack, key: str) -> None:
    async with http(stack, key) as client:
        for model in (MODEL, EMBEDDER):
            prompt = {"model": model, "prompt": "a river", "add_special_tokens": False}
            tokens = (await client.post("/v1/tokenize", json=prompt)).json()
            assert tokens["count"] == len(tokens["tokens"]) == 2
            back = await client.post("/v1/detokenize", json={"model": model, "tokens": tokens["tokens"]})
            assert back.json() == {"prompt": "a river"}
        told = await client.post("/v1/tokenize", json={"model": MODEL, "messages": SHORT})
        assert told.json()["count"] > len(SHORT[0]["content"].split())
        assert told.json()["max_model_len"] > 1000
        wrong = await client.post("/v1/detokenize", json={"model": MODEL, "tokens": [10**6]})
        assert (wrong.status_code, wrong.json()["error"]["type"]) == (400, "invalid_request_error")
    assert await sync_to_async(count_records)(live_acme) == 0
