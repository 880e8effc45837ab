"""The service as its callers meet it: a real process, spoken to over HTTP."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import openai
import pytest

from inference.client import InferenceClient, InferenceInterrupted, close_pool
from inference.protocol import MAX_BODY_BYTES
from tests.support.inference import launch_inference_server, wait_for_state

MODEL = "smollm2-135m-instruct"
CHAT: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "Say hello"}]}
LONG = {"max_tokens": 3000, "ignore_eos": True}


# --- The official client -------------------------------------------------------------------------------


def official(server: tuple[str, str], **options: Any) -> openai.OpenAI:
    url, token = server
    return openai.OpenAI(base_url=f"{url}/v1", api_key=token, **options)


def test_the_openai_package_streams_a_chat(server: tuple[str, str]) -> None:
    stream = official(server).chat.completions.create(
        **CHAT, max_tokens=12, temperature=0, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert chunks[0].choices[0].delta.role == "assistant"
    assert text
    assert chunks[-2].choices[0].finish_reason in ("stop", "length")
    usage = chunks[-1].usage
    assert usage is not None and 0 < usage.completion_tokens <= 12
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    whole = official(server).chat.completions.create(**CHAT, max_tokens=12, temperature=0)
    assert whole.choices[0].message.content == text
    assert whole.usage is not None and whole.usage.completion_tokens == usage.completion_tokens


def test_the_openai_package_completes_text_and_lists_models(server: tuple[str, str]) -> None:
    client = official(server)
    prompt = "The capital of France is"
    done = client.completions.create(model=MODEL, prompt=prompt, max_tokens=3, temperature=0)
    assert "Paris" in done.choices[0].text
    streamed = client.completions.create(model=MODEL, prompt=prompt, max_tokens=3, temperature=0, stream=True)
    assert "".join(chunk.choices[0].text for chunk in streamed) == done.choices[0].text
    assert next(iter(client.models.list())).id == MODEL
    assert client.models.retrieve(MODEL).id == MODEL


def test_the_openai_package_raises_its_own_errors(server: tuple[str, str]) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        official(server).chat.completions.create(**CHAT | {"model": "gpt-9"})
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.AuthenticationError):
        official((server[0], "wrong")).models.list()
    with pytest.raises(openai.BadRequestError) as long:
        official(server).chat.completions.create(
            **CHAT | {"messages": [{"role": "user", "content": "x " * 9000}]}
        )
    assert long.value.code == "context_length_exceeded"


def test_a_seed_reproduces_over_http(server: tuple[str, str]) -> None:
    def draw(seed: int) -> str | None:
        answer = official(server).chat.completions.create(**CHAT, max_tokens=10, temperature=1.5, seed=seed)
        return answer.choices[0].message.content

    assert draw(1) == draw(1) != draw(2)


def test_choices_differ_and_a_seed_gives_them_again(server: tuple[str, str]) -> None:
    def draw() -> list[str | None]:
        answer = official(server).chat.completions.create(**CHAT, max_tokens=8, temperature=1.5, seed=5, n=3)
        assert answer.usage is not None and answer.usage.completion_tokens <= 3 * 8
        return [choice.message.content for choice in answer.choices]

    first = draw()
    assert len(set(first)) == 3
    assert draw() == first


def test_the_likeliest_token_is_what_a_greedy_answer_takes(server: tuple[str, str]) -> None:
    answer = official(server).chat.completions.create(
        **CHAT, max_tokens=6, temperature=0, logprobs=True, top_logprobs=2
    )
    [choice] = answer.choices
    assert choice.logprobs is not None and choice.logprobs.content
    for token in choice.logprobs.content:
        best, second = token.top_logprobs
        # Not by name: in bf16 two tokens may be equally likely, to the last bit.
        assert token.logprob == best.logprob
        assert second.logprob <= best.logprob <= 0
    text = b"".join(bytes(token.bytes or ()) for token in choice.logprobs.content).decode()
    assert text.removesuffix("<|im_end|>") == choice.message.content


def test_a_small_model_keeps_to_a_schema(server: tuple[str, str]) -> None:
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 12}, "grade": {"enum": [1, 2, 3]}},
        "required": ["city", "grade"],
        "additionalProperties": False,
    }
    answer = official(server).chat.completions.create(
        **CHAT,
        max_tokens=200,
        temperature=1.5,
        response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}},
    )
    assert answer.choices[0].finish_reason == "stop"
    jsonschema.validate(json.loads(answer.choices[0].message.content or ""), schema)


# --- Refusals ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, "invalid_json"),
        (b"\xff", 400, "invalid_encoding"),
        (json.dumps(CHAT | {"messages": []}).encode(), 400, "invalid_value"),
        (json.dumps(CHAT | {"max_tokens": -1}).encode(), 400, "invalid_value"),
        (json.dumps(CHAT | {"max_tokens": 8192}).encode(), 400, "context_length_exceeded"),
        (json.dumps(CHAT | {"model": "other"}).encode(), 404, "model_not_found"),
        (b" " * (MAX_BODY_BYTES + 1), 413, "request_too_large"),
    ],
)
async def test_refusals_have_openais_shape(
    http: httpx.AsyncClient, body: bytes, status: int, code: str
) -> None:
    answer = await http.post("/v1/chat/completions", content=body)
    assert answer.status_code == status
    error = answer.json()["error"]
    assert error["code"] == code and error["message"] and error["type"] == "invalid_request_error"


async def test_a_body_of_undeclared_length_is_cut_off_too(http: httpx.AsyncClient) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b" " * 50_000

    answer = await http.post("/v1/chat/completions", content=endless())
    assert answer.status_code == 413


@pytest.mark.parametrize("header", [None, "Bearer wrong", "Basic x", "Bearer", "Bearer wr\u00f6ng"])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/v1/models", "/metrics"])
async def test_everything_but_health_needs_the_token(
    server: tuple[str, str], path: str, header: str | None
) -> None:
    headers = {} if header is None else {"Authorization": header.encode()}
    async with httpx.AsyncClient(base_url=server[0], trust_env=False) as client:
        method = "POST" if path.endswith("completions") else "GET"
        answer = await client.request(method, path, headers=headers)  # type: ignore[arg-type]
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")
        assert (await client.get("/health")).status_code == 200


async def test_unknown_paths_and_methods_answer_in_shape(http: httpx.AsyncClient) -> None:
    assert (await http.get("/v1/nothing")).json()["error"]["code"] == "not_found"
    assert (await http.get("/v1/chat/completions")).json()["error"]["code"] == "method_not_allowed"
    assert (await http.get("/v1/models/other")).json()["error"]["code"] == "model_not_found"


# --- Disconnects ----------------------------------------------------------------------------------------


async def metric(client: httpx.AsyncClient, name: str) -> float:
    for line in (await client.get("/metrics")).text.splitlines():
        if line.startswith(f"custos_inference_{name} "):
            return float(line.rsplit(" ", 1)[1])
    raise AssertionError(f"No metric {name}")


async def steps_until_idle(client: httpx.AsyncClient) -> float:
    """How many steps the engine still takes before nothing runs: independent of the machine's speed."""
    before = await metric(client, "step_seconds_count")
    async with asyncio.timeout(20):
        while (await client.get("/health")).json()["running"]:
            await asyncio.sleep(0.01)
    return await metric(client, "step_seconds_count") - before


@pytest.mark.parametrize(("stream", "n"), [(True, 1), (False, 1), (True, 3)])
async def test_a_client_that_leaves_frees_its_place_within_a_step(
    http: httpx.AsyncClient, stream: bool, n: int
) -> None:
    cancelled = await metric(http, 'requests_total{outcome="cancelled"}')
    asking = asyncio.ensure_future(read_all(http, CHAT | LONG | {"stream": stream, "n": n}))
    async with asyncio.timeout(20):
        while (await http.get("/health")).json()["running"] < n:
            await asyncio.sleep(0.01)
    asking.cancel()
    # The step under way and the one that drops it; one more for the news to travel.
    assert await steps_until_idle(http) <= 3
    assert await metric(http, "kv_blocks_used") == 0
    assert await metric(http, 'requests_total{outcome="cancelled"}') == cancelled + n


async def read_all(client: httpx.AsyncClient, body: dict[str, Any]) -> None:
    async with client.stream("POST", "/v1/chat/completions", json=body) as answer:
        async for _ in answer.aiter_bytes():
            pass


# --- Metrics and health ------------------------------------------------------------------------------------


async def test_an_answer_is_counted(http: httpx.AsyncClient) -> None:
    names = [
        'requests_total{outcome="completed"}',
        "generated_tokens_total",
        "prompt_tokens_total",
        "time_to_first_token_seconds_count",
        "inter_token_seconds_count",
        "request_seconds_count",
    ]
    before = [await metric(http, name) for name in names]
    answer = (await http.post("/v1/chat/completions", json=CHAT | LONG | {"max_tokens": 5})).json()
    after = [await metric(http, name) for name in names]
    prompt = answer["usage"]["prompt_tokens"]
    assert [b - a for a, b in zip(before, after, strict=True)] == [1, 5, prompt, 1, 4, 1]
    assert await metric(http, "ready") == 1


async def test_health_tells_the_model_and_its_digest(http: httpx.AsyncClient) -> None:
    body = (await http.get("/health")).json()
    assert (body["state"], body["model"]) == ("ready", MODEL)
    assert len(body["digest"]) == 64
    assert body["dtype"] == "bfloat16"
    assert body["weight_bytes"] == pytest.approx(269e6, rel=0.01)
    assert body["capacity"]["running"] >= 1


def test_it_listens_while_loading_and_says_when_loading_failed(tmp_path: Path) -> None:
    url, token, process = launch_inference_server(tmp_path, model="/nowhere/at/all")
    try:
        loading = wait_for_state(url, process, "loading")
        assert httpx.get(f"{url}/health", trust_env=False).status_code == 503
        refused = httpx.post(
            f"{url}/v1/chat/completions",
            json=CHAT,
            headers={"Authorization": f"Bearer {token}"},
            trust_env=False,
        )
        assert refused.status_code == 503
        assert refused.json()["error"]["code"] in ("model_loading", "model_failed")
        failed = wait_for_state(url, process, "failed")
        assert "/nowhere/at/all" in failed["detail"]
        assert loading["detail"]
    finally:
        process.kill()
        process.wait()


# --- Stopping ------------------------------------------------------------------------------------------------


async def test_sigterm_tells_every_caller_and_ends_the_process_soon(
    tiny_folder: Path, tmp_path: Path
) -> None:
    url, token, process = launch_inference_server(
        tmp_path / "models", "--max-running", "2", model=str(tiny_folder)
    )
    body = {"model": "tiny-llama", "messages": CHAT["messages"], **LONG}
    headers = {"Authorization": f"Bearer {token}"}
    try:
        await asyncio.to_thread(wait_for_state, url, process, "ready")
        async with httpx.AsyncClient(base_url=url, headers=headers, trust_env=False, timeout=30) as client:
            # Two run, one streaming to the console's client, and two wait.
            answer = InferenceClient(url, token).stream_chat(body)
            await anext(answer)
            asking = [asyncio.ensure_future(client.post("/v1/chat/completions", json=body)) for _ in range(3)]
            async with asyncio.timeout(10):
                while (await client.get("/health")).json()["waiting"] < 2:
                    await asyncio.sleep(0.02)
            stopped_at = time.monotonic()
            process.send_signal(signal.SIGTERM)
            with pytest.raises(InferenceInterrupted) as interrupted:
                async for _ in answer:
                    pass
            answers = await asyncio.gather(*asking)
        assert interrupted.value.code == "engine_stopped"
        assert {(a.status_code, a.json()["error"]["code"]) for a in answers} == {(503, "engine_stopped")}
        await asyncio.to_thread(process.wait, 5)
        assert time.monotonic() - stopped_at < 5
    finally:
        process.kill()
        process.wait()
        await close_pool()
