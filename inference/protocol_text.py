"""The wire format of what generates nothing: embeddings (OpenAI's), tokenize and detokenize (vLLM's).

Imports pydantic only.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, FailFast, Field, model_validator
from pydantic_core import PydanticCustomError

from inference.protocol import Message

MAX_INPUTS = 256  # Texts of one embeddings request.


def _is_tokens(value: Any) -> bool:
    return bool(value) and all(type(token) is int and 0 <= token < 2**31 for token in value)


def _inputs(value: Any) -> list[str] | list[list[int]]:
    """OpenAI's four shapes as two: a list of texts, or a list of texts as token ids."""
    if isinstance(value, str) or (isinstance(value, list) and value and type(value[0]) is int):
        value = [value]
    if not isinstance(value, list) or not value:
        raise PydanticCustomError(
            "invalid_type", "must be a string, a list of token ids, or a non-empty list of either"
        )
    if len(value) > MAX_INPUTS:
        raise PydanticCustomError(
            "invalid_value", "holds more than {limit} texts; send several requests", {"limit": MAX_INPUTS}
        )
    if all(isinstance(text, str) for text in value):
        if not all(value):
            raise PydanticCustomError("invalid_value", "no text may be empty")
        return value
    if all(isinstance(tokens, list) and _is_tokens(tokens) for tokens in value):
        return value
    raise PydanticCustomError(
        "invalid_type", "must hold texts only, or non-empty lists of token ids from 0 only"
    )


class EmbeddingRequest(BaseModel):
    """POST /v1/embeddings. `input` is always a list once validated; unknown fields are ignored.

    `truncate_prompt_tokens` is vLLM's: keep so many tokens of each text, -1 for as many as fit.
    """

    model_config = ConfigDict(strict=True, extra="ignore")

    model: Annotated[str, Field(min_length=1, max_length=200)]
    input: Annotated[list[str] | list[list[int]], BeforeValidator(_inputs)]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    truncate_prompt_tokens: Annotated[int, Field(ge=-1, le=1_000_000)] | None = None


class TokenizeRequest(BaseModel):
    """POST /tokenize: the tokens of `prompt`, or of `messages` as the model's template writes them.

    `add_special_tokens` is true for a prompt and false for messages, whose template has its own.
    """

    model_config = ConfigDict(strict=True, extra="ignore")

    model: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    prompt: str | None = None
    messages: Annotated[list[Message], Field(min_length=1, max_length=4096)] | None = None
    add_special_tokens: bool | None = None
    return_token_strs: bool | None = None

    @model_validator(mode="after")
    def _prompt_or_messages(self) -> TokenizeRequest:
        if (self.prompt is None) == (self.messages is None):
            raise PydanticCustomError(
                "invalid_value", "{field} or messages is needed, and only one of them", {"field": "prompt"}
            )
        if self.messages is not None and self.add_special_tokens:
            raise PydanticCustomError(
                "unsupported_parameter",
                "{field} is not supported with messages, whose template adds its own; leave it out",
                {"field": "add_special_tokens"},
            )
        return self


class DetokenizeRequest(BaseModel):
    """POST /detokenize: the text of `tokens`."""

    model_config = ConfigDict(strict=True, extra="ignore")

    model: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    # Fails at the first wrong one: to list hundreds of thousands takes seconds.
    tokens: Annotated[list[Annotated[int, Field(ge=0, lt=2**31)]], Field(max_length=1_000_000), FailFast()]
