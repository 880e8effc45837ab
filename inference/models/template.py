"""From a conversation to prompt tokens, by the model's own chat template.

The template is code from the model folder: transformers renders it in jinja's
ImmutableSandboxedEnvironment, so it can spoil its own output and nothing else.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from inference.protocol import ApiError, invalid_request

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# Tokens that frame tools in a prompt. Tokenizers call them ordinary, yet what a tool returns must not
# be able to end its own frame.
_FRAMES = {"<tools>", "</tools>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>"}

# What OpenAI means by a function without parameters.
NO_PARAMETERS: dict[str, Any] = {"type": "object", "properties": {}, "additionalProperties": False}

Mask = Callable[[str], str]

_LONG = (
    10_000  # Characters; some take 10 ms. Handing them to tokenizers' own threads takes a fraction of one.
)


@dataclass(frozen=True, slots=True)
class _CallStyle:
    """How a template wants an assistant's turn that calls tools: the content of one without text
    (None: transformers leaves it out), and the arguments as an object or as JSON text.
    """

    no_content: str | None
    arguments_as_text: bool


_CALL_STYLES = (_CallStyle("", False), _CallStyle(None, False), _CallStyle(None, True), _CallStyle("", True))
_PROBE = "custos_probe"
_PROBE_USER = {"role": "user", "content": "?"}
_PROBE_TOOL = {"type": "function", "function": {"name": _PROBE, "description": "", "parameters": {}}}
_PROBE_CALL = {
    "id": "call00000",
    "type": "function",
    "function": {"name": "f", "arguments": f'{{"a":"{_PROBE}"}}'},
}


class ChatTemplate:
    """Renders messages and encodes them. Safe to call from several threads at once."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        # The bare Rust tokenizer: encoding with it changes no state, unlike transformers' wrapper.
        self._encoder = tokenizer.backend_tokenizer
        added = self._encoder.get_added_tokens_decoder().values()
        self._added = {token.content for token in added if token.content}
        control = {token.content for token in added if token.special and token.content}
        control |= set(tokenizer.all_special_tokens) | (_FRAMES & self._added)
        ordered = sorted(control, key=len, reverse=True)
        self._control = re.compile("|".join(map(re.escape, ordered))) if ordered else None
        self._literally: dict[str, list[int]] = {}  # By control token.

    # --- What the template can do ---------------------------------------------------------------

    @cached_property
    def source(self) -> str:
        """The template's text; of a model with several, all of them; "" without any."""
        template = self._tokenizer.chat_template or ""
        return "\n".join(template.values()) if isinstance(template, dict) else str(template)

    @cached_property
    def takes_tools(self) -> bool:
        """Whether the model gets to see tools at all."""
        return _PROBE in self._try([_PROBE_USER], tools=[_PROBE_TOOL])

    @cached_property
    def thinks(self) -> bool:
        """Whether the model's answers may hold <think>…</think>."""
        return "</think>" in self.source or {"<think>", "</think>"} <= self._added

    def opens_thinking(self, prompt: Sequence[int]) -> bool:
        """Whether the prompt ends inside <think>, so that the answer begins there."""
        end = self._encoder.decode(list(prompt[-8:]), skip_special_tokens=False)
        return self.thinks and bool(end.rstrip().endswith("<think>"))

    @cached_property
    def _call_style(self) -> _CallStyle | None:
        """How earlier calls are written, found out by trying; None when the template leaves them out."""
        for style in _CALL_STYLES:
            turn = {"role": "assistant", "content": None, "tool_calls": [_PROBE_CALL]}
            if _PROBE in self._try([_PROBE_USER, self._message(turn, str, style)]):
                return style
        return None

    def _try(self, messages: list[dict[str, Any]], tools: list[dict[str, Any]] | None = None) -> str:
        try:
            return self._render(messages, tools)
        except ApiError:
            return ""

    # --- Encoding -------------------------------------------------------------------------------

    def encode_text(self, text: str, *, special: bool = True) -> list[int]:
        """A plain completion's prompt: with the model's own start token, if it has one and is `special`."""
        return encode(self._encoder, text, special=special)

    def encode_chat(
        self, messages: Sequence[dict[str, Any]], tools: Sequence[dict[str, Any]] = ()
    ) -> list[int]:
        """The prompt for the assistant's next turn. Raises ApiError.

        `messages` and `tools` are protocol.Message and protocol.Tool as dictionaries. Control tokens
        written in them ("<|im_end|>…") become ordinary characters, so that nobody can forge a system
        turn by typing one, or by having a tool return one.
        """
        nonce = secrets.token_hex(8)

        def mask(text: str) -> str:
            """Stand a marker in for each control token, which survives the template unchanged."""
            if self._control is None:
                return text
            return self._control.sub(lambda found: f"\ue000{nonce}:{found[0].encode().hex()}\ue001", text)

        style = self._call_style if any(message.get("tool_calls") for message in messages) else None
        shown = [self._message(message, mask, style) for message in messages]
        rendered = self._render(shown, _masked([_tool(tool) for tool in tools], mask) if tools else None)
        ids: list[int] = []
        for index, part in enumerate(re.split(rf"\ue000{nonce}:([0-9a-f]*)\ue001", rendered)):
            if index % 2 == 0:
                ids += self.encode_text(part, special=False) if part else []
            else:
                ids += self._encode_literally(bytes.fromhex(part).decode())
        return ids

    def _message(self, message: dict[str, Any], mask: Mask, style: _CallStyle | None) -> dict[str, Any]:
        """A turn as templates expect it."""
        role, content = message["role"], message.get("content")
        if role == "developer" and "developer" not in self.source:
            role = "system"  # OpenAI's newer word for it, which most templates would leave out.
        shown = {"role": role, "content": None if content is None else mask(content)}
        for name in ("reasoning_content", "tool_call_id"):
            if message.get(name) is not None:
                shown[name] = mask(message[name])
        if message.get("tool_calls"):
            if style is None:
                raise invalid_request(
                    "unsupported_parameter",
                    "This model has no place for tool calls in a conversation.",
                    "messages",
                )
            shown["tool_calls"] = [_call(call, mask, style) for call in message["tool_calls"]]
            shown["content"] = shown["content"] or style.no_content
        return shown

    def _encode_literally(self, text: str) -> list[int]:
        """A control token's text, token by character: no single character is a control token.

        Remembered, as a message may hold nothing else, a hundred thousand times.
        """
        found = self._literally.get(text)
        if found is None:
            characters = (self.encode_text(character, special=False) for character in text)
            found = self._literally[text] = [token for tokens in characters for token in tokens]
        return found

    def _render(self, messages: list[dict[str, Any]], tools: list[dict[str, Any]] | None) -> str:
        from jinja2.exceptions import TemplateError

        if not self._tokenizer.chat_template:
            raise invalid_request(
                "no_chat_template", "This model has no chat template; use /v1/completions instead."
            )
        try:
            rendered = self._tokenizer.apply_chat_template(
                messages, tools=tools, add_generation_prompt=True, tokenize=False
            )
        except Exception as error:
            # Exactly TemplateError is what a template's own raise_exception("…") gives.
            if type(error) is TemplateError:
                raise invalid_request(
                    "invalid_messages", f"The model refuses this conversation: {error}."
                ) from error
            raise ApiError(
                500,
                "chat_template_failed",
                "server_error",
                f"The model's chat template failed ({type(error).__name__}). Tell your administrator.",
            ) from error
        return str(rendered)


def encode(tokenizer: Tokenizer, text: str, *, special: bool) -> list[int]:
    """Token ids of `text`, which may be long: `Tokenizer.encode` would stop all other threads until it is done."""
    if len(text) < _LONG:
        return list(tokenizer.encode(text, add_special_tokens=special).ids)
    [encoding] = tokenizer.encode_batch([text], add_special_tokens=special)
    return list(encoding.ids)


def _tool(tool: dict[str, Any]) -> dict[str, Any]:
    """A tool with every field, as templates read them without asking whether they are there."""
    function = tool["function"]
    return {
        "type": "function",
        "function": {
            "name": function["name"],
            "description": function.get("description") or "",
            "parameters": function.get("parameters") or NO_PARAMETERS,
        },
    }


def _call(call: dict[str, Any], mask: Mask, style: _CallStyle) -> dict[str, Any]:
    function = call["function"]
    arguments = _masked(json.loads(function["arguments"] or "{}"), mask)
    if style.arguments_as_text:
        arguments = json.dumps(arguments, ensure_ascii=False)
    return {
        "id": mask(call["id"]),
        "type": "function",
        "function": {"name": function["name"], "arguments": arguments},
    }


def _masked(value: Any, mask: Mask) -> Any:
    """`value`, which is JSON, with `mask` applied to each string in it, keys too."""
    if isinstance(value, str):
        return mask(value)
    if isinstance(value, list):
        return [_masked(item, mask) for item in value]
    if isinstance(value, dict):
        return {mask(key): _masked(item, mask) for key, item in value.items()}
    return value
