"""The OpenAI-shaped wire format: what a request may hold, and what an error looks like.

Used by the inference service and by the console's own API, so both refuse the same things in the
same words. Imports pydantic only.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails, PydanticCustomError, from_json

MAX_BODY_BYTES = 1_000_000
MAX_TOKENS_BOUND = 1_000_000  # No context is longer; anything above is a mistake, not a wish.
MAX_STOP_STRINGS = 4
MAX_STOP_CHARACTERS = 256
MAX_STOP_TOKENS = 64
MAX_LOGIT_BIASES = 1024
MAX_TOP_LOGPROBS = 20
MAX_CHOICES = 8  # `n`: answers to one prompt.
MAX_ANSWERS = 32  # Prompts × `n`: what one request may put in the waiting line.
MAX_TOOLS = 128
MAX_BASES = 8  # Knowledge bases that one message is asked of.

Identifier = Annotated[str, Field(pattern=r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$")]


class ApiError(Exception):
    """An error an API caller sees, in OpenAI's shape.

    `status` is the HTTP status, `code` a stable word programs may test, `type` OpenAI's family
    ("invalid_request_error", "authentication_error", "rate_limit_error", "server_error"),
    `message` says what to do next, `param` names the offending field. `retry_after` is in seconds.
    """

    def __init__(
        self,
        status: int,
        code: str,
        type: str,
        message: str,
        param: str | None = None,
        *,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.type = type
        self.message = message
        self.param = param
        self.retry_after = retry_after

    def body(self) -> dict[str, Any]:
        return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}

    def headers(self) -> dict[str, str]:
        return {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}


def invalid_request(code: str, message: str, param: str | None = None, *, status: int = 400) -> ApiError:
    return ApiError(status, code, "invalid_request_error", message, param)


def body_too_large() -> ApiError:
    return invalid_request(
        "request_too_large",
        f"The request body is larger than {MAX_BODY_BYTES:,} bytes. Send a shorter conversation.",
        status=413,
    )


def model_not_found(name: str) -> ApiError:
    return invalid_request(
        "model_not_found",
        f"The model {name!r} does not exist. GET /v1/models lists the models you can use.",
        "model",
        status=404,
    )


# --- Messages ----------------------------------------------------------------------------------


def _content_to_text(value: Any) -> str:
    """Reduce OpenAI's content (a string, or a list of parts) to its text."""
    if isinstance(value, str):
        return value
    if not isinstance(value, list) or not value:
        raise PydanticCustomError("invalid_type", "must be a string or a non-empty list of text parts")
    return "".join(_part_to_text(part) for part in value)


def _part_to_text(part: Any) -> str:
    if not isinstance(part, dict) or not isinstance(part.get("type"), str):
        raise PydanticCustomError(
            "invalid_type", 'each part must be an object such as {"type":"text","text":"…"}'
        )
    if part["type"] != "text":
        raise PydanticCustomError(
            "unsupported_content",
            "holds a part of type {kind}, which this model cannot read; send text parts only",
            {"kind": part["type"][:40]},
        )
    if not isinstance(part.get("text"), str):
        raise PydanticCustomError("invalid_type", "a text part needs a string under 'text'")
    return part["text"]


FunctionName = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore")


class FunctionCall(_Part):
    """What was called: `arguments` is the text of a JSON object ("" where there are none)."""

    name: FunctionName
    arguments: str

    @field_validator("arguments")
    @classmethod
    def _is_an_object(cls, value: str) -> str:
        try:
            # Nested no deeper than a body may be: templates walk through it.
            understood = isinstance(from_json(value or "{}"), dict)
        except ValueError:
            understood = False
        if not understood:
            raise PydanticCustomError("invalid_value", "must be the text of a JSON object")
        return value


class ToolCall(_Part):
    """One call in an assistant's earlier turn."""

    id: Annotated[str, Field(min_length=1, max_length=200)]
    type: Literal["function"]
    function: FunctionCall


class Message(_Part):
    """One turn. `content` is plain text once validated (list-of-parts input is joined), or None in an
    assistant's turn that only called tools. `reasoning_content` is what an assistant thought aloud.
    """

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Annotated[str, BeforeValidator(_content_to_text)] | None = None
    reasoning_content: str | None = None
    tool_calls: Annotated[list[ToolCall], Field(min_length=1, max_length=MAX_TOOLS)] | None = None
    tool_call_id: Annotated[str, Field(min_length=1, max_length=200)] | None = None

    @model_validator(mode="after")
    def _fits_its_role(self) -> Message:
        if self.tool_calls is not None and self.role != "assistant":
            raise _invalid("tool_calls", "{field} belongs to messages of the role assistant")
        if self.content is None and self.tool_calls is None:
            kind = "invalid_type" if "content" in self.model_fields_set else "missing"
            raise PydanticCustomError(kind, "{field} must be text", {"field": "content"})
        if self.role == "tool" and self.tool_call_id is None:
            raise PydanticCustomError("missing", "{field} is required", {"field": "tool_call_id"})
        return self


def _invalid(field: str, reason: str, **details: Any) -> PydanticCustomError:
    return PydanticCustomError("invalid_value", reason, {"field": field, **details})


# --- Tools and response formats ----------------------------------------------------------------


class Function(_Part):
    """A function that the model may call; `parameters` is a JSON schema."""

    name: FunctionName
    description: str | None = None
    parameters: dict[str, Any] | None = None


class Tool(_Part):
    type: Literal["function"]
    function: Function


def _tool_choice(value: Any) -> Any:
    if value is None or (isinstance(value, str) and value in ("none", "auto", "required")):
        return value
    if isinstance(value, dict) and value.get("type") == "function":
        function = value.get("function")
        if isinstance(function, dict) and isinstance(function.get("name"), str):
            return {"type": "function", "function": {"name": function["name"]}}
    raise PydanticCustomError(
        "invalid_value",
        'must be "none", "auto", "required" or an object such as '
        '{{"type":"function","function":{{"name":"…"}}}}',
    )


class JsonSchema(_Part):
    """`strict` is accepted and always the case: the answer keeps to the schema."""

    model_config = ConfigDict(strict=True, extra="ignore", serialize_by_alias=True)

    name: FunctionName
    json_schema: Annotated[dict[str, Any], Field(alias="schema")]
    description: str | None = None
    strict: bool | None = None


class ResponseFormat(_Part):
    """`json_object` is any JSON object, `json_schema` JSON that keeps to a schema."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    @model_validator(mode="after")
    def _has_its_schema(self) -> ResponseFormat:
        if self.type == "json_schema" and self.json_schema is None:
            raise PydanticCustomError("missing", "{field} is required", {"field": "json_schema"})
        return self


# --- Requests ----------------------------------------------------------------------------------


def _stop_to_list(value: Any) -> list[str]:
    if value is None:
        return []
    stops = [value] if isinstance(value, str) else value
    if not isinstance(stops, list) or not all(isinstance(stop, str) for stop in stops):
        raise PydanticCustomError("invalid_type", "must be a string or a list of strings")
    if len(stops) > MAX_STOP_STRINGS:
        raise PydanticCustomError(
            "invalid_value", "holds more than {limit} strings", {"limit": MAX_STOP_STRINGS}
        )
    if not all(1 <= len(stop) <= MAX_STOP_CHARACTERS for stop in stops):
        raise PydanticCustomError(
            "invalid_value", "each string must have 1 to {limit} characters", {"limit": MAX_STOP_CHARACTERS}
        )
    return stops


_TOKEN_ID = re.compile(r"[0-9]{1,9}")


def _logit_bias(value: Any) -> Any:
    if value is None:
        return None
    if not isinstance(value, dict) or not all(type(bias) in (int, float) for bias in value.values()):
        raise PydanticCustomError("invalid_type", "must map token ids to numbers")
    if not all(_TOKEN_ID.fullmatch(str(token)) for token in value):
        raise PydanticCustomError("invalid_value", 'each key must be a token id, such as "50256"')
    if len(value) > MAX_LOGIT_BIASES:
        raise PydanticCustomError(
            "invalid_value", "holds more than {limit} token ids", {"limit": MAX_LOGIT_BIASES}
        )
    if not all(-100 <= bias <= 100 for bias in value.values()):
        raise PydanticCustomError("invalid_value", "each bias must be between -100 and 100")
    return {str(token): float(bias) for token, bias in value.items()}


# Fields that would change the answer if we silently ignored them: refused unless they hold one of
# the values that mean "as usual".
_UNSUPPORTED: dict[str, tuple[Any, ...]] = {
    "echo": (False,),
    "suffix": ("",),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "modalities": (["text"],),
    "audio": (),
    "web_search_options": (),
}
_CHAT_ONLY: dict[str, tuple[Any, ...]] = {
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "response_format": ({"type": "text"},),
}


def _refuse(data: Any, unsupported: dict[str, tuple[Any, ...]]) -> None:
    if not isinstance(data, dict):
        raise PydanticCustomError("invalid_type", "the body must be a JSON object")
    for name, usual in unsupported.items():
        value = data.get(name)
        # `1 == True` in Python, so types are compared too.
        if value is not None and not any(value == u and type(value) is type(u) for u in usual):
            raise PydanticCustomError(
                "unsupported_parameter",
                "{field} is not supported with this value; leave it out",
                {"field": name},
            )


class StreamOptions(_Part):
    include_usage: bool = False


Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
TokenId = Annotated[int, Field(ge=0, lt=2**31)]


class _GenerationRequest(BaseModel):
    """What chat and plain completions share. Unknown fields are ignored; see _UNSUPPORTED."""

    model_config = ConfigDict(strict=True, extra="ignore")

    model: Annotated[str, Field(min_length=1, max_length=200)]
    n: Annotated[int, Field(ge=1, le=MAX_CHOICES)] | None = None
    best_of: int | None = None
    max_tokens: Annotated[int, Field(ge=1, le=MAX_TOKENS_BOUND)] | None = None
    min_tokens: Annotated[int, Field(ge=0, le=MAX_TOKENS_BOUND)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] | None = None
    top_k: Annotated[int, Field(ge=-1, le=MAX_TOKENS_BOUND)] | None = None  # -1 and 0 mean all tokens.
    min_p: Fraction | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stop: Annotated[list[str], BeforeValidator(_stop_to_list)] = []
    stop_token_ids: Annotated[list[TokenId], Field(max_length=MAX_STOP_TOKENS)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2, allow_inf_nan=False)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2, allow_inf_nan=False)] | None = None
    repetition_penalty: Annotated[float, Field(gt=0, le=2, allow_inf_nan=False)] | None = None
    logit_bias: Annotated[dict[str, float] | None, BeforeValidator(_logit_bias)] = None
    ignore_eos: bool | None = None  # For benchmarks: run to max_tokens whatever the model says.
    priority: Annotated[int, Field(ge=-(2**31), lt=2**31)] | None = None  # A lower one runs first.
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    @model_validator(mode="before")
    @classmethod
    def _refuse_unsupported(cls, data: Any) -> Any:
        _refuse(data, _UNSUPPORTED)
        return data

    @model_validator(mode="after")
    def _fields_agree(self) -> _GenerationRequest:
        if self.stream_options is not None and not self.stream:
            raise _invalid("stream_options", "{field} is only allowed when stream is true")
        if self.best_of not in (None, 1, self.choices):
            raise PydanticCustomError(
                "unsupported_parameter", "{field} is not supported unless it equals n", {"field": "best_of"}
            )
        if self.min_tokens and self.token_limit is not None and self.min_tokens > self.token_limit:
            raise _invalid("min_tokens", "{field} is more than the answer may have")
        return self

    @property
    def token_limit(self) -> int | None:
        """The most new tokens asked for; None leaves it to the context."""
        return self.max_tokens

    @property
    def choices(self) -> int:
        return self.n or 1

    @property
    def wants_stream(self) -> bool:
        return bool(self.stream)

    @property
    def wants_usage(self) -> bool:
        return self.stream_options is not None and self.stream_options.include_usage


class ChatCompletionRequest(_GenerationRequest):
    """POST /v1/chat/completions."""

    messages: Annotated[list[Message], Field(min_length=1, max_length=4096)]
    max_completion_tokens: Annotated[int, Field(ge=1, le=MAX_TOKENS_BOUND)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MAX_TOP_LOGPROBS)] | None = None
    tools: Annotated[list[Tool], Field(max_length=MAX_TOOLS)] | None = None
    tool_choice: Annotated[str | dict[str, Any] | None, BeforeValidator(_tool_choice)] = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None
    # Custos's own: the knowledge bases that the last message is asked of.
    knowledge: Annotated[list[Identifier], Field(min_length=1, max_length=MAX_BASES)] | None = None

    @model_validator(mode="after")
    def _chat_fields_agree(self) -> ChatCompletionRequest:
        if self.top_logprobs and not self.logprobs:
            raise _invalid("top_logprobs", "{field} is only allowed when logprobs is true")
        names = [tool.function.name for tool in self.tools or ()]
        if len(set(names)) < len(names):
            raise _invalid("tools", "{field} holds two functions of the same name")
        if self.must_call and not names:
            raise _invalid("tool_choice", "{field} asks for a call, but there are no tools")
        if self.named_tool is not None and self.named_tool not in names:
            raise _invalid("tool_choice", "{field} names a function that is not among the tools")
        if self.knowledge and (self.tools or self.choices > 1 or self.messages[-1].role != "user"):
            # What a document says must not reach a tool.
            raise _invalid("knowledge", "{field} needs a last message of the user, no tools, and one choice")
        if self.wants_json and self.usable_tools:
            raise PydanticCustomError(
                "unsupported_parameter",
                '{field} is not supported together with tools; set tool_choice to "none"',
                {"field": "response_format"},
            )
        return self

    @property
    def token_limit(self) -> int | None:
        return self.max_completion_tokens if self.max_completion_tokens is not None else self.max_tokens

    @property
    def num_logprobs(self) -> int | None:
        """None for no log probabilities, else how many of the likeliest tokens beside the chosen one."""
        return (self.top_logprobs or 0) if self.logprobs else None

    @property
    def usable_tools(self) -> list[Tool]:
        """The tools the model may call this time."""
        return [] if self.tool_choice == "none" else self.tools or []

    @property
    def named_tool(self) -> str | None:
        """The one function that must be called."""
        return self.tool_choice["function"]["name"] if isinstance(self.tool_choice, dict) else None

    @property
    def must_call(self) -> bool:
        return self.tool_choice == "required" or isinstance(self.tool_choice, dict)

    @property
    def wants_json(self) -> bool:
        return self.response_format is not None and self.response_format.type != "text"


def _prompts(value: Any) -> Any:
    """Text, token ids, or a list of either; a list of one is the same as its element."""
    if isinstance(value, list) and value and isinstance(value[0], (str, list)):
        if len(value) > MAX_ANSWERS:
            raise PydanticCustomError(
                "invalid_value", "holds more than {limit} prompts", {"limit": MAX_ANSWERS}
            )
        if len(value) > 1 and all(type(prompt) is type(value[0]) and _is_prompt(prompt) for prompt in value):
            return value
        value = value[0] if len(value) == 1 else None
    if _is_prompt(value):
        return value
    raise PydanticCustomError(
        "invalid_type", "must be a string, a non-empty list of token ids, or a list of such prompts"
    )


def _is_prompt(value: Any) -> bool:
    if isinstance(value, str):
        return True
    return isinstance(value, list) and bool(value) and all(type(t) is int and 0 <= t < 2**31 for t in value)


class CompletionRequest(_GenerationRequest):
    """POST /v1/completions. `prompt` is text or token ids, or several of one kind."""

    prompt: Annotated[str | list[int] | list[str] | list[list[int]], BeforeValidator(_prompts)]
    logprobs: Annotated[int, Field(ge=0, le=MAX_TOP_LOGPROBS)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _refuse_chat_only(cls, data: Any) -> Any:
        _refuse(data, _CHAT_ONLY)
        return data

    @model_validator(mode="after")
    def _is_not_too_much(self) -> CompletionRequest:
        if len(self.prompts) * self.choices > MAX_ANSWERS:
            raise _invalid("n", "{field} times prompts is more than {limit}", limit=MAX_ANSWERS)
        return self

    @property
    def prompts(self) -> list[str | list[int]]:
        """Each prompt, also when there is only one."""
        if isinstance(self.prompt, str) or isinstance(self.prompt[0], int):
            return [self.prompt]
        return list(self.prompt)

    @property
    def num_logprobs(self) -> int | None:
        return self.logprobs


RequestType = TypeVar("RequestType", bound=BaseModel)


def parse_request(kind: type[RequestType], body: bytes) -> RequestType:
    """Read a request body into `kind`; raises ApiError (400, or 413 above MAX_BODY_BYTES)."""
    if len(body) > MAX_BODY_BYTES:
        raise body_too_large()
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise invalid_request(
            "invalid_encoding", f"The body is not valid UTF-8 (at byte {error.start}). Send UTF-8 JSON."
        ) from None
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        raise _from_validation(error.errors(include_url=False, include_input=False)[0]) from None


def _from_validation(problem: ErrorDetails) -> ApiError:
    """The first pydantic problem, as OpenAI would say it."""
    kind, reason = problem["type"], problem["msg"]
    if kind == "json_invalid":
        return invalid_request("invalid_json", f"The body is not valid JSON: {problem['ctx']['error']}.")
    field = (problem.get("ctx") or {}).get("field")  # From a check of several fields at once.
    param = _path((*problem["loc"], *([field] if field else [])))
    if kind == "missing":
        return invalid_request("missing_parameter", f"The field {param} is required.", param)
    code = kind if kind in ("unsupported_parameter", "unsupported_content", "invalid_type") else ""
    if not code:
        code = "invalid_type" if kind.endswith("_type") else "invalid_value"
    subject = "" if param is None or reason.startswith(f"{param} ") else f"{param}: "
    return invalid_request(code, f"{subject}{reason}.", param)


def _path(location: tuple[int | str, ...]) -> str | None:
    """('messages', 0, 'content') → messages[0].content; pydantic's own union tags are dropped."""
    path = ""
    for step in location:
        if isinstance(step, int):
            path += f"[{step}]"
        elif step.isidentifier():
            path += f".{step}" if path else step
    return path or None
