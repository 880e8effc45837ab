"""The engine's own state of one request, from submission to its last event."""

from __future__ import annotations

from typing import Any

from inference.engine.errors import EngineError
from inference.engine.lookup import Lookup
from inference.engine.request import Request
from inference.engine.sampler import Sampled, Sampler
from inference.engine.stream import Finished, FinishReason, Stream, Token
from inference.engine.text import Detokenizer, StopStrings


class Sequence:
    """Prompt and answer so far. `num_computed_tokens` (keys and values exist) chases `num_tokens`.

    Only the engine's thread touches it, but for `cancelled`, which any thread may set.
    """

    def __init__(
        self,
        request: Request,
        stream: Stream,
        tokenizer: Any,
        eos_token_ids: frozenset[int],
        vocabulary: int,
    ) -> None:
        self.request = request
        self.stream = stream
        self.token_ids = list(request.prompt_token_ids)
        self.num_computed_tokens = 0
        self.num_cached_tokens = 0  # Of the prompt, found in the prefix cache.
        self.block_ids: list[int] = []
        self.draft_ids: list[int] = []
        self.lookup = Lookup()
        # A grammar that is complete allows nothing but the end.
        ignores_end = request.sampling.ignore_eos and request.sampling.grammar is None
        enders = frozenset() if ignores_end else eos_token_ids
        self.sampler = Sampler(request.sampling, request.prompt_token_ids, vocabulary, enders)
        self.cancelled = False
        self.outcome: Finished | EngineError | None = None  # Its last event, once it has ended.
        self.submitted_at = stream.submitted_at
        self._detokenizer = Detokenizer(tokenizer)
        self._stops = StopStrings(request.sampling.stop)
        self._enders = enders | request.sampling.stop_token_ids

    @property
    def tenant(self) -> str:
        return self.request.tenant

    @property
    def priority(self) -> int:
        return self.request.priority

    @property
    def num_tokens(self) -> int:
        return len(self.token_ids)

    @property
    def num_completion_tokens(self) -> int:
        return len(self.token_ids) - len(self.request.prompt_token_ids)

    def accept(self, sampled: Sampled) -> bool:
        """Take a newly chosen token and send what it shows. True when it ended the answer."""
        token = sampled.token
        self.token_ids.append(token)
        if token in self._enders:
            self.finish("stop", self._stops.flush())
            return True
        text, stopped = self._stops.push(self._detokenizer.push(token))
        self.stream.put(Token(token, text, sampled.logprobs))
        if stopped:
            self.finish("stop")
        elif self.num_completion_tokens >= self.request.sampling.max_tokens:
            self.finish("length", self._stops.flush())
        else:
            return False
        return True

    def finish(self, reason: FinishReason, text: str = "") -> None:
        """Settle the last event; the engine sends it once everything the request held is free."""
        self.outcome = Finished(
            reason,
            text,
            prompt_tokens=len(self.request.prompt_token_ids),
            completion_tokens=self.num_completion_tokens,
            cached_tokens=min(self.num_cached_tokens, len(self.request.prompt_token_ids)),
        )
