"""Stands where nobody answers, so that a request ends as one does whose server is away: recorded, with an error."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

from inference.client import Event, InferenceClient, InferenceUnavailable


class Nowhere(InferenceClient):
    def __init__(self) -> None:
        super().__init__("")

    async def stream_chat(self, request: dict[str, Any], **facts: Any) -> AsyncGenerator[Event, None]:
        raise _nobody()
        yield  # An asynchronous generator, as the one of a server.

    stream_completion = stream_chat
    stream_embeddings = stream_chat

    async def tokenize(self, request: dict[str, Any], *, tenant: str = "") -> dict[str, Any]:
        raise _nobody()

    detokenize = tokenize


def _nobody() -> InferenceUnavailable:
    return InferenceUnavailable("No instance of this deployment is running. Try again in a minute.")
