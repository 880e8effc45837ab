"""From a conversation to prompt tokens, by the model's own chat template.

The template is code from the model folder: transformers renders it in jinja's
ImmutableSandboxedEnvironment, so it can spoil its own output and nothing else.
"""

from __future__ import annotations

import re
import secrets
from typing import Any

from inference.protocol import ApiError, invalid_request


class ChatTemplate:
    """Renders messages and encodes them. Safe to call from several threads at once."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        # The bare Rust tokenizer: encoding with it changes no state, unlike transformers' wrapper.
        self._encoder = tokenizer.backend_tokenizer
        specials = sorted(set(tokenizer.all_special_tokens) | self._added_specials(), key=len, reverse=True)
        self._specials = re.compile("|".join(map(re.escape, specials))) if specials else None

    def _added_specials(self) -> set[str]:
        added = self._encoder.get_added_tokens_decoder().values()
        return {token.content for token in added if token.special and token.content}

    def encode_text(self, text: str) -> list[int]:
        """A plain completion's prompt: with the model's own start token, if it has one."""
        return self._encoder.encode(text, add_special_tokens=True).ids

    def encode_chat(self, messages: list[dict[str, str]]) -> list[int]:
        """The prompt for the assistant's next turn. Raises ApiError.

        Control tokens written inside a message ("<|im_end|>…") become ordinary characters, so
        that nobody can forge a system turn by typing one.
        """
        nonce = secrets.token_hex(8)
        rendered = self._render([self._mask(message, nonce) for message in messages])
        ids: list[int] = []
        for index, part in enumerate(re.split(rf"\ue000{nonce}:([0-9a-f]*)\ue001", rendered)):
            if index % 2 == 0:
                ids += self._encoder.encode(part, add_special_tokens=False).ids if part else []
            else:
                ids += self._encode_literally(bytes.fromhex(part).decode())
        return ids

    def _mask(self, message: dict[str, str], nonce: str) -> dict[str, str]:
        """Stand a marker in for each control token, which survives the template unchanged."""
        if self._specials is None:
            return message
        content = self._specials.sub(
            lambda found: f"\ue000{nonce}:{found[0].encode().hex()}\ue001", message["content"]
        )
        return {**message, "content": content}

    def _encode_literally(self, text: str) -> list[int]:
        """Token by character: no single character is a control token."""
        return [
            token
            for character in text
            for token in self._encoder.encode(character, add_special_tokens=False).ids
        ]

    def _render(self, messages: list[dict[str, str]]) -> str:
        from jinja2.exceptions import TemplateError

        if not self._tokenizer.chat_template:
            raise invalid_request(
                "no_chat_template", "This model has no chat template; use /v1/completions instead."
            )
        try:
            rendered = self._tokenizer.apply_chat_template(
                messages, add_generation_prompt=True, tokenize=False
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
