"""The OpenAI-shaped wire format: what a request may hold, and what an error looks like.

Used by the inference service and by the console's own API, so both refuse the same things in the
same words. Imports pydantic only.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails, PydanticCustomError

MAX_BODY_BYTES = 1_000_000
MAX_TOKENS_BOUND = 1_000_000  # No context is longer; anything above is a mistake, not a wish.
MAX_STOP_STRINGS = 4
MAX_STOP_CHARACTERS = 256


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


# --- Content -----------------------------------------------------------------------------------


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


class Message(BaseModel):
    """One turn. `content` is always plain text once validated; list-of-parts input is joined."""

    model_config = ConfigDict(strict=True, extra="ignore")

    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[str, BeforeValidator(_content_to_text)]


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


# Fields that would change the answer if we silently ignored them: refused unless they hold one of
# the values that mean "as usual".
_UNSUPPORTED: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "best_of": (1,),
    "echo": (False,),
    "suffix": ("",),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "logit_bias": ({},),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "audio": (),
    "web_search_options": (),
}


class StreamOptions(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore")

    include_usage: bool = False


class _GenerationRequest(BaseModel):
    """What chat and plain completions share. Unknown fields are ignored; see _UNSUPPORTED."""

    model_config = ConfigDict(strict=True, extra="ignore")

    model: Annotated[str, Field(min_length=1, max_length=200)]
    max_tokens: Annotated[int, Field(ge=1, le=MAX_TOKENS_BOUND)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] | None = None
    top_k: Annotated[int, Field(ge=-1, le=MAX_TOKENS_BOUND)] | None = None  # -1 and 0 mean all tokens.
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stop: Annotated[list[str], BeforeValidator(_stop_to_list)] = []
    frequency_penalty: Annotated[float, Field(ge=-2, le=2, allow_inf_nan=False)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2, allow_inf_nan=False)] | None = None
    repetition_penalty: Annotated[float, Field(gt=0, le=2, allow_inf_nan=False)] | None = None
    ignore_eos: bool | None = None  # For benchmarks: run to max_tokens whatever the model says.
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    @model_validator(mode="before")
    @classmethod
    def _refuse_unsupported(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            raise PydanticCustomError("invalid_type", "the body must be a JSON object")
        for name, usual in _UNSUPPORTED.items():
            value = data.get(name)
            # `1 == True` in Python, so types are compared too.
            if value is not None and not any(value == u and type(value) is type(u) for u in usual):
                raise PydanticCustomError(
                    "unsupported_parameter",
                    "{field} is not supported with this value; leave it out",
                    {"field": name},
                )
        return data

    @model_validator(mode="after")
    def _stream_options_need_stream(self) -> _GenerationRequest:
        if self.stream_options is not None and not self.stream:
            raise PydanticCustomError(
                "invalid_value", "{field} is only allowed when stream is true", {"field": "stream_options"}
            )
        return self

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

    @property
    def token_limit(self) -> int | None:
        """The most new tokens asked for; None leaves it to the context."""
        return self.max_completion_tokens if self.max_completion_tokens is not None else self.max_tokens


def _prompt_to_one(value: Any) -> Any:
    """OpenAI allows a batch of prompts; a batch of one is accepted, a larger one refused."""
    if isinstance(value, str):
        return value
    if not isinstance(value, list) or not value:
        raise PydanticCustomError("invalid_type", "must be a string or a non-empty list of token ids")
    if isinstance(value[0], (str, list)):
        if len(value) > 1:
            raise PydanticCustomError("unsupported_parameter", "holds several prompts; send one at a time")
        value = value[0]
    if isinstance(value, str) or (value and all(type(t) is int and 0 <= t < 2**31 for t in value)):
        return value
    raise PydanticCustomError("invalid_type", "must be a string or a non-empty list of token ids")


class CompletionRequest(_GenerationRequest):
    """POST /v1/completions. `prompt` is text, or token ids."""

    prompt: Annotated[str | list[int], BeforeValidator(_prompt_to_one)]

    @property
    def token_limit(self) -> int | None:
        return self.max_tokens


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
    param = (problem.get("ctx") or {}).get("field") or _path(problem["loc"])
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
