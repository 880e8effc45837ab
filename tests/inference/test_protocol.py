"""What a request may hold, and the words in which anything else is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from inference.protocol import (
    MAX_BODY_BYTES,
    ApiError,
    ChatCompletionRequest,
    CompletionRequest,
    parse_request,
)
from inference.protocol_text import DetokenizeRequest

CHAT: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
JSON_OBJECT = {"type": "json_object"}
CALLED = "messages[0].tool_calls[0].function.arguments"


def tool(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": {"type": "object"}}}


def named(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name}}


def called(arguments: str) -> dict[str, Any]:
    call = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": arguments}}
    return {"role": "assistant", "content": None, "tool_calls": [call]}


def refusal(body: bytes, kind: Any = ChatCompletionRequest) -> ApiError:
    with pytest.raises(ApiError) as refused:
        parse_request(kind, body)
    error = refused.value
    assert set(error.body()["error"]) == {"message", "type", "param", "code"}
    return error


@pytest.mark.parametrize(
    ("change", "code", "param"),
    [
        ({"n": 9}, "invalid_value", "n"),
        ({"n": 0}, "invalid_value", "n"),
        ({"n": True}, "invalid_type", "n"),
        ({"n": 2, "best_of": 3}, "unsupported_parameter", "best_of"),
        ({"echo": True}, "unsupported_parameter", "echo"),
        ({"functions": [{}]}, "unsupported_parameter", "functions"),
        ({"logprobs": 1}, "invalid_type", "logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "invalid_value", "top_logprobs"),
        ({"top_logprobs": 2}, "invalid_value", "top_logprobs"),
        ({"logit_bias": {"cat": 1}}, "invalid_value", "logit_bias"),
        ({"logit_bias": {"1": 101}}, "invalid_value", "logit_bias"),
        ({"logit_bias": {"1": "2"}}, "invalid_type", "logit_bias"),
        ({"logit_bias": {str(i): 1 for i in range(1025)}}, "invalid_value", "logit_bias"),
        ({"min_p": 1.1}, "invalid_value", "min_p"),
        ({"stop_token_ids": [-1]}, "invalid_value", "stop_token_ids[0]"),
        ({"stop_token_ids": [1] * 65}, "invalid_value", "stop_token_ids"),
        ({"min_tokens": 3, "max_tokens": 2}, "invalid_value", "min_tokens"),
        ({"priority": 0.5}, "invalid_type", "priority"),
        ({"tools": [{}]}, "missing_parameter", "tools[0].type"),
        ({"tools": [tool("a b")]}, "invalid_value", "tools[0].function.name"),
        ({"tools": [tool("f"), tool("f")]}, "invalid_value", "tools"),
        ({"tools": [tool("f")] * 129}, "invalid_value", "tools"),
        ({"tools": [tool("f")], "tool_choice": "any"}, "invalid_value", "tool_choice"),
        ({"tools": [tool("f")], "tool_choice": named("g")}, "invalid_value", "tool_choice"),
        ({"tool_choice": "required"}, "invalid_value", "tool_choice"),
        ({"tools": [tool("f")], "response_format": JSON_OBJECT}, "unsupported_parameter", "response_format"),
        ({"response_format": {"type": "xml"}}, "invalid_value", "response_format.type"),
        (
            {"response_format": {"type": "json_schema"}},
            "missing_parameter",
            "response_format.json_schema",
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}},
            "missing_parameter",
            "response_format.json_schema.schema",
        ),
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
        ({"messages": [{"role": "judge", "content": "x"}]}, "invalid_value", "messages[0].role"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "missing_parameter", "messages[0].tool_call_id"),
        ({"messages": [called("[]")]}, "invalid_value", "messages[0].tool_calls[0].function.arguments"),
        ({"messages": [called('{"a":' * 300 + "1" + "}" * 300)]}, "invalid_value", CALLED),
        ({"messages": [called('{"a":1' + "0" * 5000 + "}")]}, "invalid_value", CALLED),
        ({"messages": [called("{")]}, "invalid_value", "messages[0].tool_calls[0].function.arguments"),
        ({"messages": [called("{}") | {"role": "user"}]}, "invalid_value", "messages[0].tool_calls"),
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


def test_of_many_wrong_tokens_the_first_is_named_and_the_others_not_looked_at() -> None:
    body = json.dumps({"tokens": ["a"] * 100_000}).encode()
    with pytest.raises(ValidationError) as caught:
        DetokenizeRequest.model_validate_json(body)
    assert caught.value.error_count() == 1


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


@pytest.mark.parametrize(
    "change",
    [
        {"stop": "x", "stream": True, "stream_options": {"include_usage": True}, "seed": 3, "n": 2},
        {"logit_bias": {"5": -100, "7": 0.5}, "logprobs": True, "top_logprobs": 2, "best_of": 1},
        {"tools": [tool("f")], "tool_choice": named("f"), "parallel_tool_calls": False},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"a": 1}}}},
        {"messages": [called(""), {"role": "tool", "tool_call_id": "call_1", "content": "4"}]},
    ],
)
def test_a_parsed_request_can_be_sent_on(change: dict[str, Any]) -> None:
    first = parse_request(ChatCompletionRequest, json.dumps(CHAT | change).encode())
    again = json.dumps(first.model_dump(exclude_none=True, exclude_unset=True)).encode()
    assert parse_request(ChatCompletionRequest, again) == first
    # Nothing that was understood is lost on the way.
    for name, value in change.items():
        assert name in ("stop", "messages", "tools") or json.loads(again)[name] == value


@pytest.mark.parametrize("content", [{"content": None}, {}])
def test_a_turn_that_only_called_tools_needs_no_content(content: dict[str, Any]) -> None:
    message = {name: value for name, value in called("{}").items() if name != "content"} | content
    request = parse_request(ChatCompletionRequest, json.dumps(CHAT | {"messages": [message]}).encode())
    assert request.messages[0].content is None


def test_tools_are_set_aside_when_none_may_be_called() -> None:
    body = CHAT | {"tools": [tool("f")], "tool_choice": "none", "response_format": JSON_OBJECT}
    request = parse_request(ChatCompletionRequest, json.dumps(body).encode())
    assert (request.usable_tools, request.must_call, request.wants_json) == ([], False, True)


@pytest.mark.parametrize(
    ("prompt", "prompts"),
    [
        ("a", ["a"]),
        (["a"], ["a"]),
        (["a", "b"], ["a", "b"]),
        ([1, 2], [[1, 2]]),
        ([[1, 2]], [[1, 2]]),
        ([[1, 2], [3]], [[1, 2], [3]]),
    ],
)
def test_prompts_are_text_or_tokens(prompt: Any, prompts: Any) -> None:
    body = json.dumps({"model": "m", "prompt": prompt}).encode()
    assert parse_request(CompletionRequest, body).prompts == prompts


@pytest.mark.parametrize(("prompts", "n"), [(33, 1), (17, 2)])
def test_one_request_has_a_bounded_number_of_answers(prompts: int, n: int) -> None:
    error = refusal(json.dumps({"model": "m", "prompt": ["a"] * prompts, "n": n}).encode(), CompletionRequest)
    assert error.code == "invalid_value" and "32" in error.message


@pytest.mark.parametrize("field", ["tools", "response_format"])
def test_plain_completions_have_no_chat_fields(field: str) -> None:
    value = {"tools": [tool("f")], "response_format": JSON_OBJECT}[field]
    error = refusal(json.dumps({"model": "m", "prompt": "a", field: value}).encode(), CompletionRequest)
    assert (error.code, error.param) == ("unsupported_parameter", field)


@pytest.mark.parametrize("prompt", [None, {}, [], [True], [-1], ["a", [1]], [[1], []], [1.5], [[]], [[[1]]]])
def test_other_prompts_are_refused(prompt: Any) -> None:
    error = refusal(json.dumps({"model": "m", "prompt": prompt}).encode(), CompletionRequest)
    assert error.param == "prompt"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
FIELDS = [*ChatCompletionRequest.model_fields, "functions", "anything"]


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
