"""/v1/embeddings: a small encoder beside the language model, loaded when it is first asked for."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.responses import Response
from starlette.types import Receive

from inference.engine.errors import EngineError, InvalidPrompt
from inference.protocol import ApiError, invalid_request, model_not_found
from inference.protocol_text import EmbeddingRequest
from inference.server.answers import error_response, to_api_error, while_connected
from inference.server.metrics import Metrics, outcome_of

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from inference.engine.embedder import Embedder, Vectors
    from inference.models.folder import ModelFolder

logger = logging.getLogger("custos.inference.server")


@dataclass(frozen=True, slots=True)
class EmbeddingModel:
    """What is known of the model before its weights are in memory; `max_tokens` are of one text."""

    name: str
    digest: str
    tokenizer: Tokenizer
    max_tokens: int
    dimensions: int
    folder: ModelFolder


class Embeddings:
    """The embedding model: off, being prepared, failed, or there. Use from one event loop.

    `model` is None until it can be used.
    """

    def __init__(self, option: str, models_dir: Path, metrics: Metrics) -> None:
        self._option = option
        self._models_dir = models_dir
        self._metrics = metrics
        self.model: EmbeddingModel | None = None
        self._failure = ""
        self._loading: asyncio.Future[Embedder] | None = None

    def prepare(self) -> None:
        """Find and verify the model's files, which takes a quarter of a second and no torch. Never raises."""
        from inference.models.folder import prepare
        from inference.models.source import embedder_source

        try:
            source = embedder_source(self._option)
            if source is None:
                return
            folder = prepare(source, self._models_dir)
            config = json.loads((folder.path / "config.json").read_text(encoding="utf-8"))
            self.model = EmbeddingModel(
                name=folder.manifest.name,
                digest=folder.manifest.digest,
                tokenizer=_tokenizer(folder.path),
                max_tokens=config["max_position_embeddings"],
                dimensions=config["hidden_size"],
                folder=folder,
            )
        except Exception as error:  # The language model serves without it; the operator reads why.
            self._failure = f"The embedding model cannot be used: {error}"
            logger.exception("The embedding model %s cannot be used.", self._option)

    def close(self) -> None:
        """End all requests with an error; blocks up to 3 s."""
        loading = self._loading
        if loading is not None and loading.done() and not loading.cancelled() and not loading.exception():
            loading.result().close()

    # --- State ----------------------------------------------------------------------------------

    def entries(self, created: int) -> list[dict[str, Any]]:
        """Its part of /v1/models."""
        if self.model is None:
            return []
        return [
            {
                "id": self.model.name,
                "object": "model",
                "created": created,
                "owned_by": "custos",
                "digest": self.model.digest,
                "max_context": self.model.max_tokens,
                "dimensions": self.model.dimensions,
            }
        ]

    def _checked(self, wire: EmbeddingRequest) -> EmbeddingModel:
        """The model a request names, if it can be asked what it is asked. Raises ApiError."""
        if self._failure:
            raise ApiError(503, "model_failed", "server_error", self._failure)
        if self.model is None and self._option != "none":
            detail = "The embedding model is being prepared."
            raise ApiError(503, "model_loading", "server_error", detail, retry_after=5)
        if self.model is None or wire.model != self.model.name:
            raise model_not_found(wire.model)
        if wire.dimensions not in (None, self.model.dimensions):
            raise invalid_request(
                "invalid_value",
                f"{self.model.name} makes vectors of {self.model.dimensions} dimensions and no others. "
                "Leave dimensions out.",
                "dimensions",
            )
        return self.model

    async def _loaded(self, model: EmbeddingModel) -> Embedder:
        """The running encoder; the first request waits a second or two for it. Raises ApiError."""
        if self._loading is None or (self._loading.done() and self._loading.exception()):
            self._loading = asyncio.ensure_future(asyncio.to_thread(_load, model))
        try:
            return await asyncio.shield(self._loading)  # Others may wait for it, too.
        except Exception as error:
            logger.exception("The embedding model could not be loaded.")
            raise ApiError(503, "model_failed", "server_error", str(error), retry_after=5) from error

    # --- Requests -------------------------------------------------------------------------------

    async def answer(self, wire: EmbeddingRequest, receive: Receive, request_id: str) -> Response:
        """The response to one request; gives up its place in line when the client leaves."""
        response = Response(status_code=499)  # Nobody is there to read it.
        outcome = "cancelled"

        async def work() -> None:
            nonlocal response, outcome
            try:
                response, outcome = await self._embed(wire, request_id), "completed"
            except (ApiError, EngineError) as error:
                refusal = to_api_error(error) if isinstance(error, EngineError) else error
                response, outcome = error_response(refusal), outcome_of(refusal.status)

        try:
            await while_connected(receive, work())
        finally:
            self._metrics.embedding_requests.labels(outcome).inc()
        return response

    async def _embed(self, wire: EmbeddingRequest, request_id: str) -> Response:
        started = time.monotonic()
        model = self._checked(wire)
        embedder = await self._loaded(model)
        inputs = await asyncio.to_thread(_tokens, wire, model)
        try:
            vectors = await asyncio.wrap_future(embedder.submit(inputs))
        except InvalidPrompt as error:
            raise invalid_request(error.code, str(error), "input") from error
        num_tokens = sum(map(len, inputs))
        self._metrics.embedding_tokens.inc(num_tokens)
        logger.info(
            "embeddings request_id=%s texts=%d tokens=%d total_s=%.3f",
            request_id, len(inputs), num_tokens, time.monotonic() - started,
        )  # fmt: skip
        body = await asyncio.to_thread(_body, wire, vectors, num_tokens)  # Up to 98,304 numbers.
        return Response(body, media_type="application/json")


def _tokenizer(folder: Path) -> Tokenizer:
    """Without the padding and truncation the folder may ask for: both are decided here."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def _load(model: EmbeddingModel) -> Embedder:
    from inference.engine.embedder import Embedder
    from inference.models.load import choose_device, load_encoder

    started = time.monotonic()
    embedder = Embedder(load_encoder(model.folder, device=choose_device()))
    logger.info("Model %s is ready after %.1f s.", model.name, time.monotonic() - started)
    return embedder


def _tokens(wire: EmbeddingRequest, model: EmbeddingModel) -> list[list[int]]:
    """Each text's token ids, cut if that was asked for. Raises ApiError."""
    inputs = [_cut(text, wire.truncate_prompt_tokens, model) for text in _encoded(wire, model.tokenizer)]
    for index, ids in enumerate(inputs):
        if len(ids) > model.max_tokens:
            raise invalid_request(
                "context_length_exceeded",
                f"input[{index}] has {len(ids)} tokens, but {model.name} reads at most {model.max_tokens}. "
                "Split the text, or set truncate_prompt_tokens to -1 to have its end ignored.",
                f"input[{index}]",
            )
    return inputs


def _encoded(wire: EmbeddingRequest, tokenizer: Tokenizer) -> list[list[int]]:
    """Token ids as they came, or those of the texts between the model's start and end tokens."""
    texts = [text for text in wire.input if isinstance(text, str)]
    if texts:
        return [encoding.ids for encoding in tokenizer.encode_batch(texts)]
    return [ids for ids in wire.input if isinstance(ids, list)]


def _cut(ids: list[int], keep: int | None, model: EmbeddingModel) -> list[int]:
    """The first `keep` tokens (None: all, -1: as many as fit), of which the end token stays the last."""
    if keep is None:
        return ids
    if keep != -1 and not 3 <= keep <= model.max_tokens:  # A start, an end and one token between them.
        raise invalid_request(
            "invalid_value",
            f"truncate_prompt_tokens must be -1, or 3 to {model.max_tokens}.",
            "truncate_prompt_tokens",
        )
    keep = model.max_tokens if keep == -1 else keep
    return ids if len(ids) <= keep else ids[: keep - 1] + ids[-1:]


def _body(wire: EmbeddingRequest, vectors: Vectors, num_tokens: int) -> bytes:
    """OpenAI's answer; base64 holds little-endian float32."""
    if wire.encoding_format == "base64":
        rows: list[Any] = [base64.b64encode(row.astype("<f4").tobytes()).decode() for row in vectors]
    else:
        rows = vectors.tolist()
    answer = {
        "object": "list",
        "data": [{"object": "embedding", "index": index, "embedding": row} for index, row in enumerate(rows)],
        "model": wire.model,
        "usage": {"prompt_tokens": num_tokens, "total_tokens": num_tokens},
    }
    return json.dumps(answer, separators=(",", ":")).encode()
