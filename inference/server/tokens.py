"""/tokenize and /detokenize, in vLLM's shapes, for the language model and the embedding model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from inference.models.template import encode
from inference.protocol import invalid_request, model_not_found
from inference.protocol_text import DetokenizeRequest, TokenizeRequest

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from inference.server.service import Service


def tokenize(service: Service, wire: TokenizeRequest) -> dict[str, Any]:
    """The body of the answer. Takes up to a second on long texts, so call it in a thread. Raises ApiError."""
    tokenizer, max_tokens = _of_model(service, wire.model)
    if wire.prompt is not None:
        ids = encode(tokenizer, wire.prompt, special=wire.add_special_tokens is not False)
    else:
        ids = _encode_chat(service, wire)
    strings = [tokenizer.id_to_token(token) for token in ids] if wire.return_token_strs else None
    return {"count": len(ids), "max_model_len": max_tokens, "tokens": ids, "token_strs": strings}


def _encode_chat(service: Service, wire: TokenizeRequest) -> list[int]:
    assert wire.messages is not None
    ready = service.ready()
    if wire.model not in (None, ready.name):
        raise invalid_request(
            "no_chat_template", f"{wire.model} has no chat template; send a prompt.", "messages"
        )
    return ready.template.encode_chat([message.model_dump() for message in wire.messages])


def detokenize(service: Service, wire: DetokenizeRequest) -> dict[str, Any]:
    """The body of the answer; call it in a thread. Raises ApiError."""
    tokenizer, _ = _of_model(service, wire.model)
    size = tokenizer.get_vocab_size(with_added_tokens=True)
    if wire.tokens and max(wire.tokens) >= size:
        raise invalid_request(
            "invalid_value", f"tokens: the model has token ids 0 to {size - 1} only.", "tokens"
        )
    # As a batch of one: `decode` would stop all other threads until it is done.
    [text] = tokenizer.decode_batch([wire.tokens], skip_special_tokens=False)
    return {"prompt": text}


def _of_model(service: Service, name: str | None) -> tuple[Tokenizer, int]:
    """(tokenizer, longest input in tokens) of the model asked for; None asks for the language model."""
    ready = service.ready()
    if name in (None, ready.name):
        return ready.loaded.tokenizer.backend_tokenizer, ready.engine.limits.max_context
    embedding = service.embeddings.model
    if embedding is not None and name == embedding.name:
        return embedding.tokenizer, embedding.max_tokens
    raise model_not_found(str(name))
