"""The `openai` package against the real service."""

from __future__ import annotations

import openai
import pytest

from tests.api.client import EMBEDDER, MODEL, SHORT, official
from tests.chat.recorded import once_closed
from tests.chat.stack import Stack
from tests.conftest import Company


async def test_a_whole_answer(live_acme: Company, stack: Stack, key: str) -> None:
    async with official(stack, key) as client:
        raw = await client.chat.completions.with_raw_response.create(
            model=MODEL, messages=SHORT, max_tokens=40, temperature=0, user="someone", metadata={"a": "b"}
        )
    answer = raw.parse()
    text = answer.choices[0].message.content
    assert "Paris" in text
    assert (answer.model, answer.object, answer.choices[0].finish_reason) == (
        MODEL,
        "chat.completion",
        "stop",
    )
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    record = await once_closed(live_acme, raw.headers["x-request-id"])
    assert (record.text, record.status, record.channel) == (text, "completed", "api")
    assert record.input == SHORT
    assert answer.id == f"chatcmpl-{raw.headers['x-request-id']}"


async def test_a_streamed_answer(live_acme: Company, stack: Stack, key: str) -> None:
    async with official(stack, key) as client:
        stream = await client.chat.completions.create(
            model=MODEL,
            messages=SHORT,
            max_tokens=40,
            temperature=0,
            stream=True,
            stream_options={"include_usage": True},
        )
        request_id = stream.response.headers["x-request-id"]
        chunks = [chunk async for chunk in stream]
    assert chunks[0].choices[0].delta.role == "assistant"
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert "Paris" in text
    assert len(chunks) > 4
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens > 1
    assert (await once_closed(live_acme, request_id)).text == text


async def test_a_plain_completion_whole_and_streamed(live_acme: Company, stack: Stack, key: str) -> None:
    async with official(stack, key) as client:
        whole = await client.completions.create(
            model=MODEL, prompt="One, two, three,", max_tokens=8, temperature=0
        )
        stream = await client.completions.create(
            model=MODEL, prompt="One, two, three,", max_tokens=8, temperature=0, stream=True
        )
        request_id = stream.response.headers["x-request-id"]
        pieces = [chunk.choices[0].text async for chunk in stream]
    assert "four" in whole.choices[0].text
    assert "".join(pieces) == whole.choices[0].text
    assert whole.choices[0].finish_reason == "length"
    record = await once_closed(live_acme, request_id)
    assert (record.input, record.text) == ("One, two, three,", whole.choices[0].text)


async def test_the_models_are_the_tenants_routes(live_acme: Company, stack: Stack, key: str) -> None:
    async with official(stack, key) as client:
        models = await client.models.list()
        names = [(m.id, m.owned_by) for m in models.data]
        assert names == [(MODEL, "acme-bank"), (EMBEDDER, "acme-bank")]
        assert (await client.models.retrieve(MODEL)).id == MODEL
        with pytest.raises(openai.NotFoundError) as missing:
            await client.models.retrieve("gpt-9")
    assert missing.value.code == "model_not_found"


async def test_refusals_are_the_clients_own_exceptions(live_acme: Company, stack: Stack, key: str) -> None:
    async with official(stack, "custos-wrong") as client:
        with pytest.raises(openai.AuthenticationError) as refused:
            await client.chat.completions.create(model=MODEL, messages=SHORT)
        assert refused.value.code == "invalid_api_key"
    async with official(stack, key) as client:
        with pytest.raises(openai.NotFoundError) as missing:
            await client.chat.completions.create(model="gpt-9", messages=SHORT)
        assert (missing.value.code, missing.value.param) == ("model_not_found", "model")
        with pytest.raises(openai.BadRequestError) as long:
            await client.chat.completions.create(
                model=MODEL, messages=[{"role": "user", "content": "河" * 20_000}], stream=True
            )
        assert long.value.code == "context_length_exceeded"
        record = await once_closed(live_acme, long.value.response.headers["x-request-id"])
        assert (record.status, record.text) == ("refused", "")
