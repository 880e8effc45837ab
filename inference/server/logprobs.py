"""Log probabilities in OpenAI's two shapes: the chat's, and the older one of plain completions."""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from inference.engine.sampler import TokenLogprobs

_LEAST = -9999.0  # OpenAI's word for "as good as impossible"; JSON has no -inf.


def _byte_letters() -> dict[str, int]:
    """The letter that byte-level BPE (GPT-2's) writes for each byte: itself if printable, else from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    letters = {chr(byte): byte for byte in printable}
    return letters | {chr(0x100 + number): byte for number, byte in enumerate(others)}


class Vocabulary:
    """What bytes of text a token stands for; a single token may be a part of a character."""

    def __init__(self, tokenizer: Any) -> None:
        self._encoder = tokenizer.backend_tokenizer
        self._added = {id: token.content for id, token in self._encoder.get_added_tokens_decoder().items()}
        self._letters = _byte_letters() if "ByteLevel" in repr(self._encoder.decoder) else None
        self._known: dict[int, bytes] = {}

    def token_bytes(self, token: int) -> bytes:
        """b"" for an id without a token, which padded vocabularies have."""
        if token not in self._known:
            self._known[token] = self._read(token)
        return self._known[token]

    def _read(self, token: int) -> bytes:
        if token in self._added:
            return self._added[token].encode()
        piece = self._encoder.id_to_token(token) or ""
        if self._letters is not None:
            return bytes(self._letters[letter] for letter in piece)
        if len(piece) == 6 and piece.startswith("<0x") and piece.endswith(">"):
            return bytes([int(piece[3:5], 16)])  # SentencePiece's fallback for rare characters.
        return piece.replace("\u2581", " ").encode()


# --- Chat --------------------------------------------------------------------------------------


def chat_logprobs(vocabulary: Vocabulary, found: list[tuple[int, TokenLogprobs]]) -> dict[str, Any]:
    """`logprobs` of a chat choice for some tokens, in the order in which they were generated."""
    content = [
        {
            **_entry(vocabulary, token, logprobs.logprob),
            "top_logprobs": [_entry(vocabulary, *likely) for likely in logprobs.top],
        }
        for token, logprobs in found
    ]
    return {"content": content, "refusal": None}


def _entry(vocabulary: Vocabulary, token: int, logprob: float) -> dict[str, Any]:
    raw = vocabulary.token_bytes(token)
    return {"token": raw.decode(errors="replace"), "logprob": max(logprob, _LEAST), "bytes": list(raw)}


# --- Plain completions -------------------------------------------------------------------------


class LegacyLogprobs:
    """For one choice: knows how much text went before, which `text_offset` counts in characters."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._characters = codecs.getincrementaldecoder("utf-8")("replace")
        self._offset = 0

    def shape(self, found: list[tuple[int, TokenLogprobs]]) -> dict[str, Any]:
        """`logprobs` of a choice for its next tokens."""
        offsets = []
        for token, _ in found:
            offsets.append(self._offset)
            self._offset += len(self._characters.decode(self._vocabulary.token_bytes(token)))
        return {
            "tokens": [self._text(token) for token, _ in found],
            "token_logprobs": [max(logprobs.logprob, _LEAST) for _, logprobs in found],
            "top_logprobs": [
                {self._text(token): max(logprob, _LEAST) for token, logprob in logprobs.top}
                for _, logprobs in found
            ],
            "text_offset": offsets,
        }

    def _text(self, token: int) -> str:
        """A token that is part of a character is written as its bytes, or it would look like any other."""
        raw = self._vocabulary.token_bytes(token)
        try:
            return raw.decode()
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in raw)
