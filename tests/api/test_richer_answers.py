"""Several choices, reasoning, tool calls, log probabilities: delivered in OpenAI's shapes, and all of it recorded."""

from __future__ import annotations

import json
from typing import Any

import pytest

from audit.output import Kind, Part, text_of
from tests.api.client import MODEL, SHORT, chat, http, official
from tests.chat.recorded import once_closed
from tests.chat.stack import Stack
from tests.conftest import Company

TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"default": None}}}]
REASONING, TEXT = "The capital is asked.", "It is Paris."


async def test_every_choice_is_delivered_and_recorded(live_acme: Company, stack: Stack, key: str) -> None:
    async with official(stack, key) as client:
        raw = await client.chat.completions.with_raw_response.create(
            model=MODEL, messages=SHORT, n=3, max_tokens=12, temperature=1.5, seed=5
        )
    answer = raw.parse()
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    texts = [choice.message.content for choice in answer.choices]
    assert len(set(texts)) > 1
    record = await once_closed(live_acme, raw.headers["x-request-id"])
    assert record.parts == [Part(text, choice) for choice, text in enumerate(texts)]
    assert record.parameters["n"] == 3


async def test_streamed_choices_each_begin_grow_and_end(live_acme: Company, stack: Stack, key: str) -> None:
    async with official(stack, key) as client:
        stream = await client.completions.create(
            model=MODEL,
            prompt=["One, two, three,", "Red, green,"],
            n=2,
            max_tokens=6,
            temperature=1.0,
            stream=True,
            stream_options={"include_usage": True},
        )
        request_id = stream.response.headers["x-request-id"]
        chunks = [chunk async for chunk in stream]
    texts, reasons = [""] * 4, [""] * 4
    for choice in (choice for chunk in chunks for choice in chunk.choices):
        texts[choice.index] += choice.text
        reasons[choice.index] += choice.finish_reason or ""
    assert set(reasons) <= {"length", "stop"} and "length" in reasons
    record = await once_closed(live_acme, request_id)
    assert record.input == ["One, two, three,", "Red, green,"]
    assert record.parts == [Part(text, choice) for choice, text in enumerate(texts) if text]
    assert record.completion is not None
    assert record.completion.completion_tokens == chunks[-1].usage.completion_tokens
    assert set(record.completion.finish_reason.split(", ")) == set(reasons)


async def test_reasoning_is_apart_from_the_answer(
    live_acme: Company, stack: Stack, key: str, thinker: str
) -> None:
    async with http(stack, key) as client:
        whole = await client.post("/v1/chat/completions", json=chat(model=thinker, n=2))
    body = whole.json()
    for choice in body["choices"]:
        assert choice["message"] == {
            "role": "assistant",
            "content": TEXT,
            "refusal": None,
            "reasoning_content": REASONING,
        }
        assert choice["finish_reason"] == "stop"
    assert body["usage"]["completion_tokens_details"]["reasoning_tokens"] > 0
    record = await once_closed(live_acme, whole.headers["x-request-id"])
    assert record.parts == [
        Part(REASONING, kind=Kind.REASONING),
        Part(TEXT),
        Part(REASONING, 1, Kind.REASONING),
        Part(TEXT, 1),
    ]


async def test_a_streamed_tool_call_arrives_as_it_is_recorded(
    live_acme: Company, stack: Stack, key: str, thinker: str
) -> None:
    async with official(stack, key) as client:
        stream = await client.chat.completions.create(model=thinker, messages=SHORT, tools=TOOLS, stream=True)
        request_id = stream.response.headers["x-request-id"]
        chunks = [chunk async for chunk in stream]
    deltas = [chunk.choices[0].delta for chunk in chunks]
    assert "".join(delta.content or "" for delta in deltas) == "I look. "
    (call,) = [call for delta in deltas for call in delta.tool_calls or []]
    assert (call.index, call.type, call.function.name) == (0, "function", "weather")
    assert json.loads(call.function.arguments) == {"city": "Paris"}
    assert chunks[-1].choices[0].finish_reason == "tool_calls"
    record = await once_closed(live_acme, request_id)
    assert record.parts == [
        Part("I look. "),
        Part(call.function.arguments, kind=Kind.TOOL_CALL, id=call.id, name="weather"),
    ]
    assert record.parameters["tools"] == TOOLS


async def test_the_result_of_a_tool_is_read_by_the_model_and_recorded(
    live_acme: Company, stack: Stack, key: str, thinker: str
) -> None:
    async with official(stack, key) as client:
        first = await client.chat.completions.create(model=thinker, messages=SHORT, tools=TOOLS)
        called = first.choices[0].message
        result = {"role": "tool", "tool_call_id": called.tool_calls[0].id, "content": "rain"}
        messages: list[Any] = [*SHORT, called.model_dump(exclude_none=True), result]
        raw = await client.chat.completions.with_raw_response.create(model=thinker, messages=messages)
    assert raw.parse().choices[0].message.content == TEXT
    record = await once_closed(live_acme, raw.headers["x-request-id"])
    assert record.input[2] == result
    assert record.input[1]["tool_calls"][0]["function"]["name"] == "weather"


async def test_only_the_tools_of_a_model_that_has_them(live_acme: Company, stack: Stack, key: str) -> None:
    """What the service refuses names its field to the caller."""
    async with http(stack, key) as client:
        refused = await client.post("/v1/chat/completions", json=chat(tools=TOOLS))
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "tools"
    record = await once_closed(live_acme, refused.headers["x-request-id"])
    assert (record.status, record.parts) == ("refused", [])


@pytest.mark.parametrize("stream", [False, True])
async def test_log_probabilities_come_with_their_text(
    live_acme: Company, stack: Stack, key: str, stream: bool
) -> None:
    async with http(stack, key) as client:
        answer = await client.post(
            "/v1/chat/completions",
            json=chat(logprobs=True, top_logprobs=2, temperature=0, max_tokens=6, stream=stream),
        )
    if stream:
        lines = [json.loads(line[6:]) for line in answer.text.split("\n\n") if line.startswith("data: {")]
        deltas = [choice for line in lines for choice in line["choices"] if choice["logprobs"]]
        assert all(choice["delta"]["content"] for choice in deltas)
        found = [token for choice in deltas for token in choice["logprobs"]["content"]]
    else:
        found = answer.json()["choices"][0]["logprobs"]["content"]
    record = await once_closed(live_acme, answer.headers["x-request-id"])
    assert "".join(token["token"] for token in found) == text_of(record.parts)
    for token in found:
        assert len(token["top_logprobs"]) == 2
        assert token["top_logprobs"][0]["logprob"] == token["logprob"] <= 0, "greedy takes the likeliest"
    assert record.parameters["top_logprobs"] == 2
