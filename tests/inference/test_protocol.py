"""What a request may hold, and the words in which anything else is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inference.protocol import (
    MAX_BODY_BYTES,
    ApiError,
    ChatCompletionRequest,
    CompletionRequest,
    parse_request,
)

CHAT: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


def refusal(body: bytes, kind: Any = ChatCompletionRequest) -> ApiError:
    with pytest.raises(ApiError) as refused:
        parse_request(kind, body)
    error = refused.value
    assert set(error.body()["error"]) == {"message", "type", "param", "code"}
    return error


@pytest.mark.parametrize(
    ("change", "code", "param"),
    [
        ({"n": 2}, "unsupported_parameter", "n"),
        ({"n": True}, "unsupported_parameter", "n"),
        ({"tools": [{}]}, "unsupported_parameter", "tools"),
        ({"logprobs": True}, "unsupported_parameter", "logprobs"),
        ({"response_format": {"type": "json_object"}}, "unsupported_parameter", "response_format"),
        ({"max_tokens": 0}, "invalid_value", "max_tokens"),
        ({"max_tokens": -1}, "invalid_value", "max_tokens"),
        ({"max_tokens": 10**30}, "invalid_value", "max_tokens"),
        ({"max_completion_tokens": -5}, "invalid_value", "max_completion_tokens"),
        ({"max_tokens": 1.5}, "invalid_type", "max_tokens"),
        ({"max_tokens": True}, "invalid_type", "max_tokens"),
        ({"max_tokens": "5"}, "invalid_type", "max_tokens"),
        ({"temperature": 3}, "invalid_value", "temperature"),
        ({"temperature": "hot"}, "invalid_type", "temperature"),
        ({"top_p": 0}, "invalid_value", "top_p"),
        ({"seed": 2**63}, "invalid_value", "seed"),
        ({"stop": ["a"] * 5}, "invalid_value", "stop"),
        ({"stop": [""]}, "invalid_value", "stop"),
        ({"stop": [1]}, "invalid_type", "stop"),
        ({"stream": "yes"}, "invalid_type", "stream"),
        ({"stream_options": {"include_usage": True}}, "invalid_value", "stream_options"),
        ({"model": ""}, "invalid_value", "model"),
        ({"messages": []}, "invalid_value", "messages"),
        ({"messages": "hi"}, "invalid_type", "messages"),
        ({"messages": [{"role": "user"}]}, "missing_parameter", "messages[0].content"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "invalid_value", "messages[0].role"),
        ({"messages": [{"role": "user", "content": None}]}, "invalid_type", "messages[0].content"),
        ({"messages": [{"role": "user", "content": []}]}, "invalid_type", "messages[0].content"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
            "unsupported_content",
            "messages[0].content",
        ),
    ],
)
def test_a_wrong_field_is_named(change: dict[str, Any], code: str, param: str) -> None:
    error = refusal(json.dumps(CHAT | change).encode())
    assert (error.status, error.code, error.param) == (400, code, param)
    assert param in error.message


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "invalid_json"),
        (b'{"model":', "invalid_json"),
        (b"[" * 100_000, "invalid_json"),
        (b'{"model":"\\ud800"}', "invalid_json"),
        (b"\xff{}", "invalid_encoding"),
        (b"[]", "invalid_type"),
        (b"{}", "missing_parameter"),
        (b'{"model":"m","messages":[{"role":"user","content":"x"}],"temperature":NaN}', "invalid_value"),
    ],
)
def test_a_body_that_is_no_request_is_refused(body: bytes, code: str) -> None:
    assert refusal(body).code == code


def test_a_body_may_be_one_megabyte_and_no_more() -> None:
    body = json.dumps(CHAT).encode()
    parse_request(ChatCompletionRequest, body + b" " * (MAX_BODY_BYTES - len(body)))
    error = refusal(body + b" " * (MAX_BODY_BYTES - len(body) + 1))
    assert (error.status, error.code) == (413, "request_too_large")


def test_text_parts_are_joined_and_harmless_fields_ignored() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    body = CHAT | {"messages": [{"role": "user", "content": parts, "name": "x"}], "user": "u", "n": 1}
    request = parse_request(ChatCompletionRequest, json.dumps(body).encode())
    assert request.messages[0].content == "ab"


def test_max_completion_tokens_wins_over_its_old_name() -> None:
    body = CHAT | {"max_tokens": 5, "max_completion_tokens": 7}
    assert parse_request(ChatCompletionRequest, json.dumps(body).encode()).token_limit == 7


def test_a_parsed_request_can_be_sent_on() -> None:
    body = CHAT | {"stop": "x", "stream": True, "stream_options": {"include_usage": True}, "seed": 3}
    first = parse_request(ChatCompletionRequest, json.dumps(body).encode())
    again = json.dumps(first.model_dump(exclude_none=True)).encode()
    assert parse_request(ChatCompletionRequest, again) == first


@pytest.mark.parametrize(
    ("prompt", "parsed"), [("a", "a"), (["a"], "a"), ([1, 2], [1, 2]), ([[1, 2]], [1, 2])]
)
def test_prompts_are_text_or_tokens(prompt: Any, parsed: Any) -> None:
    body = json.dumps({"model": "m", "prompt": prompt}).encode()
    assert parse_request(CompletionRequest, body).prompt == parsed


@pytest.mark.parametrize("prompt", [None, {}, [], [True], [-1], ["a", "b"], [1.5], [[]], [[[1]]]])
def test_other_prompts_are_refused(prompt: Any) -> None:
    error = refusal(json.dumps({"model": "m", "prompt": prompt}).encode(), CompletionRequest)
    assert error.param == "prompt"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
FIELDS = [*ChatCompletionRequest.model_fields, "n", "tools", "logit_bias", "anything"]


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(changes=st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=3))
def test_any_json_is_either_understood_or_refused_in_shape(changes: dict[str, Any]) -> None:
    try:
        parse_request(ChatCompletionRequest, json.dumps(CHAT | changes).encode())
    except ApiError as error:
        assert 400 <= error.status < 500
        assert error.message


@given(body=st.binary(max_size=60))
def test_any_bytes_are_refused_in_shape(body: bytes) -> None:
    assert 400 <= refusal(body).status < 500
