"""The console's client: deltas in, typed errors out, and nothing left running behind it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.output import Kind
from console.supervisor.ports import free_port
from inference.client import (
    Delta,
    Finished,
    InferenceBusy,
    InferenceClient,
    InferenceInterrupted,
    InferenceRejected,
    InferenceUnavailable,
    Usage,
    _AnswerReader,
    close_pool,
    joined_logprobs,
)
from tests.inference.test_server import CHAT, LONG, MODEL, metric, steps_until_idle
from tests.support.inference import launch_inference_server, wait_for_state


@pytest.fixture(autouse=True)
async def pool() -> AsyncIterator[None]:
    yield
    await close_pool()


def reader(server: tuple[str, str]) -> httpx.AsyncClient:
    headers = {"Authorization": f"Bearer {server[1]}"}
    return httpx.AsyncClient(base_url=server[0], headers=headers, trust_env=False)


async def test_an_answer_arrives_as_deltas_and_one_end(server: tuple[str, str]) -> None:
    client = InferenceClient(*server)
    items = [
        item
        async for item in client.stream_chat(
            CHAT | {"max_tokens": 8, "temperature": 0.0}, request_id="r-1", tenant="t-1"
        )
    ]
    *deltas, end = items
    assert deltas and all(isinstance(delta, Delta) and delta.text for delta in deltas)
    assert isinstance(end, Finished)
    assert end.finish_reasons[0] in ("stop", "length")
    assert end.usage.prompt_tokens > 0 and 0 < end.usage.completion_tokens <= 8


async def test_a_completion_arrives_the_same_way(server: tuple[str, str]) -> None:
    request = {"model": MODEL, "prompt": "The capital of France is", "max_tokens": 3, "temperature": 0.0}
    items = [item async for item in InferenceClient(*server).stream_completion(request)]
    assert "Paris" in "".join(item.text for item in items if isinstance(item, Delta))
    assert items[-1] == Finished({0: "length"}, Usage(5, 3))


async def test_closing_the_iterator_frees_the_engine(server: tuple[str, str]) -> None:
    client = InferenceClient(*server)
    async with aclosing(client.stream_chat(CHAT | LONG)) as answer:
        await anext(answer)
        assert (await client.health())["running"] == 1
    async with reader(server) as http:
        assert await steps_until_idle(http) <= 3


async def test_cancelling_the_reading_task_frees_the_engine(server: tuple[str, str]) -> None:
    async def read() -> None:
        async for _ in InferenceClient(*server).stream_chat(CHAT | LONG):
            started.set()

    started = asyncio.Event()
    reading = asyncio.ensure_future(read())
    await asyncio.wait_for(started.wait(), 10)
    reading.cancel()
    async with reader(server) as http:
        assert await steps_until_idle(http) <= 3


async def test_a_request_at_fault_is_rejected_with_the_services_words(server: tuple[str, str]) -> None:
    with pytest.raises(InferenceRejected) as rejected:
        await anext(InferenceClient(*server).stream_chat(CHAT | {"model": "other"}))
    error = rejected.value.error
    assert (error.status, error.code, error.param) == (404, "model_not_found", "model")
    with pytest.raises(InferenceRejected) as long:
        await anext(InferenceClient(*server).stream_chat(CHAT | {"max_tokens": 9000}))
    assert long.value.code == "context_length_exceeded"


async def test_our_own_wrong_token_is_not_the_users_fault(server: tuple[str, str]) -> None:
    with pytest.raises(InferenceUnavailable, match="token"):
        await anext(InferenceClient(server[0], "wrong").stream_chat(CHAT))


async def test_nobody_there_is_unavailable() -> None:
    client = InferenceClient(f"http://127.0.0.1:{free_port()}")
    for attempt in (anext(client.stream_chat(CHAT)), client.health(), client.metrics_text()):
        with pytest.raises(InferenceUnavailable):
            await attempt


async def test_metrics_can_be_read(server: tuple[str, str]) -> None:
    assert "custos_inference_requests_running" in await InferenceClient(*server).metrics_text()


async def test_loading_busy_stopping_and_dying_are_told_apart(tiny_folder: Path, tmp_path: Path) -> None:
    url, token, process = launch_inference_server(
        tmp_path / "models", "--max-running", "1", "--max-waiting", "0", model=str(tiny_folder)
    )
    request = {"model": "tiny-llama", "messages": CHAT["messages"], **LONG}
    client = InferenceClient(url, token)
    try:
        await asyncio.to_thread(wait_for_state, url, process, "loading")
        with pytest.raises(InferenceUnavailable, match="loaded"):
            await anext(client.stream_chat(request))
        await asyncio.to_thread(wait_for_state, url, process, "ready")
        answer = client.stream_chat(request)
        await anext(answer)
        with pytest.raises(InferenceBusy) as busy:
            await anext(client.stream_chat(request))
        assert busy.value.retry_after >= 1
        async with reader((url, token)) as http:
            refused = await http.post("/v1/chat/completions", json=request)
            assert (refused.status_code, refused.json()["error"]["code"]) == (429, "queue_full")
            assert int(refused.headers["retry-after"]) >= 1
            assert await metric(http, 'requests_total{outcome="busy"}') == 2
        process.kill()
        with pytest.raises(InferenceInterrupted):
            async for _ in answer:
                pass
    finally:
        process.kill()
        process.wait()


# --- Reading the stream ----------------------------------------------------------------------------------


def event(data: Any) -> bytes:
    return f"data: {json.dumps(data, ensure_ascii=False)}\n\n".encode()


ANSWER = b"".join(
    [
        event({"choices": [{"delta": {"role": "assistant", "content": ""}}]}),
        b": waiting\n\n",
        event({"choices": [{"delta": {"content": "漢字 \u2028\u0085 👩‍👩‍👧"}}]}),
        event({"choices": [{"delta": {"content": "\r\n end"}}]}).replace(b"\n\n", b"\r\n\r\n"),
        event({"choices": [{"delta": {}, "finish_reason": "length"}]}),
        event(
            {
                "choices": [],
                "usage": {
                    "prompt_tokens": 3,
                    "completion_tokens": 2,
                    "prompt_tokens_details": {"cached_tokens": 1},
                },
            }
        ),
        b"data: [DONE]\n\n",
    ]
)


@given(cuts=st.sets(st.integers(0, len(ANSWER)), max_size=30))
def test_an_answer_reads_the_same_however_the_network_cuts_it(cuts: set[int]) -> None:
    reader, items = _AnswerReader(), []
    borders = [0, *sorted(cuts), len(ANSWER)]
    for start, end in pairwise(borders):
        items += list(reader.feed(ANSWER[start:end]))
    assert items == [
        Delta("漢字 \u2028\u0085 👩‍👩‍👧"),
        Delta("\r\n end"),
        Finished({0: "length"}, Usage(3, 2, 1)),
    ]
    assert reader.done


def read(*events: Any) -> list[Any]:
    return list(_AnswerReader().feed(b"".join(map(event, events)) + b"data: [DONE]\n\n"))


def choice(index: int = 0, **fields: Any) -> dict[str, Any]:
    return {"choices": [{"index": index, **fields}]}


def test_choices_reasoning_and_tool_calls_are_told_apart() -> None:
    call = {"index": 1, "id": "call_1", "type": "function", "function": {"name": "weather", "arguments": ""}}
    more = {"index": 1, "function": {"arguments": "{}"}}
    items = read(
        choice(1, delta={"role": "assistant", "content": ""}),
        choice(1, delta={"reasoning_content": "Hm"}),
        choice(0, delta={"reasoning": "So"}),
        choice(0, delta={"content": "Yes", "reasoning_content": "!"}),
        choice(1, delta={"tool_calls": [call]}),
        choice(1, delta={"tool_calls": [more]}),
        choice(1, delta={}, finish_reason="tool_calls"),
        choice(0, delta={}, finish_reason="stop"),
        {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 9,
                                  "completion_tokens_details": {"reasoning_tokens": 4}}},
    )  # fmt: skip
    assert items == [
        Delta("Hm", 1, Kind.REASONING),
        Delta("So", 0, Kind.REASONING),
        Delta("!", 0, Kind.REASONING),
        Delta("Yes"),
        Delta("", 1, Kind.TOOL_CALL, call=1, id="call_1", name="weather"),
        Delta("{}", 1, Kind.TOOL_CALL, call=1),
        Finished({1: "tool_calls", 0: "stop"}, Usage(3, 9, 0, 4)),
    ]


def test_logprobs_wait_for_the_text_they_are_of() -> None:
    first, second, other, last = ({"content": [{"token": each, "logprob": -1.0}]} for each in "abcd")
    items = read(
        choice(delta={"content": ""}, logprobs=first),
        choice(1, delta={"content": "c"}, logprobs=other),
        choice(delta={"content": "ab"}, logprobs=second),
        choice(delta={"content": ""}, logprobs=last, finish_reason="stop"),
    )
    assert items[:-1] == [
        Delta("c", 1, logprobs=other),
        Delta("ab", logprobs={"content": first["content"] + second["content"]}),
    ]


def test_the_logprobs_of_pieces_are_joined_list_by_list() -> None:
    one = {"tokens": ["a"], "token_logprobs": [-1.0], "top_logprobs": None}
    two = {"tokens": ["b"], "token_logprobs": [-2.0], "top_logprobs": None}
    assert joined_logprobs([None, one, two, None]) == {
        "tokens": ["a", "b"],
        "token_logprobs": [-1.0, -2.0],
        "top_logprobs": None,
    }
    assert one["tokens"] == ["a"], "the pieces stay as they are"
    assert joined_logprobs([None, {}]) is None


def test_an_answer_without_its_end_is_not_done() -> None:
    reader = _AnswerReader()
    list(reader.feed(ANSWER[: -len(b"data: [DONE]\n\n")]))
    assert not reader.done
