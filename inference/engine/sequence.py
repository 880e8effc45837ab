"""The engine's own state of one request, from submission to its last event."""

from __future__ import annotations

import time
from typing import Any

from inference.engine.errors import EngineError
from inference.engine.request import Request
from inference.engine.sampler import Sampler
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
        self.sampler = Sampler(request.sampling, request.prompt_token_ids, vocabulary)
        self.cancelled = False
        self.outcome: Finished | EngineError | None = None  # Its last event, once it has ended.
        self.submitted_at = time.monotonic()
        self._detokenizer = Detokenizer(tokenizer)
        self._stops = StopStrings(request.sampling.stop)
        self._eos_token_ids = frozenset() if request.sampling.ignore_eos else eos_token_ids

    @property
    def num_tokens(self) -> int:
        return len(self.token_ids)

    @property
    def num_completion_tokens(self) -> int:
        return len(self.token_ids) - len(self.request.prompt_token_ids)

    def accept(self, token: int) -> bool:
        """Take a newly sampled token and send what it shows. True when it ended the answer."""
        self.token_ids.append(token)
        if token in self._eos_token_ids:
            self.finish("stop", self._stops.flush())
            return True
        text, stopped = self._stops.push(self._detokenizer.push(token))
        self.stream.put(Token(token, text))
        if stopped:
            self.finish("stop")
        elif self.num_completion_tokens >= self.request.sampling.max_tokens:
            self.finish("length", self._stops.flush())
        else:
            return False
        return True

    def finish(self, reason: FinishReason, text: str = "") -> None:
        """Settle the last event; the engine sends it once everything the request held is free."""
        prompt_tokens = len(self.request.prompt_token_ids)
        self.outcome = Finished(reason, text, prompt_tokens, self.num_completion_tokens, cached_tokens=0)
