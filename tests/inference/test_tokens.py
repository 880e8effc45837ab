"""/tokenize and /detokenize answer in vLLM's shapes and agree with what a generation is charged for."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from inference.protocol import MAX_BODY_BYTES
from inference.protocol_text import DetokenizeRequest
from inference.server.tokens import detokenize
from tests.inference.conftest import others_go_on

MODEL, EMBEDDER = "smollm2-135m-instruct", "all-minilm-l6-v2"
HELLO = [{"role": "user", "content": "Say hello"}]


async def post(http: httpx.AsyncClient, path: str, **body: Any) -> dict[str, Any]:
    answer = await http.post(path, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.parametrize("prefix", ["", "/v1"])
async def test_text_becomes_tokens_and_text_again(
    http: httpx.AsyncClient, tokenizer: Any, prefix: str
) -> None:
    text = "Größe, naïve, 東京 🎉 <|im_end|>"
    answer = await post(http, f"{prefix}/tokenize", model=MODEL, prompt=text)
    ids = tokenizer(text)["input_ids"]
    assert answer == {"count": len(ids), "max_model_len": 8192, "tokens": ids, "token_strs": None}
    assert await post(http, f"{prefix}/detokenize", model=MODEL, tokens=ids) == {"prompt": text}


async def test_token_strings_come_when_asked_for(http: httpx.AsyncClient) -> None:
    answer = await post(http, "/tokenize", prompt="Hello wörld", return_token_strs=True)
    assert answer["token_strs"] == ["Hello", "Ġw", "Ã¶r", "ld"]


async def test_a_chat_has_the_tokens_its_generation_is_charged_for(http: httpx.AsyncClient) -> None:
    answer = await post(http, "/tokenize", model=MODEL, messages=HELLO)
    chat = {"model": MODEL, "messages": HELLO, "max_tokens": 1}
    usage = (await http.post("/v1/chat/completions", json=chat)).json()["usage"]
    assert answer["count"] == len(answer["tokens"]) == usage["prompt_tokens"]
    text = (await post(http, "/detokenize", tokens=answer["tokens"]))["prompt"]
    assert "Say hello" in text and text.endswith("<|im_start|>assistant\n")


async def test_the_embedding_model_has_its_own_tokens(http: httpx.AsyncClient) -> None:
    answer = await post(http, "/tokenize", model=EMBEDDER, prompt="Hello", return_token_strs=True)
    assert (answer["token_strs"], answer["max_model_len"]) == (["[CLS]", "hello", "[SEP]"], 512)
    bare = await post(http, "/tokenize", model=EMBEDDER, prompt="Hello", add_special_tokens=False)
    assert bare["tokens"] == answer["tokens"][1:-1]
    assert await post(http, "/detokenize", model=EMBEDDER, tokens=bare["tokens"]) == {"prompt": "hello"}


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("/tokenize", {}, 400, "invalid_value"),
        ("/tokenize", {"prompt": "x", "messages": HELLO}, 400, "invalid_value"),
        ("/tokenize", {"prompt": 1}, 400, "invalid_type"),
        ("/tokenize", {"messages": []}, 400, "invalid_value"),
        ("/tokenize", {"messages": HELLO, "add_special_tokens": True}, 400, "unsupported_parameter"),
        ("/tokenize", {"model": EMBEDDER, "messages": HELLO}, 400, "no_chat_template"),
        ("/tokenize", {"model": "other", "prompt": "x"}, 404, "model_not_found"),
        ("/tokenize", {"prompt": "x" * MAX_BODY_BYTES}, 413, "request_too_large"),
        ("/detokenize", {}, 400, "missing_parameter"),
        ("/detokenize", {"tokens": [49152]}, 400, "invalid_value"),
        ("/detokenize", {"tokens": [-1]}, 400, "invalid_value"),
        ("/detokenize", {"tokens": ["1"]}, 400, "invalid_type"),
        ("/detokenize", {"model": "other", "tokens": []}, 404, "model_not_found"),
    ],
)
async def test_refusals(
    http: httpx.AsyncClient, path: str, body: dict[str, Any], status: int, code: str
) -> None:
    answer = await http.post(path, json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


@pytest.mark.parametrize(
    "path", ["/tokenize", "/detokenize", "/v1/tokenize", "/v1/detokenize", "/v1/embeddings"]
)
async def test_the_token_is_needed_here_too(server: tuple[str, str], path: str) -> None:
    async with httpx.AsyncClient(base_url=server[0], trust_env=False) as client:
        assert (await client.post(path, json={})).status_code == 401


def test_very_many_tokens_do_not_stop_the_other_threads(tokenizer: Any) -> None:
    ready = SimpleNamespace(
        name=MODEL,
        loaded=SimpleNamespace(tokenizer=tokenizer),
        engine=SimpleNamespace(limits=SimpleNamespace(max_context=8192)),
    )
    service: Any = SimpleNamespace(ready=lambda: ready)
    wire = DetokenizeRequest(tokens=[n % 40_000 + 300 for n in range(300_000)])
    with others_go_on():
        text = detokenize(service, wire)["prompt"]
    assert text == tokenizer.backend_tokenizer.decode(wire.tokens, skip_special_tokens=False)
