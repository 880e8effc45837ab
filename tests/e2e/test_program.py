"""A program, through the `openai` package."""

import os
import signal
import time

import httpx
import openai
import pytest

from tests.support.product import Product

MODEL = "smollm2-135m-instruct"
ASK = [{"role": "user", "content": "What is a bank? Answer in one sentence."}]


def test_streams_a_real_answer_with_usage(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model=MODEL,
        messages=ASK,
        stream=True,
        stream_options={"include_usage": True},
        max_tokens=40,
        temperature=0,
    )
    chunks = list(stream)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert "bank" in text.lower()
    assert len([chunk for chunk in chunks if chunk.choices]) > 5, "it really streams"
    assert chunks[-1].usage is not None
    assert 0 < chunks[-1].usage.completion_tokens <= 40


def test_answers_whole_the_same_as_streamed(client: openai.OpenAI) -> None:
    # A question with a sure answer: near ties may fall either way beside another request in the batch.
    sure = [{"role": "user", "content": "What is the capital of France?"}]
    whole = client.chat.completions.create(model=MODEL, messages=sure, max_tokens=8, temperature=0)
    stream = client.chat.completions.create(
        model=MODEL, messages=sure, max_tokens=8, temperature=0, stream=True
    )
    streamed = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
    assert whole.choices[0].message.content == streamed


def test_completes_a_text(client: openai.OpenAI) -> None:
    done = client.completions.create(
        model=MODEL, prompt="The capital of France is", max_tokens=8, temperature=0
    )
    assert "Paris" in done.choices[0].text


def test_lists_models(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == [MODEL, "all-minilm-l6-v2"]


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"model": "no-such-model"}, openai.NotFoundError),
        ({"messages": []}, openai.BadRequestError),
        ({"max_tokens": -1}, openai.BadRequestError),
        ({"max_tokens": 10**12}, openai.BadRequestError),
        ({"temperature": 99}, openai.BadRequestError),
        ({"messages": [{"role": "user", "content": "word " * 30_000}]}, openai.BadRequestError),
    ],
)
def test_bad_requests_are_typed_errors(client: openai.OpenAI, changes: dict, error: type[Exception]) -> None:
    with pytest.raises(error) as raised:
        client.chat.completions.create(**{"model": MODEL, "messages": ASK, "max_tokens": 4} | changes)
    assert raised.value.body["message"]  # type: ignore[attr-defined]


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b"[]", b"null", b'"text"', b'{"model": 1}'])
def test_what_is_no_request_is_a_typed_error(product: Product, api_key: str, body: bytes) -> None:
    answer = httpx.post(
        f"{product.url}/v1/chat/completions",
        content=body,
        headers={"Authorization": f"Bearer {api_key}", "Content-Type": "application/json"},
    )
    assert answer.status_code == 400
    assert answer.json()["error"]["message"]


def test_a_wrong_key_is_refused(product: Product) -> None:
    client = openai.OpenAI(base_url=f"{product.url}/v1", api_key="custos-wrong", max_retries=0)
    with pytest.raises(openai.AuthenticationError):
        client.models.list()


def test_the_inference_process_dies_and_the_next_question_works_within_30_s(
    product: Product, client: openai.OpenAI
) -> None:
    stream = client.chat.completions.create(model=MODEL, messages=ASK, stream=True, max_tokens=400)
    received = [next(iter(stream)), next(iter(stream)), next(iter(stream))]
    assert received
    os.kill(product.pid_of("inference.server"), signal.SIGKILL)
    killed = time.monotonic()
    with pytest.raises(openai.APIError):
        list(stream)
    while True:
        try:
            client.chat.completions.create(model=MODEL, messages=ASK, max_tokens=4)
            break
        except openai.APIStatusError:
            assert time.monotonic() - killed < 30
            time.sleep(0.5)
    assert time.monotonic() - killed < 30
